"""Seeded clients of a simulated cluster: objects. What they see goes to a History.

Uploads are in uploads.py, buckets that come and go in buckets.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from math import inf

from objstore.engine.engine import Engine
from objstore.engine.types import ALWAYS, ObjectInfo, ObjectPage, WriteCondition
from objstore.model.errors import (
    BucketAlreadyExists,
    GivenUp,
    NoSuchKey,
    ObjstoreError,
    PreconditionFailed,
    Unavailable,
)
from tests.sim.cluster import Gone, SimCluster
from tests.sim.history import History
from tests.sim.linearize import Op

KEYS = ("a/x", "b", "a/y", "c/z")
COUNTER = "counter"
SIZES = (10, 3000, 20_000, 90_000, 200_000)
UNKNOWN = (Unavailable, Gone, TimeoutError)  # it may have happened, or happen yet
REFUSED = (PreconditionFailed, NoSuchKey)
ACTIONS = ("put",) * 6 + ("get",) * 5 + ("delete",) * 2 + ("list",) * 2 + ("count",) * 2 + ("copy",)


async def body(data: bytes, pause_s: float = 0.0, step: int = 30_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        if pause_s:
            await asyncio.sleep(pause_s)
        yield data[at : at + step]


async def read_all(engine: Engine, info: ObjectInfo, offset: int = 0, length: int | None = None) -> bytes:
    size = info.size - offset if length is None else length
    return b"".join([bytes(piece) async for piece in engine.read(info, offset, size)])


@dataclass
class Workload:
    """Clients work on a few keys through all gateways until each has done its operations."""

    cluster: SimCluster
    keys: int = 3
    clients: int = 4
    operations: int = 12  # per client
    pause_s: float = 0.5
    quiet: bool = False  # nothing may fail
    bucket: str = "bucket"
    history: History = field(init=False)
    left: list[tuple[str, str, list[bytes]]] = field(default_factory=list)  # open uploads: key, name, parts
    ghosts: set[str] = field(default_factory=set)  # ETags refused because their bucket was gone (buckets.py)
    _known: dict[str, str] = field(default_factory=dict)  # key -> an ETag that somebody saw

    def __post_init__(self) -> None:
        self.history = History(self.cluster)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(self.clients):
                group.create_task(self._client(client))

    async def _client(self, client: int) -> None:
        random = self.cluster.random
        for _ in range(self.operations):
            await asyncio.sleep(random.uniform(0, self.pause_s))
            await self.step(await self.gateway())

    async def gateway(self) -> str:
        """One that serves; waits until there is one."""
        while not self.cluster.ready:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        return self.cluster.random.choice(list(self.cluster.ready))

    async def step(self, gateway: str) -> None:
        random = self.cluster.random
        key = KEYS[random.randrange(self.keys)]
        match random.choice(ACTIONS):
            case "put":
                await self.put(gateway, key)
            case "get":
                await self.get(gateway, key)
            case "delete":
                await self.delete(gateway, key)
            case "list":
                await self.list(gateway)
            case "count":
                await self.count(gateway)
            case "copy":
                await self.copy(gateway, key)

    def _record(self, key: str, op: Op) -> None:
        self.history.add(f"key {key}", op)

    def _condition(self, key: str) -> str:
        """As `Op.condition`."""
        choice = self.cluster.random.choice(("", "", "", "absent", "present", "etag"))
        return self._known.get(key, "present") if choice == "etag" else choice

    def _failed(self, what: str, error: BaseException) -> None:
        """An operation ended without an answer."""
        self.history.failed += 1
        if self.quiet and not isinstance(error, TimeoutError):
            self.history.complain(f"{what} failed though nothing went wrong: {error!r}")

    async def put(self, gateway: str, key: str, data: bytes | None = None, condition: str | None = None) -> bool:
        """True if it was acknowledged."""
        random, history = self.cluster.random, self.history
        data = random.randbytes(random.choice(SIZES)) if data is None else data
        condition = self._condition(key) if condition is None else condition
        pause_s = random.choice((0.0, 0.0, 0.0, 0.05, 1.0))
        patience_s = random.choice((0.01, 0.1, 1.0)) if random.random() < 0.15 else None
        etag, start = history.body(data), history.now()

        async def operation(engine: Engine) -> ObjectInfo:
            return await engine.put_object(
                self.bucket, key, body(data, pause_s), len(data), {}, condition=write_condition(condition)
            )

        try:
            async with asyncio.timeout(patience_s):
                await history.run("put", gateway, operation)
        except REFUSED:
            self._record(key, Op("write", start, history.now(), etag, condition, ok=False))
        except GivenUp:
            pass  # it took so long that its fragments were taken for orphans
        except UNKNOWN as error:
            self._failed(f"put to {key}", error)
            self._record(key, Op("write", start, inf, etag, condition))
        except ObjstoreError as error:
            history.complain(f"put to {key}: unexpected {error!r}")
        else:
            self._record(key, Op("write", start, history.now(), etag, condition))
            self._known[key] = etag
            return True
        return False

    async def delete(self, gateway: str, key: str) -> None:
        history, condition, start = self.history, self._condition(key), self.history.now()

        async def operation(engine: Engine) -> bool:
            did = await engine.delete_object(self.bucket, key, condition=write_condition(condition))
            return bool(did.version_id)

        try:
            found = await history.run("delete", gateway, operation)
        except REFUSED:
            self._record(key, Op("write", start, history.now(), None, condition, ok=False))
        except UNKNOWN as error:
            self._failed(f"delete of {key}", error)
            self._record(key, Op("write", start, inf, None, condition))
        except ObjstoreError as error:
            history.complain(f"delete of {key}: unexpected {error!r}")
        else:
            self._record(key, Op("write", start, history.now(), None, condition, found=found))

    async def head(self, gateway: str, key: str) -> ObjectInfo | None:
        """Recorded. None: there is none, or no answer."""
        history, start = self.history, self.history.now()

        async def operation(engine: Engine) -> ObjectInfo | None:
            try:
                return await engine.head_object(self.bucket, key)
            except NoSuchKey:
                return None

        try:
            info = await history.run("get", gateway, operation)
        except UNKNOWN as error:
            self._failed(f"head of {key}", error)
            return None
        except ObjstoreError as error:
            history.complain(f"head of {key}: unexpected {error!r}")
            return None
        self._record(key, Op("read", start, history.now(), info.etag if info else None))
        if info is not None:
            self._known[key] = info.etag
        return info

    async def get(self, gateway: str, key: str) -> bytes | None:
        """The whole body or a range of it, compared with what was sent."""
        random, history = self.cluster.random, self.history
        info = await self.head(gateway, key)
        if info is None:
            return None
        offset, length = 0, info.size
        if random.random() < 0.3:
            offset = random.randint(0, info.size)
            length = random.randint(0, info.size - offset)
        try:
            data = await history.run("get", gateway, lambda engine: read_all(engine, info, offset, length))
        except (*UNKNOWN, NoSuchKey):
            return None  # it may have been replaced meanwhile, or too few nodes answer
        except ObjstoreError as error:
            history.complain(f"get of {key}: unexpected {error!r}")
            return None
        if data != history.contents[info.etag][offset : offset + length]:
            history.complain(f"{key}: wrong bytes {offset}+{length} of {info.size} with ETag {info.etag}")
        return data

    async def copy(self, gateway: str, key: str) -> None:
        """Read one key, write the same bytes to another."""
        info = await self.head(gateway, key)
        if info is None:
            return
        try:
            data = await self.history.run("get", gateway, lambda engine: read_all(engine, info))
        except (*UNKNOWN, NoSuchKey):
            return
        await self.put(gateway, KEYS[self.cluster.random.randrange(self.keys)], data)

    async def count(self, gateway: str) -> None:
        """Compare and swap: nobody may count from a value that is not the newest."""
        info = await self.head(gateway, COUNTER)
        if info is None:
            number, condition = 0, "absent"
        else:
            try:
                text = await self.history.run("get", gateway, lambda engine: read_all(engine, info))
            except UNKNOWN:
                return
            number, condition = int(text.split()[0]), info.etag
        unique = self.cluster.random.randbytes(6).hex()
        await self.put(gateway, COUNTER, f"{number + 1} {unique}".encode(), condition)

    async def list(self, gateway: str) -> None:
        """Pages; every key that a page covers is a read between its start and its end."""
        random, history = self.cluster.random, self.history
        prefix, delimiter = random.choice(("", "", "a/", "c")), random.choice(("", "", "/"))
        limit = random.choice((1, 2, 1000))
        after = ""
        for _ in range(8):
            start = history.now()

            async def operation(engine: Engine, after: str = after) -> ObjectPage:
                return await engine.list_objects(
                    self.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
                )

            try:
                page = await history.run("list", gateway, operation)
            except UNKNOWN as error:
                self._failed("list", error)
                return
            except ObjstoreError as error:
                history.complain(f"list: unexpected {error!r}")
                return
            self._page(page, start, prefix, delimiter, after)
            if not page.truncated:
                return
            after = page.next_after

    def _page(self, page: ObjectPage, start: float, prefix: str, delimiter: str, after: str) -> None:
        listed = {entry.key: entry.etag for entry in page.entries}
        end = self.history.now()
        beyond = after + "\U0010ffff" if delimiter and after.endswith(delimiter) else after
        for key in (*KEYS[: self.keys], COUNTER):
            rolled_up = delimiter and delimiter in key[len(prefix) :]
            if not key.startswith(prefix) or key <= beyond or (page.truncated and key > page.next_after) or rolled_up:
                if key in listed:
                    self.history.complain(f"the page after {after!r} of prefix {prefix!r} must not have {key}")
                continue
            self._record(key, Op("read", start, end, listed.get(key)))

    async def final_reads(self) -> None:
        """After everything healed every key can be read through every gateway, with the same answer."""
        for key in (*KEYS[: self.keys], COUNTER):
            for gateway in list(self.cluster.ready):
                failed = self.history.failed
                info = await self.head(gateway, key)
                if self.history.failed > failed:
                    self.history.complain(f"{key} cannot be looked up at the end through {gateway}")
                if info is None:
                    continue
                try:
                    data = await self.history.run("get", gateway, lambda engine, info=info: read_all(engine, info))  # type: ignore[misc]
                except (*UNKNOWN, ObjstoreError) as error:
                    self.history.complain(f"{key} cannot be read at the end through {gateway}: {error!r}")
                    continue
                if data != self.history.contents[info.etag]:
                    self.history.complain(f"{key} came back with wrong bytes at the end")


def write_condition(condition: str) -> WriteCondition:
    match condition:
        case "":
            return ALWAYS
        case "absent":
            return WriteCondition(if_none_match="*")
        case "present":
            return WriteCondition(if_match="*")
        case etag:
            return WriteCondition(if_match=etag)


async def make_bucket(cluster: SimCluster, name: str) -> None:
    """Until it is there: the network may be lossy already."""
    while True:
        try:
            await cluster.engines[0].create_bucket(name)
        except BucketAlreadyExists:
            return  # an earlier try whose answer was lost
        except Unavailable:
            await asyncio.sleep(0.5)
        else:
            return
