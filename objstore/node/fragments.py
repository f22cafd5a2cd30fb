"""The fragments of a node: envelopes in volumes, found through the index.

A fragment is immutable. It becomes visible with one commit, after its envelope was verified and made durable; it
goes with one commit, and its space is given back afterwards. Between request and commit an extent belongs to the
request, then to the `settled` call of the commit, so a cancelled request leaks nothing.

Changes of one fragment follow each other (`objstore.node.claims`); different fragments never wait for each other.
What a read returns is not verified: the reader does that (P4).
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from objstore.codec.envelope import EnvelopeHeader, decode_header, fragment_of, shape_of, verify_body
from objstore.model import limits
from objstore.model.errors import Corrupt, InvalidRequest, NotFound, ObjstoreError
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.budget import PayloadBudget
from objstore.node.claims import Claim, Claims
from objstore.node.commit import SHORTAGES, GroupCommit, shortage
from objstore.node.index import FRAGMENT_BYTES, Held, Stray
from objstore.node.quarantine import Bounds, Copy, overdue
from objstore.node.space import Space
from objstore.node.stored import AS_IT_IS, READ_BYTES, Damage, How, find_damage
from objstore.node.toll import Toll
from objstore.node.trimming import TrimFence
from objstore.node.volumes import Extent, Volumes, is_beyond, volume_path
from objstore.ports import KV, Buffer, Clock, Write
from objstore.wire.messages import (
    FragDelete,
    FragHead,
    FragList,
    FragListed,
    FragLocate,
    FragLocated,
    FragPut,
    FragRead,
    FragVerify,
    Ok,
    Reply,
)

logger = logging.getLogger(__name__)

INLINE_IO_MAX = 64 * limits.KIB  # below, a read or write of the page cache is cheaper than a thread
WRITTEN_LATER_MAX = 2 * limits.MIB  # up to here the thread that commits writes too: a thread of its own costs more
DELETE_BATCH = 512
LOST_BATCH = 512

T = TypeVar("T")


class Before(NamedTuple):
    """What was stored under the id of an arriving fragment."""

    held: Held | None
    damage: Damage | None  # why it is not sound, as far as that was looked at
    is_same: bool  # sound, and as long as the new one


_Answer = tuple[Reply, Buffer]


class FragmentStore:
    def __init__(
        self,
        kv: KV,
        volumes: Volumes,
        commits: GroupCommit,
        space: Space,
        clock: Clock,
        cluster_id: str,
        partitions: int,
    ) -> None:
        self._kv = kv
        self._volumes = volumes
        self._commits = commits
        self._clock = clock
        self._cluster_id = cluster_id
        self._trims = TrimFence(kv, commits)
        self.claims = Claims()
        self.space = space
        self.toll = Toll()
        self.budget = PayloadBudget()
        self.partitions = partitions
        self.changes = array("Q", bytes(8 * partitions))
        self.count = 0
        self._lost: dict[int, int | None] = {}  # what is left of volumes whose fragments are not looked through yet

    def recover(self) -> None:
        """Blocking, once, at start: what is kept in memory, from the index.

        Fragments whose volume is gone or cut short go to quarantine first, so that nobody counts on them.
        """
        self._trims.recover()
        sizes = self._volumes.sizes()

        def is_lost(extent: Extent) -> bool:
            return is_beyond(extent, sizes.get(extent.volume))

        if any(is_lost(extent) for extent in index.extents(self._kv)):
            lost = 0
            strays = index.strays(self._kv, is_lost)
            while batch := list(islice(strays, LOST_BATCH)):
                self._kv.commit(self._losing(batch, sizes))
                for stray in batch:
                    if stray.table == index.FRAG:
                        self.changes[stray.held.partition] += 1
                        lost += 1
            logger.error("%d fragments lay in volumes that are gone or cut short, and are now in quarantine", lost)
        self.count = sum(1 for _ in index.rows_of(self._kv, index.FRAG))
        self.toll.recover(self._kv)
        self._volumes.recover(index.extents(self._kv))

    # --- adding --------------------------------------------------------------------------------------------

    async def put(self, request: FragPut, payload: Buffer) -> _Answer:
        fragment, length = request.fragment, len(payload)
        self.check_partition(request.partition, fragment)
        header, header_length = decode_header(payload)
        self.check_header(header, header_length, fragment, length)
        body = memoryview(payload)[header_length:]
        async with self.budget.hold(length), self.claims.hold(fragment) as claim:
            before = await self.examine(fragment, length)
            if before.is_same:
                await on_disk(length, lambda: verify_body(header, body))
                return Ok(), b""
            later = length <= WRITTEN_LATER_MAX
            if later:
                verify_body(header, body)
            extent = self.reserve(length, backfill=request.backfill)
            try:
                if not later:
                    await self.write(extent, payload, 0, lambda: verify_body(header, body))
                held = Held(request.partition, extent, header_length, header.created_ms)
                done = self.add(fragment, held, before, claim)
            except BaseException:
                self.abandon(extent)
                raise
            if later:
                self._volumes.write_later(extent, payload)
            await done  # within the budget: the payload may not be written before
        return Ok(), b""

    def check_partition(self, partition: int, fragment: bytes = b"") -> None:
        if partition >= self.partitions:
            raise InvalidRequest(f"partition {partition} does not exist: this cluster has {self.partitions}")
        if fragment and (home := index.partition_of(fragment, self.partitions)) != partition:
            raise InvalidRequest(f"{_name(fragment)} belongs to partition {home}, the request says {partition}")

    def check_header(self, header: EnvelopeHeader, header_length: int, fragment: bytes, length: int) -> None:
        """The envelope is what the request says it is, and as long as its own header says."""
        if header.cluster_id != self._cluster_id:
            raise Corrupt(f"the envelope belongs to cluster {header.cluster_id}, this node to {self._cluster_id}")
        if fragment_of(header).pack() != fragment:
            raise Corrupt(f"the envelope holds {_name(fragment_of(header).pack())}, the request says {_name(fragment)}")
        expected = header_length + shape_of(header).body_length(header.shard)
        if expected != length:
            raise Corrupt(f"the envelope should have {expected} bytes by its header, but {length} were announced")

    async def examine(self, fragment: bytes, length: int) -> Before:
        """What is stored under that id, and whether it makes a new envelope of that length needless."""
        held = index.find(self._kv, fragment)
        if held is None or held.extent.length != length:
            return Before(held, None, False)
        damage = await self._damage(fragment, held)
        return Before(held, damage, damage is None)

    def add(self, fragment: bytes, held: Held, before: Before, claim: Claim) -> asyncio.Future[None]:
        """Queue the commit that makes a written envelope visible. One that it replaces is freed, or goes to
        quarantine if it was damaged."""
        old = before.held
        writes: list[Write] = []
        if old is not None and before.damage is not None:
            logger.error("%s was %s (%s) and is replaced", _name(fragment), *before.damage)
            writes += index.quarantining(fragment, old, before.damage.text, self._clock.wall_ms())
        elif old is not None:
            writes += index.removing(fragment, old)
        writes += index.adding(fragment, held)

        def settled(error: ObjstoreError | None) -> None:
            claim.release()
            if error is not None:
                self.abandon(held.extent)
                return
            self._volumes.keep(held.extent)
            self.toll.settle([fragment])
            self.changes[held.partition] += 1
            if old is None:
                self.count += 1
            elif before.damage is None:
                self._give_back([old.extent], kept=True)

        done = self._commits.submit(writes, volumes=(held.extent.volume,), settled=settled)
        claim.hand_over()
        return done

    def abandon(self, extent: Extent) -> None:
        """Free an extent that was reserved and never became visible."""
        self._give_back([extent], kept=False)

    def reserve(self, length: int, *, backfill: bool = False) -> Extent:
        self.space.need_for_fragment(length, backfill=backfill)
        try:
            return self._volumes.reserve(length)
        except OSError as error:  # a new volume could not be created
            raise self._commits.failed(error) from error

    async def write(self, extent: Extent, data: Buffer, offset: int, check: Callable[[], None]) -> None:
        """Verify with `check`, then write into the extent; off the loop when it is large."""
        try:
            file = self._volumes.file(extent.volume)

            def job() -> None:
                check()
                file.pwrite(data, extent.offset + offset)

            await on_disk(len(data), job)
        except OSError as error:
            raise self._commits.failed(error) from error

    # --- reading -------------------------------------------------------------------------------------------

    async def head(self, request: FragHead, payload: Buffer) -> _Answer:
        held = self._find(request.fragment)
        return Ok(), await self._read(request.fragment, held, 0, held.header_length)

    async def read(self, request: FragRead, payload: Buffer) -> _Answer:
        held = self._find(request.fragment)
        body = held.extent.length - held.header_length
        if request.offset + request.length > body:
            raise InvalidRequest(
                f"bytes {request.offset}+{request.length} of {_name(request.fragment)} do not exist: it has {body}"
            )
        if request.length > limits.RPC_PAYLOAD_BYTES_MAX:
            raise InvalidRequest(f"one read has at most {limits.RPC_PAYLOAD_BYTES_MAX} bytes, not {request.length}")
        start = held.header_length + request.offset
        if request.length < INLINE_IO_MAX:
            return Ok(), await self._read(request.fragment, held, start, request.length)
        if (cached := self._read_cached(held, start, request.length)) is not None:
            return Ok(), cached
        async with self.budget.hold(request.length):
            return Ok(), await self._read(request.fragment, held, start, request.length)

    async def locate(self, request: FragLocate, payload: Buffer) -> _Answer:
        if request.segment >= 1 << 32:
            raise InvalidRequest(f"segment {request.segment} is not a segment number")
        return FragLocated(index.shards_of(self._kv, request.blob, request.segment)), b""

    async def list(self, request: FragList, payload: Buffer) -> _Answer:
        self.check_partition(request.partition)
        found, lengths, more = await asyncio.get_running_loop().run_in_executor(
            None, lambda: index.list_partition(self._kv, request.partition, request.after, request.limit)
        )
        return FragListed(b"".join(found), lengths, more), b""

    async def verify(self, request: FragVerify, payload: Buffer) -> _Answer:
        await self._trims.raise_to(request.epoch)
        await self.check(request.fragment)
        return Ok(), b""

    def lengths_after(self, fragment: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, bytes) of fragments behind one, in order."""
        start = fragment + b"\x00" if fragment else b""
        return [(key, index.unpack(row).extent.length) for key, row in self._kv.scan(index.FRAG, start, limit=limit)]

    async def check(self, fragment: bytes) -> None:
        """Read it back. Raises Corrupt if it is damaged, and then it is in quarantine; NotFound if it is not here."""
        if damage := await self.inspect(fragment):
            raise Corrupt(f"{_name(fragment)} was damaged on the disk and is now in quarantine: {damage.text}")

    async def inspect(self, fragment: bytes, how: How = AS_IT_IS) -> Damage | None:
        """Read it back. What is found damaged is in quarantine on return. Raises NotFound if it is not here."""
        async with self.budget.hold(READ_BYTES), self.claims.hold(fragment) as claim:
            held = self._find(fragment)
            damage = await self._damage(fragment, held, how)
            if damage is not None:
                await self._quarantine(fragment, held, damage, claim)
            return damage

    def _find(self, fragment: bytes) -> Held:
        held = index.find(self._kv, fragment)
        if held is None:
            raise NotFound(f"{_name(fragment)} is not on this node")
        return held

    def _read_cached(self, held: Held, offset: int, length: int) -> Buffer | None:
        """Without a thread, when the system has the bytes in memory. None, also for trouble: `_read` tells which."""
        try:
            return self._volumes.file(held.extent.volume).pread_cached(length, held.extent.offset + offset)
        except OSError:
            return None

    async def _read(self, fragment: bytes, held: Held, offset: int, length: int) -> bytes:
        try:
            file = self._volumes.file(held.extent.volume)
            data = await on_disk(length, lambda: file.pread(length, held.extent.offset + offset))
        except OSError as error:
            if error.errno in SHORTAGES:
                raise shortage(error) from error
            raise Corrupt(f"{_name(fragment)} cannot be read from the disk: {error}") from error
        if len(data) != length:
            raise Corrupt(f"{_name(fragment)} is cut short on the disk: {len(data)} of {length} bytes were read")
        return data

    async def _damage(self, fragment: bytes, held: Held, how: How = AS_IT_IS) -> Damage | None:
        """Why the stored envelope is not what it should be; None: it is sound."""
        try:
            file = self._volumes.file(held.extent.volume)
            return await asyncio.get_running_loop().run_in_executor(
                None, lambda: find_damage(file, held.extent, held.header_length, fragment, self._cluster_id, how)
            )
        except FileNotFoundError:
            return Damage("missing", f"{volume_path(held.extent.volume)} is gone")
        except OSError as error:
            if error.errno in SHORTAGES:
                raise shortage(error) from error
            return Damage("corrupt", f"it cannot be read: {error}")

    # --- removing ------------------------------------------------------------------------------------------

    async def delete(self, request: FragDelete, payload: Buffer) -> _Answer:
        self.check_partition(request.partition)
        raw = request.fragments
        if len(raw) % FRAGMENT_BYTES:
            raise InvalidRequest("FragDelete: a fragment id has 21 bytes")
        fragments = sorted({raw[at : at + FRAGMENT_BYTES] for at in range(0, len(raw), FRAGMENT_BYTES)})
        for start in range(0, len(fragments), DELETE_BATCH):
            await self._delete(request.partition, fragments[start : start + DELETE_BATCH], request.epoch)
        return Ok(), b""

    async def _delete(self, partition: int, fragments: Sequence[bytes], epoch: int) -> None:
        """Also removes quarantined copies: the proof that nobody needs the fragment covers them."""
        async with self.claims.hold(*fragments) as claim:
            if epoch:
                self._trims.check(epoch)
            writes: list[Write] = []
            freed: list[Extent] = []
            removed = 0
            for fragment in fragments:
                held = index.find(self._kv, fragment)
                if held is not None and held.partition == partition:
                    writes += index.removing(fragment, held)
                    freed.append(held.extent)
                    removed += 1
                for key, copy, _ in index.quarantined(self._kv, fragment):
                    if copy.partition == partition:
                        writes += index.purging(key, copy)
                        if copy.extent.length:
                            freed.append(copy.extent)
            if not writes:
                return
            given_back: list[asyncio.Future[None]] = []

            def settled(error: ObjstoreError | None) -> None:
                claim.release()
                if error is None:
                    self.toll.settle(fragments)
                    self.count -= removed
                    self.changes[partition] += removed
                    given_back.append(self._give_back(freed, kept=True))

            done = self._commits.submit(writes, settled=settled)
            claim.hand_over()
            await done
            await asyncio.wait(given_back)

    async def _quarantine(self, fragment: bytes, held: Held, damage: Damage, claim: Claim) -> None:
        logger.error("%s is %s and goes to quarantine: %s", _name(fragment), damage.kind, damage.text)
        now_ms = self._clock.wall_ms()

        def settled(error: ObjstoreError | None) -> None:
            claim.release()
            if error is None:
                self.toll.note(fragment, damage.kind, now_ms)
                self.count -= 1
                self.changes[held.partition] += 1

        writes = index.quarantining(fragment, held, damage.text, now_ms)
        done = self._commits.submit(writes, settled=settled)
        claim.hand_over()
        await done

    async def quarantine_lost(self) -> None:
        """Periodic: what lay in volumes that vanished or were cut since the last look is no longer held."""
        loop = asyncio.get_running_loop()
        expected = self._volumes.expected()
        sizes = await loop.run_in_executor(None, self._volumes.sizes)
        self._lost |= self._volumes.close_lost(expected, sizes)
        if not self._lost:
            return
        lost = dict(self._lost)
        strays = index.strays(self._kv, lambda extent: extent.volume in lost and is_beyond(extent, lost[extent.volume]))
        before = self.count
        while batch := await loop.run_in_executor(None, lambda: [*islice(strays, LOST_BATCH)]):
            await self._quarantine_lost(batch, lost)
        self._lost.clear()
        logger.error("Fragments of lost volumes are now in quarantine; %d of %d are left", self.count, before)

    async def _quarantine_lost(self, strays: Sequence[Stray], sizes: Mapping[int, int | None]) -> None:
        names = sorted({stray.fragment for stray in strays})
        async with self.claims.hold(*names) as claim:
            current = [stray for stray in strays if self._kv.get(stray.table, stray.key) == stray.row]
            if not current:
                return
            now_ms = self._clock.wall_ms()

            def settled(error: ObjstoreError | None) -> None:
                claim.release()
                if error is not None:
                    return
                for stray in current:
                    if stray.table == index.FRAG:
                        self.toll.note(stray.fragment, "missing", now_ms)
                        self.count -= 1
                        self.changes[stray.held.partition] += 1
                self._give_back([stray.held.extent for stray in current], kept=True)

            done = self._commits.submit(self._losing(current, sizes), settled=settled)
            claim.hand_over()
            await done

    async def purge_quarantine(self, bounds: Bounds) -> None:
        """Periodic: damaged copies that were kept long enough, or are too many, go."""
        now, loop = self._clock.wall_ms(), asyncio.get_running_loop()
        copies = await loop.run_in_executor(None, lambda: overdue(self._kv, bounds, now))
        for start in range(0, len(copies), DELETE_BATCH):
            await self._purge(copies[start : start + DELETE_BATCH])
        if copies:
            logger.warning("%d damaged copies left quarantine for good, the oldest first", len(copies))

    async def _purge(self, copies: Sequence[Copy]) -> None:
        async with self.claims.hold(*sorted({copy.fragment for copy in copies})) as claim:
            current = [copy for copy in copies if self._kv.get(index.QUARANTINE, copy.key) == copy.row]
            if not current:
                return

            def settled(error: ObjstoreError | None) -> None:
                claim.release()
                if error is None:
                    self._give_back([copy.held.extent for copy in current if copy.held.extent.length], kept=True)

            self.toll.settle(copy.fragment for copy in current)
            writes = [write for copy in current for write in index.purging(copy.key, copy.held)]
            done = self._commits.submit(writes, settled=settled)
            claim.hand_over()
            await done

    def _losing(self, strays: Sequence[Stray], sizes: Mapping[int, int | None]) -> Sequence[Write]:
        now = self._clock.wall_ms()
        writes: list[Write] = []
        for stray in strays:
            volume, offset, length = stray.held.extent
            size = sizes.get(volume)
            what = "is gone" if size is None else f"was cut to {size} bytes"
            reason = f"{volume_path(volume)} {what}; it had {length} bytes at {offset}"
            writes += index.losing(stray, reason, now)
        return writes

    def _give_back(self, extents: Sequence[Extent], *, kept: bool) -> asyncio.Future[None]:
        job = self._volumes.release(extents, kept=kept)
        return asyncio.get_running_loop().run_in_executor(None, job)


async def on_disk(length: int, job: Callable[[], T]) -> T:
    """Run a job that touches `length` bytes: at once when that is little, else in a thread."""
    if length < INLINE_IO_MAX:
        return job()
    return await asyncio.get_running_loop().run_in_executor(None, job)


def _name(fragment: bytes) -> str:
    blob, segment, shard = FragmentId.unpack(fragment)
    return f"fragment {blob.hex()} segment {segment} shard {shard}"
