"""Making shards of one segment again: rebuild, move, trim. Reads are verified cell by cell, copies by the target.

INV: nothing counts as stored before the target has read it back from its disk (FragVerify), and nothing is
deleted before the copy at home has been read back. Memory is a window per job, whatever the segment's size.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from objstore.codec.envelope import (
    EnvelopeHeader,
    decode_header,
    encode_header,
    envelope_length,
    fragment_of,
    shape_of,
)
from objstore.codec.erasure import get_codec
from objstore.codec.stripes import SegmentShape
from objstore.codec.windows import remake, window_length
from objstore.engine.calls import Calls, ask
from objstore.engine.types import Moved, Placed, Trimmed
from objstore.model import limits
from objstore.model.errors import Corrupt, NotFound, ObjstoreError, QuorumLost
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef, FragmentId
from objstore.ports import Buffer
from objstore.wire.messages import (
    FragAbort,
    FragCommit,
    FragDelete,
    FragHead,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
    Ok,
)

log = logging.getLogger(__name__)

WINDOW_BYTES = 8 * limits.MIB  # larger ones would cost no less per byte
THREAD_FROM = limits.MIB  # of what is read; below, a thread costs more than the coding
READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 20.0
VERIFY_TIMEOUT_S = 60.0

Slot = Callable[[int], AbstractAsyncContextManager[None]]
"""An operation that writes so many bytes: entered when it may begin, left when it is done (pace of repair)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One segment and what to do about it."""

    blob: BlobRef
    segment: int
    partition: int
    holders: Mapping[int, Sequence[NodeId]]  # by shard, answering nodes
    rebuild: tuple[Placed, ...] = ()
    move: tuple[Moved, ...] = ()

    def fragment(self, shard: int) -> FragmentId:
        return FragmentId(self.blob.id, self.segment, shard)


class Read(NamedTuple):
    node: NodeId
    window: Buffer  # not verified


@dataclass(frozen=True, slots=True)
class Stored:
    fragment: bytes
    node: NodeId
    size: int


def _freely(count: int) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class Rebuilder:
    """`backfill`: no client waits, and what it writes is no new data, so that nodes take it for longer (P8)."""

    def __init__(self, calls: Calls, *, backfill: bool = True) -> None:
        self._calls = calls
        self._backfill = backfill

    async def run(self, job: Job, slot: Slot = _freely, window_bytes: int = WINDOW_BYTES) -> list[Stored]:
        """Returns what is now stored and verified. Raises the first error; what was stored before stays.

        window_bytes: read at a time, from all sources together, though never less than a stripe."""
        async with slot(0):
            header = await self._header(job)
        stored: list[Stored] = []
        for moved in job.move:
            source = self._source(job, shape_of(header), {moved.shard: (moved.source,)}, need=1)
            stored += await self._store(job, header, source, [Placed(moved.shard, moved.target)], slot, window_bytes)
        if job.rebuild:
            source = self._source(job, shape_of(header), job.holders, need=job.blob.k)
            stored += await self._store(job, header, source, job.rebuild, slot, window_bytes)
        return stored

    async def trim(self, job: Job, trimmed: Trimmed, epoch: int, still_valid: Callable[[], bool]) -> bool:
        """Delete the extra copy, if the one at home reads well and the layout is still what the plan was made for.

        epoch: of that layout; a node that was told of a newer one refuses (objstore/node/trimming.py)."""
        fragment = job.fragment(trimmed.shard).pack()
        await self._verify(trimmed.home, fragment, epoch)
        if not still_valid():
            return False
        request = FragDelete(job.partition, fragment, epoch)
        await ask(self._calls, trimmed.extra, request, Ok, timeout_s=WRITE_TIMEOUT_S)
        return True

    def _source(self, job: Job, shape: SegmentShape, holders: Mapping[int, Sequence[NodeId]], *, need: int) -> _Source:
        return _Source(self._calls, job, shape, holders, need, backfill=self._backfill)

    async def _header(self, job: Job) -> EnvelopeHeader:
        """From any holder whose header reads well and names this segment."""
        problem: ObjstoreError = QuorumLost("no node that holds a shard of this segment answers")
        for shard, nodes in job.holders.items():
            for node in nodes:
                try:
                    request = FragHead(job.fragment(shard).pack())
                    _, raw = await ask(self._calls, node, request, Ok, timeout_s=READ_TIMEOUT_S)
                    header, _ = decode_header(raw)
                    if fragment_of(header) != job.fragment(shard):
                        raise Corrupt(f"node {node} has another fragment's header for shard {shard}")
                    return header
                except Corrupt as error:
                    problem = error
                    await self._accuse(node, job.fragment(shard))
                except ObjstoreError as error:
                    problem = error
        raise problem

    async def _store(
        self,
        job: Job,
        like: EnvelopeHeader,
        source: _Source,
        places: Sequence[Placed],
        slot: Slot,
        window_bytes: int,
    ) -> list[Stored]:
        writers = [
            _Writer(
                self._calls,
                job.partition,
                msgspec.structs.replace(like, shard=place.shard),
                place.target,
                backfill=self._backfill,
            )
            for place in places
        ]
        shape = shape_of(like)
        step = max(1, window_bytes // (source.need * job.blob.cell_size))
        try:
            for first in range(0, shape.stripes, step):
                stripes = range(first, min(first + step, shape.stripes))
                async with slot(sum(window_length(shape, writer.shard, stripes) for writer in writers)):
                    made = await self._remake(job, shape, source, stripes, [writer.shard for writer in writers])
                    for writer in writers:
                        await writer.add(made[writer.shard], is_all=shape.stripes <= step)
            async with slot(0):
                for writer in writers:
                    await writer.finish()
        except BaseException:
            for writer in writers:
                await writer.abort()
            raise
        async with slot(0):
            for writer in writers:
                await self._verify(writer.target, writer.fragment.pack())
        return [Stored(writer.fragment.pack(), writer.target, writer.length) for writer in writers]

    async def _remake(
        self, job: Job, shape: SegmentShape, source: _Source, stripes: range, wanted: Sequence[int]
    ) -> Mapping[int, Buffer]:
        """Windows of the wanted shards, made of verified cells only."""
        codec = get_codec(job.blob.codec, job.blob.k, job.blob.m)
        read: dict[int, Read] = {}
        while True:
            await source.fill(read, stripes)
            windows = {shard: found.window for shard, found in read.items()}
            work = functools.partial(remake, codec, shape, job.fragment, stripes, windows, wanted)
            if sum(map(len, windows.values())) < THREAD_FROM:
                made = work()
            else:
                made = await asyncio.get_running_loop().run_in_executor(None, work)
            if not made.bad:
                return made.windows
            for shard, error in made.bad.items():
                node = read.pop(shard).node
                source.drop(shard, node, error)
                await self._accuse(node, job.fragment(shard))

    async def _verify(self, node: NodeId, fragment: bytes, epoch: int = 0) -> None:
        await ask(self._calls, node, FragVerify(fragment, epoch), Ok, timeout_s=VERIFY_TIMEOUT_S)

    async def _accuse(self, node: NodeId, fragment: FragmentId) -> None:
        """Bytes from there do not verify: let the node look itself. If it is the disk, the fragment is quarantined."""
        try:
            await self._verify(node, fragment.pack())
        except (Corrupt, NotFound) as error:
            log.warning("shard %d of %s on node %s is bad: %s", fragment.shard, fragment.blob.hex(), node, error)
        except ObjstoreError as error:
            log.info("node %s could not check a fragment: %s", node, error)


class _Source:
    """Windows of a segment from any `need` shards; a shard that fails is left for another. Nothing is verified here."""

    def __init__(
        self,
        calls: Calls,
        job: Job,
        shape: SegmentShape,
        holders: Mapping[int, Sequence[NodeId]],
        need: int,
        *,
        backfill: bool,
    ) -> None:
        self.need = need
        self._backfill = backfill
        self._calls = calls
        self._job = job
        self._shape = shape
        self._sources = [(shard, node) for shard in sorted(holders) for node in holders[shard][:1]]
        self._sources += [(shard, node) for shard in sorted(holders) for node in holders[shard][1:]]
        self._problem = "too few shards answer"

    async def fill(self, read: dict[int, Read], stripes: range) -> None:
        """Read more shards, until there are `need`."""
        while len(read) < self.need:
            chosen: dict[int, NodeId] = {}
            for shard, node in self._sources:
                if shard not in read and shard not in chosen and len(read) + len(chosen) < self.need:
                    chosen[shard] = node
            if len(read) + len(chosen) < self.need:
                raise QuorumLost(f"{self.need} shards are needed and {len(read)} read well: {self._problem}")
            reads = (self._read(shard, node, stripes) for shard, node in chosen.items())
            for shard, found in zip(chosen, await asyncio.gather(*reads), strict=True):
                if found is not None:
                    read[shard] = found

    def drop(self, shard: int, node: NodeId, error: ObjstoreError) -> None:
        """Read no more from there."""
        self._problem = str(error)
        self._sources.remove((shard, node))

    async def _read(self, shard: int, node: NodeId, stripes: range) -> Read | None:
        offset, length = self._shape.cell_offset(stripes.start), window_length(self._shape, shard, stripes)
        request = FragRead(self._job.fragment(shard).pack(), offset, length, self._backfill)
        try:
            _, raw = await ask(self._calls, node, request, Ok, timeout_s=READ_TIMEOUT_S)
        except ObjstoreError as error:
            self.drop(shard, node, error)
            return None
        return Read(node, raw)


class _Writer:
    """One envelope on its way to its node: in one message if it is one window, else as a stream."""

    def __init__(self, calls: Calls, partition: int, header: EnvelopeHeader, target: NodeId, *, backfill: bool) -> None:
        self._backfill = backfill
        self._calls = calls
        self._partition = partition
        self._header = encode_header(header)
        self._stream: int | None = None
        self._offset = 0
        self.fragment = FragmentId(BlobId(header.blob), header.segment, header.shard)
        self.shard = header.shard
        self.target = target
        self.length = envelope_length(header)

    async def add(self, window: Buffer, *, is_all: bool) -> None:
        """is_all: there will be no other window."""
        if is_all:
            request = FragPut(self._partition, self.fragment.pack(), self._backfill)
            data = b"".join((self._header, window))
            await ask(self._calls, self.target, request, Ok, data, timeout_s=WRITE_TIMEOUT_S)
            return
        if self._stream is None:
            opening = FragOpen(self._partition, self.fragment.pack(), self.length, self._backfill)
            opened, _ = await ask(self._calls, self.target, opening, FragOpened, timeout_s=WRITE_TIMEOUT_S)
            self._stream = opened.stream
            await self._write(self._stream, self._header)
        await self._write(self._stream, window)

    async def _write(self, stream: int, data: Buffer) -> None:
        request = FragWrite(stream, self._offset)
        await ask(self._calls, self.target, request, Ok, data, timeout_s=WRITE_TIMEOUT_S)
        self._offset += len(data)

    async def finish(self) -> None:
        if self._stream is not None:
            await ask(self._calls, self.target, FragCommit(self._stream), Ok, timeout_s=WRITE_TIMEOUT_S)
        self._stream = None

    async def abort(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                await ask(self._calls, self.target, FragAbort(stream), Ok, timeout_s=READ_TIMEOUT_S)
            except ObjstoreError as error:
                log.debug("stream %d on node %s will time out by itself: %s", stream, self.target, error)
