"""Making shards of one segment again: rebuild, move, trim. Reads are verified cell by cell, copies by the target.

INV: nothing counts as stored before the target has read it back from its disk (FragVerify), and nothing is
deleted before the copy at home has been read back. Memory is a few stripes per job, whatever the segment's size.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import msgspec

from objstore.codec.envelope import (
    EnvelopeHeader,
    decode_header,
    encode_header,
    envelope_length,
    fragment_of,
    open_cell,
    seal,
    shape_of,
)
from objstore.codec.erasure import Codec, get_codec
from objstore.codec.stripes import SegmentShape, pad
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

WINDOW_BYTES = limits.MIB  # of one shard, read and written at a time
ONE_SHOT_BYTES_MAX = limits.MIB  # envelopes up to here go in one message
THREAD_FROM = limits.MIB  # of a cell; below, a thread costs more than the coding
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


@dataclass(frozen=True, slots=True)
class Stored:
    fragment: bytes
    node: NodeId
    size: int


def _freely(count: int) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class Rebuilder:
    """`backfill`: what it writes is no new data, so that nodes take it for longer (P8)."""

    def __init__(self, calls: Calls, *, backfill: bool = True) -> None:
        self._calls = calls
        self._backfill = backfill

    async def run(self, job: Job, slot: Slot = _freely) -> list[Stored]:
        """Returns what is now stored and verified. Raises the first error; what was stored before stays."""
        async with slot(0):
            header = await self._header(job)
        stored: list[Stored] = []
        for moved in job.move:
            source = self._cells(job, shape_of(header), {moved.shard: (moved.source,)}, need=1)
            stored += await self._store(job, header, source, [Placed(moved.shard, moved.target)], slot)
        if job.rebuild:
            source = self._cells(job, shape_of(header), job.holders, need=job.blob.k)
            stored += await self._store(job, header, source, job.rebuild, slot)
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

    def _cells(self, job: Job, shape: SegmentShape, holders: Mapping[int, Sequence[NodeId]], *, need: int) -> _Cells:
        return _Cells(self._calls, self._accuse, job, shape, holders, need)

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
        self, job: Job, like: EnvelopeHeader, cells: _Cells, places: Sequence[Placed], slot: Slot
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
        codec = get_codec(job.blob.codec, job.blob.k, job.blob.m)
        step = max(1, WINDOW_BYTES // job.blob.cell_size)
        try:
            for first in range(0, shape.stripes, step):
                stripes = range(first, min(first + step, shape.stripes))
                async with slot(sum(shape.sealed_length(w.shard, s) for w in writers for s in stripes)):
                    window = await cells.read(stripes)
                    made = await _make(codec, shape, window, [writer.shard for writer in writers], stripes)
                    for writer in writers:
                        await writer.add(stripes.start, made[writer.shard])
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


class _Cells:
    """Verified cells of a segment, from any `need` shards; a shard that fails is left for another."""

    def __init__(
        self,
        calls: Calls,
        accuse: Callable[[NodeId, FragmentId], Awaitable[None]],
        job: Job,
        shape: SegmentShape,
        holders: Mapping[int, Sequence[NodeId]],
        need: int,
    ) -> None:
        self._calls = calls
        self._accuse = accuse
        self._job = job
        self._shape = shape
        self._need = need
        self._sources = [(shard, node) for shard in sorted(holders) for node in holders[shard][:1]]
        self._sources += [(shard, node) for shard in sorted(holders) for node in holders[shard][1:]]
        self._problem = "too few shards answer"

    async def read(self, stripes: range) -> dict[int, list[memoryview]]:
        """By shard, one verified cell per stripe."""
        window: dict[int, list[memoryview]] = {}
        while len(window) < self._need:
            chosen: dict[int, NodeId] = {}
            for shard, node in self._sources:
                if shard not in window and shard not in chosen and len(window) + len(chosen) < self._need:
                    chosen[shard] = node
            if len(window) + len(chosen) < self._need:
                raise QuorumLost(f"{self._need} shards are needed and {len(window)} read well: {self._problem}")
            reads = (self._read_shard(shard, node, stripes) for shard, node in chosen.items())
            for shard, cells in zip(chosen, await asyncio.gather(*reads), strict=True):
                if cells is not None:
                    window[shard] = cells
        return window

    async def _read_shard(self, shard: int, node: NodeId, stripes: range) -> list[memoryview] | None:
        fragment = self._job.fragment(shard)
        lengths = [self._shape.sealed_length(shard, stripe) for stripe in stripes]
        request = FragRead(fragment.pack(), self._shape.cell_offset(stripes.start), sum(lengths))
        try:
            _, raw = await ask(self._calls, node, request, Ok, timeout_s=READ_TIMEOUT_S)
            return _open_cells(fragment, stripes, lengths, raw)
        except Corrupt as error:
            self._problem = str(error)
            await self._accuse(node, fragment)
        except ObjstoreError as error:
            self._problem = str(error)
        self._sources.remove((shard, node))
        return None


def _open_cells(fragment: FragmentId, stripes: range, lengths: Sequence[int], raw: Buffer) -> list[memoryview]:
    view = memoryview(raw)
    if view.nbytes != sum(lengths):
        raise Corrupt(f"{view.nbytes} bytes came where {sum(lengths)} were asked for")
    cells: list[memoryview] = []
    offset = 0
    for stripe, length in zip(stripes, lengths, strict=True):
        cells.append(open_cell(fragment, stripe, view[offset : offset + length]))
        offset += length
    return cells


async def _make(
    codec: Codec,
    shape: SegmentShape,
    window: Mapping[int, Sequence[memoryview]],
    wanted: Sequence[int],
    stripes: range,
) -> dict[int, list[Buffer]]:
    """The wanted shards' cells: as they were read, or decoded from the others."""
    made: dict[int, list[Buffer]] = {shard: [] for shard in wanted}
    missing = [shard for shard in wanted if shard not in window]
    for i, stripe in enumerate(stripes):
        decoded: Mapping[int, bytes] = {}
        if missing:
            length = shape.coding_length(stripe)
            work = functools.partial(
                codec.rebuild, {shard: pad(cells[i], length) for shard, cells in window.items()}, missing
            )
            if length < THREAD_FROM:
                decoded = work()
            else:
                decoded = await asyncio.get_running_loop().run_in_executor(None, work)
        for shard in wanted:
            cell = window[shard][i] if shard in window else decoded[shard]
            made[shard].append(memoryview(cell)[: shape.cell_length(shard, stripe)])
    return made


class _Writer:
    """One envelope on its way to its node: in one message if small, else as a stream."""

    def __init__(self, calls: Calls, partition: int, header: EnvelopeHeader, target: NodeId, *, backfill: bool) -> None:
        self._backfill = backfill
        self._calls = calls
        self._partition = partition
        self._header = encode_header(header)
        self._pending: list[Buffer] = []
        self._stream: int | None = None
        self._offset = 0
        self.fragment = FragmentId(BlobId(header.blob), header.segment, header.shard)
        self.shard = header.shard
        self.target = target
        self.length = envelope_length(header)

    async def add(self, first_stripe: int, cells: Sequence[Buffer]) -> None:
        pieces: list[Buffer] = []
        for i, cell in enumerate(cells):
            pieces += (cell, seal(self.fragment, first_stripe + i, cell))
        if self.length <= ONE_SHOT_BYTES_MAX:
            self._pending += pieces
            return
        if self._stream is None:
            request = FragOpen(self._partition, self.fragment.pack(), self.length, self._backfill)
            opened, _ = await ask(self._calls, self.target, request, FragOpened, timeout_s=WRITE_TIMEOUT_S)
            self._stream = opened.stream
            await self._write(self._stream, self._header)
        await self._write(self._stream, b"".join(pieces))

    async def _write(self, stream: int, data: bytes) -> None:
        request = FragWrite(stream, self._offset)
        await ask(self._calls, self.target, request, Ok, data, timeout_s=WRITE_TIMEOUT_S)
        self._offset += len(data)

    async def finish(self) -> None:
        if self._stream is None:
            request = FragPut(self._partition, self.fragment.pack(), self._backfill)
            data = b"".join((self._header, *self._pending))
            await ask(self._calls, self.target, request, Ok, data, timeout_s=WRITE_TIMEOUT_S)
        else:
            await ask(self._calls, self.target, FragCommit(self._stream), Ok, timeout_s=WRITE_TIMEOUT_S)
        self._stream = None

    async def abort(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                await ask(self._calls, self.target, FragAbort(stream), Ok, timeout_s=READ_TIMEOUT_S)
            except ObjstoreError as error:
                log.debug("stream %d on node %s will time out by itself: %s", stream, self.target, error)
