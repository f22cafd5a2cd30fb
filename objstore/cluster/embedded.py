"""The embedded coordinator: one process, the pure store of `store.py` over a key-value file, spoken to by RPC.

For one machine, tests and trials; with it gone the data path goes on and only topology stands still (P7).
Invariants:

- what a reply says about a persistent key was durable before the reply left;
- a revision or lease id that anybody may have seen is never given out again, restarts included: a ceiling for
  both is durable before it is passed;
- one change at a time (`_lock`): planned, made durable, applied; so no reader sees what a crash could undo;
- a change that began ends, whatever happens to the connection that asked for it;
- the cluster's identity and map outlive the store: they are in a plain file too (`mirror.py`), written first.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from objstore.cluster.mirror import FILE, KEPT, Kept, Mirror
from objstore.cluster.port import CLUSTER_KEY, Entry
from objstore.cluster.store import Change, CoordinatorStore
from objstore.model import limits
from objstore.model.errors import Fatal, InsufficientStorage, InvalidRequest, Overloaded, Unavailable, WireError
from objstore.ports import KV, Buffer, Clock, Disk, Random, Transport, Write
from objstore.wire import messages as msg

log = logging.getLogger(__name__)

TABLE = "co"
KEY_BYTES_MAX = 500
VALUE_BYTES_MAX = 16 * 1024 * 1024
WATCHES_MAX = 4096
RETRY_S = 1.0
RESERVE = 4096  # numbers made durable at a time

_ENTRY, _ENTRY_END = b"k", b"l"  # "k" + key: revision (8 bytes), value
_CEILING = b"m/ceiling"  # highest revision or lease id that may have been given out
_TTL = b"m/ttl"  # the longest lease ever granted, in seconds


R = TypeVar("R")


class CoordinatorService:
    """Answers the Co messages. Made by `open_coordinator`.

    `broken` gets a result when the data could not be written: the process must then stop.
    """

    def __init__(self, kv: KV, clock: Clock, store: CoordinatorStore, kept: Kept, mirror: Mirror | None) -> None:
        self._kv = kv
        self._clock = clock
        self._store = store
        self._kept = kept
        self._mirror = mirror
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[msg.Reply]] = set()
        self._changed = asyncio.Event()  # replaced at every change
        self._granted = asyncio.Event()
        self._watches = 0
        self._ticker = asyncio.create_task(self._expire_in_time(), name="coordinator leases")
        self.broken: asyncio.Future[Fatal] = asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        async with self._lock:  # a commit in flight ends first
            self._kv.close()

    def begin(self, request: msg.Request, payload: bytes | memoryview) -> None:
        """A coordinator is asked little: every request has its task."""

    async def handle(self, request: msg.Request, payload: bytes | memoryview) -> tuple[msg.Reply, Buffer]:
        now = self._clock.monotonic()
        match request:
            case msg.CoGet(key):
                await self._expire(now)
                found = self._store.get(key)
                reply: msg.Reply = _entries([found] if found else [], self._store.revision)
            case msg.CoRange(prefix):
                await self._expire(now)
                reply = _entries(self._store.range(prefix), self._store.revision)
            case msg.CoWatch(prefix, after, timeout_s):
                await self._expire(now)
                reply = await self._watch(prefix, after, timeout_s)
            case msg.CoPut():
                reply = await self._to_the_end(self._put(request, now))
            case msg.CoDelete(key, expected):
                reply = await self._to_the_end(self._delete(key, expected, now))
            case msg.CoGrant(ttl_s):
                reply = await self._to_the_end(self._grant(ttl_s, now))
            case msg.CoRevoke(lease):
                reply = await self._to_the_end(self._revoke(lease))
            case msg.CoKeepAlive(lease):
                reply = msg.CoResult(self._store.keep_alive(lease, now))  # never waits for a slow disk
            case msg.Ping():
                reply = msg.Pong("coordinator", "coordinator", "")
            case _:
                raise InvalidRequest(f"a coordinator does not answer {type(request).__name__}")
        return reply, b""

    async def _to_the_end(self, change: Coroutine[Any, Any, msg.Reply]) -> msg.Reply:
        """Were it cancelled between the disk and the memory, the two would differ."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    # --- changes, one at a time ---

    async def _put(self, put: msg.CoPut, now: float) -> msg.Reply:
        length = len(put.key.encode())
        if not 0 < length <= KEY_BYTES_MAX:
            raise InvalidRequest(f"a coordinator key has 1 to {KEY_BYTES_MAX} bytes; this one has {length}")
        if len(put.value) > VALUE_BYTES_MAX:
            raise InvalidRequest(f"the value of {put.key!r} has {len(put.value)} bytes; at most {VALUE_BYTES_MAX} fit")
        async with self._lock:
            await self._expire_locked(now)
            change = self._store.plan_put(put.key, put.value, lease=put.lease, expected=put.expected, now=now)
            return await self._commit(change)

    async def _delete(self, key: str, expected: int | None, now: float) -> msg.Reply:
        async with self._lock:
            await self._expire_locked(now)
            return await self._commit(self._store.plan_delete(key, expected=expected))

    async def _grant(self, ttl_s: float, now: float) -> msg.Reply:
        async with self._lock:
            if ttl_s > self._kept.ttl_max_s:
                await self._write([(TABLE, _TTL, msgspec.msgpack.encode(ttl_s))], numbers=1, ttl_max_s=ttl_s)
            else:
                await self._write([], numbers=1)
            lease = self._store.grant(ttl_s, now)
            self._granted.set()
            return msg.CoResult(True, lease)

    async def _revoke(self, lease: int) -> msg.Reply:
        async with self._lock:
            await self._write([], numbers=self._store.keys_under(lease))
            if self._store.revoke(lease):
                self._wake()
            return msg.Ok()

    async def _commit(self, change: Change | None) -> msg.CoResult:
        if change is None:
            return msg.CoResult(False)
        writes: list[Write] = []
        if change.persistent:
            entry = change.entry
            lasting = None if entry is None or entry.lease else entry.revision.to_bytes(8, "big") + entry.value
            writes.append((TABLE, _ENTRY + change.key.encode(), lasting))
        await self._write(writes, numbers=1)
        self._store.apply(change)
        self._wake()
        return msg.CoResult(True, change.revision)

    async def _write(self, writes: list[Write], *, numbers: int, ttl_max_s: float = 0.0) -> None:
        """Make these durable, and a new ceiling if the next `numbers` revisions would pass the present one."""
        ceiling = self._kept.ceiling
        if self._store.revision + numbers > ceiling:
            ceiling = self._store.revision + numbers + RESERVE
            writes = [*writes, (TABLE, _CEILING, ceiling.to_bytes(8, "big"))]
        if not writes:
            return
        if self.broken.done():
            raise Unavailable(f"this coordinator has stopped serving: {self.broken.result()}")
        kept = Kept(ceiling, max(ttl_max_s, self._kept.ttl_max_s), _kept_rows(self._kept.rows, writes))
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._store_both, kept, writes)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise InsufficientStorage(f"the disk of the coordinator is full ({error}); free some space") from error
            fatal = Fatal(f"the coordinator cannot write its data ({error}) and stops; what it confirmed is safe")
            self.broken.set_result(fatal)
            raise Unavailable(str(fatal)) from error
        self._kept = kept

    def _store_both(self, kept: Kept, writes: list[Write]) -> None:
        """Blocking. The file first: it may be ahead of the store by a change that nobody was told of, never behind."""
        if self._mirror is not None:
            self._mirror.save(kept)
        try:
            self._kv.commit(writes)
        except OSError:
            if self._mirror is not None:
                with contextlib.suppress(OSError):  # the next change, or the next start, puts it right
                    self._mirror.save(self._kept)
            raise

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- time ---

    async def _expire(self, now: float) -> None:
        due = self._store.next_expiry()
        if due is not None and due <= now:
            async with self._lock:
                await self._expire_locked(now)

    async def _expire_locked(self, now: float) -> None:
        await self._write([], numbers=self._store.keys_due(now))
        if self._store.expire(now):
            self._wake()

    async def _expire_in_time(self) -> None:
        """Ends leases also when nobody asks, so that watches hear of it."""
        while True:
            self._granted.clear()
            due = self._store.next_expiry()
            pause = None if due is None else max(0.01, due - self._clock.monotonic())
            try:
                async with asyncio.timeout(pause):
                    await self._granted.wait()
            except TimeoutError:
                try:
                    await self._expire(self._clock.monotonic())
                except Unavailable as error:
                    log.error("leases that are over cannot be ended now: %s", error)
                    await asyncio.sleep(RETRY_S)

    async def _watch(self, prefix: str, after: int, timeout_s: float) -> msg.Reply:
        if self._watches >= WATCHES_MAX:
            raise Overloaded(f"the coordinator serves {WATCHES_MAX} watches at a time; ask again later")
        self._watches += 1
        try:
            async with asyncio.timeout(timeout_s):
                while (newest := self._store.newest(prefix, after)) == after:
                    await self._changed.wait()
        except TimeoutError:
            newest = after
        finally:
            self._watches -= 1
        return msg.CoResult(True, newest)


def _entries(entries: list[Entry], revision: int) -> msg.CoEntries:
    return msg.CoEntries(
        [entry.key for entry in entries],
        [entry.value for entry in entries],
        [entry.revision for entry in entries],
        revision,
        [entry.lease for entry in entries],
    )


async def open_coordinator(
    kv: KV, clock: Clock, random: Random, *, name: str, disk: Disk | None = None, cluster_id: str = ""
) -> CoordinatorService:
    """Load the state. The very first start also makes the cluster's identity, `name` is what people call it.

    disk: the folder of the plain file beside the store. cluster_id: for a first start, when this coordinator takes the
    place of one that was lost with all its data."""
    mirror = Mirror(disk) if disk is not None else None
    kept, entries = await asyncio.get_running_loop().run_in_executor(None, _load, kv, mirror)
    store = CoordinatorStore(kept.ceiling, entries, claims_from=clock.monotonic() + kept.ttl_max_s)
    service = CoordinatorService(kv, clock, store, kept, mirror)
    found = store.get(CLUSTER_KEY)
    if found is None:
        identity = json.dumps({"id": cluster_id or random.bytes(16).hex(), "name": name}).encode()
        await service.handle(msg.CoPut(CLUSTER_KEY, identity, expected=0), b"")
    elif cluster_id and json.loads(found.value)["id"] != cluster_id:
        await service.close()
        raise Fatal(
            f"this coordinator holds the cluster {json.loads(found.value)['id']}, but coordinator.cluster_id says "
            f"{cluster_id}: give it an empty folder to take the place of that cluster's coordinator, or leave it away"
        )
    return service


def _load(kv: KV, mirror: Mirror | None) -> tuple[Kept, list[Entry]]:
    """Blocking. What is in the store; from the file beside it where the store was lost."""
    if kv.get(TABLE, _ENTRY + CLUSTER_KEY.encode()) is None and mirror is not None:
        mirror.load()
        if mirror.kept is not None and CLUSTER_KEY in mirror.kept.rows:
            log.warning("the store of this coordinator was lost; the cluster and its map are taken from %s", FILE)
            writes: list[Write] = [(TABLE, _ENTRY + key.encode(), row) for key, row in mirror.kept.rows.items()]
            writes.append((TABLE, _CEILING, mirror.kept.ceiling.to_bytes(8, "big")))
            writes.append((TABLE, _TTL, msgspec.msgpack.encode(mirror.kept.ttl_max_s)))
            kv.commit(writes)
    raw_ceiling, raw_ttl = kv.get(TABLE, _CEILING), kv.get(TABLE, _TTL)
    rows = {bytes(key[1:]).decode(): bytes(row) for key, row in kv.scan(TABLE, _ENTRY, _ENTRY_END)}
    kept = Kept(
        int.from_bytes(raw_ceiling or b"", "big"),
        msgspec.msgpack.decode(raw_ttl, type=float) if raw_ttl else 0.0,
        {key: row for key, row in sorted(rows.items()) if key in KEPT},
    )
    if mirror is not None and CLUSTER_KEY in kept.rows:
        mirror.save(kept)
    return kept, [Entry(key, row[8:], int.from_bytes(row[:8], "big")) for key, row in rows.items()]


def _kept_rows(rows: dict[str, bytes], writes: list[Write]) -> dict[str, bytes]:
    """`rows` after these writes."""
    after = dict(rows)
    for _, place, row in writes:
        key = place[1:].decode(errors="replace")
        if place.startswith(_ENTRY) and key in KEPT:
            after.pop(key, None)
            if row is not None:
                after[key] = row
    return dict(sorted(after.items()))


class RemoteCoordinator:
    """The `Coordinator` port, spoken over RPC to a CoordinatorService. The transport is the caller's."""

    def __init__(self, transport: Transport, address: str, *, timeout_s: float = limits.RPC_TIMEOUT_S) -> None:
        self.address = address
        self._transport = transport
        self._timeout_s = timeout_s

    async def get(self, key: str) -> Entry | None:
        found = _rows(await self._call(msg.CoGet(key), msg.CoEntries))
        return found[0] if found else None

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        reply = await self._call(msg.CoRange(prefix), msg.CoEntries)
        return _rows(reply), reply.revision

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        reply = await self._call(msg.CoPut(key, value, lease, expected), msg.CoResult)
        return reply.number if reply.done else None

    async def delete(self, key: str, *, expected: int | None = None) -> bool:
        return (await self._call(msg.CoDelete(key, expected), msg.CoResult)).done

    async def grant(self, ttl_s: float) -> int:
        return (await self._call(msg.CoGrant(ttl_s), msg.CoResult)).number

    async def keep_alive(self, lease: int) -> bool:
        return (await self._call(msg.CoKeepAlive(lease), msg.CoResult)).done

    async def revoke(self, lease: int) -> None:
        await self._call(msg.CoRevoke(lease), msg.Ok)

    async def watch(self, prefix: str, after_revision: int, timeout_s: float) -> int:
        request = msg.CoWatch(prefix, after_revision, timeout_s)
        return (await self._call(request, msg.CoResult, extra_s=timeout_s)).number

    async def close(self) -> None:
        """Nothing of its own to close."""

    async def _call(self, request: msg.Request, kind: type[R], *, extra_s: float = 0.0) -> R:
        reply, _ = await self._transport.call(self.address, request, timeout_s=self._timeout_s + extra_s)
        if not isinstance(reply, kind):
            raise WireError(f"{self.address} answered {type(request).__name__} with {type(reply).__name__}")
        return reply


def _rows(reply: msg.CoEntries) -> list[Entry]:
    return list(map(Entry, reply.keys, reply.values, reply.revisions, reply.leases))
