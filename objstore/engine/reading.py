"""Reading blobs: verified cells from the nodes that hold them, decoded where some are late, lost or wrong.

A byte leaves this module only after the checksum of its cell was verified (INV-10); a cell's checksum is bound to
its fragment and stripe, so bytes from a wrong place never verify. Data shards are read directly when they all
answer; the first failure or a late answer asks further shards, and any k of them decode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import pairwise

from objstore.codec.envelope import CHECKSUM, open_cell
from objstore.codec.erasure import get_codec
from objstore.codec.stripes import SegmentShape, pad
from objstore.engine.peers import Peers
from objstore.model import limits
from objstore.model.errors import Corrupt, ObjstoreError, QuorumLost
from objstore.model.ids import NodeId
from objstore.model.manifest import BlobRef, FragmentId, segment_ranges
from objstore.ports import Buffer
from objstore.wire.messages import FragLocate, FragLocated, FragRead, FragVerify

BATCH_BYTES = 4 * limits.MIB  # of object data fetched at once per read; the next batch is fetched meanwhile
HEDGE_S = 0.15  # a shard later than this gets company from a parity shard
READ_TIMEOUT_S = 4.0
LOCATE_TIMEOUT_S = 2.0
LOOKS_MAX = 7  # times everybody is asked where the shards of a segment are, before it counts as unreadable
LOOK_AGAIN_S = 0.2  # pause before the second look, twice that before the third: 4.2 s in all
INLINE_DECODE_BYTES_MAX = 64 * limits.KIB  # below this a thread costs more than the decoding


class BlobReader:
    """Reads ranges of blobs. One per process; holder hints live only as long as one read."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._reports: set[asyncio.Task[None]] = set()

    async def read(self, blobs: tuple[BlobRef, ...], offset: int, length: int) -> AsyncIterator[Buffer]:
        """Bytes [offset, offset+length) of the concatenated blobs. Raises QuorumLost when fewer than k shards
        of a segment can be read."""
        fetching: list[asyncio.Task[list[Buffer]]] = []  # the batch that is sent now, and the one after it
        try:
            for source, start, size in self._batches(blobs, offset, length):
                fetching.append(asyncio.create_task(source.read(start, size)))
                if len(fetching) == 2:
                    for buffer in await fetching[0]:
                        yield buffer
                    del fetching[0]
            for task in fetching:
                for buffer in await task:
                    yield buffer
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)

    def _batches(
        self, blobs: tuple[BlobRef, ...], offset: int, length: int
    ) -> Iterator[tuple[SegmentSource, int, int]]:
        """(source, offset in the segment, length): whole stripes where the range allows."""
        for piece in segment_ranges(blobs, offset, length):
            source = SegmentSource(self, self._peers, piece.blob, piece.segment)
            start, stop = piece.offset, piece.offset + piece.length
            while start < stop:
                size = min(stop - start, source.batch_bytes - start % source.batch_bytes)
                yield source, start, size
                start += size

    def report_corrupt(self, node: NodeId, fragment: FragmentId) -> None:
        """Let the node look itself: it quarantines what does not verify, and repair finds it missing."""
        task = asyncio.create_task(self._verify(node, fragment))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _verify(self, node: NodeId, fragment: FragmentId) -> None:
        try:
            await self._peers.call(node, FragVerify(fragment.pack()))
        except ObjstoreError:
            return  # quarantined now, or the node is away: scrub and repair will see

    async def close(self) -> None:
        for task in tuple(self._reports):
            task.cancel()
        await asyncio.gather(*self._reports, return_exceptions=True)


class SegmentSource:
    """One segment as seen by one read: where its shards are, and which holders have failed."""

    def __init__(
        self,
        reader: BlobReader,
        peers: Peers,
        ref: BlobRef,
        segment: int,
    ) -> None:
        topology = peers.topology
        self._reader = reader
        self._peers = peers
        self.ref = ref
        self.segment = segment
        self.shape = SegmentShape(ref.segment_length(segment), ref.k, ref.m, ref.cell_size)
        owners = topology.data_owners(topology.partition_of_blob(ref.id, segment))
        self._holders: dict[int, list[NodeId]] = {shard: [node] for shard, node in enumerate(owners)}
        self._failed: set[tuple[int, NodeId]] = set()  # shards a holder did not give
        self._corrupt: set[tuple[int, NodeId]] = set()  # ... because they did not verify

    @property
    def batch_bytes(self) -> int:
        stripe = self.ref.k * self.ref.cell_size
        return max(stripe, BATCH_BYTES // stripe * stripe)

    async def read(self, offset: int, length: int) -> list[Buffer]:
        """Bytes [offset, offset+length) of the segment, as buffers in order."""
        ranges = self.shape.covering(offset, length)
        first, last = ranges[0].stripe, ranges[-1].stripe
        wanted = sorted({piece.shard for piece in ranges})
        cells = await self._data_cells(wanted, first, last)
        return [cells[piece.shard][piece.stripe - first][piece.start : piece.start + piece.length] for piece in ranges]

    async def _data_cells(self, wanted: Sequence[int], first: int, last: int) -> dict[int, list[memoryview]]:
        got = await self._gather(wanted, first, last)
        missing = [shard for shard in wanted if shard not in got]
        if missing:
            got.update(await self._rebuilt(got, missing, first, last))
        return got

    async def _rebuilt(
        self, got: Mapping[int, list[memoryview]], want: Sequence[int], first: int, last: int
    ) -> dict[int, list[memoryview]]:
        ref, shape = self.ref, self.shape
        codec = get_codec(ref.codec, ref.k, ref.m)

        def work() -> dict[int, list[memoryview]]:
            out: dict[int, list[memoryview]] = {shard: [] for shard in want}
            for stripe in range(first, last + 1):
                length = shape.coding_length(stripe)
                cells = {shard: pad(column[stripe - first], length) for shard, column in got.items()}
                for shard, cell in codec.rebuild(cells, want).items():
                    out[shard].append(memoryview(cell)[: shape.cell_length(shard, stripe)])
            return out

        if ref.k * ref.cell_size * (last - first + 1) <= INLINE_DECODE_BYTES_MAX:
            return work()
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def _gather(self, wanted: Sequence[int], first: int, last: int) -> dict[int, list[memoryview]]:
        """Cells of stripes first..last of the wanted shards, or of any k shards when some cannot be had."""
        k = self.ref.k
        got: dict[int, list[memoryview]] = {}
        pending: dict[asyncio.Task[list[memoryview]], int] = {}
        tried: set[int] = set()

        def launch(shard: int) -> None:
            tried.add(shard)
            pending[asyncio.create_task(self._fetch(shard, first, last))] = shard

        def spares() -> list[int]:
            left = [s for s in range(k + self.ref.m) if s not in tried and self._candidates(s)]
            return sorted(left, key=lambda s: not self._peers.is_up(self._candidates(s)[0]))

        def satisfied() -> bool:
            return len(got) >= k or all(shard in got for shard in wanted)

        def launch_spares(count: int) -> int:
            chosen = spares()[: max(0, count)]
            for shard in chosen:
                launch(shard)
            return count - len(chosen)

        alive = [s for s in wanted if any(self._peers.is_up(node) for node in self._candidates(s))]
        degraded = len(alive) < len(wanted)
        looks = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.OPERATION_TIMEOUT_S
        for shard in alive:
            launch(shard)
        if degraded:
            launch_spares(k - len(pending))
        try:
            while not satisfied():
                late = False
                if pending:
                    done, _ = await asyncio.wait(pending, timeout=HEDGE_S, return_when=asyncio.FIRST_COMPLETED)
                    late = not done
                    for task in done:
                        shard = pending.pop(task)
                        cells = task.result()
                        if cells:
                            got[shard] = cells
                        else:
                            degraded = True
                if satisfied() or not (late or degraded or not pending):
                    continue
                short = launch_spares(k - len(got) - (0 if late else len(pending)))
                if short > 0 and looks < LOOKS_MAX and loop.time() < deadline:
                    # shards are not where they should be, or are on the move: ask everybody, then again
                    if looks:
                        await asyncio.sleep(LOOK_AGAIN_S * looks)
                    await self._locate_all(everybody=looks > 0)
                    looks += 1
                    tried = {*got, *pending.values()}
                elif not pending:
                    raise QuorumLost(self._why_unreadable(got))
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return got

    def _candidates(self, shard: int) -> list[NodeId]:
        return [node for node in self._holders.get(shard, ()) if (shard, node) not in self._failed]

    async def _fetch(self, shard: int, first: int, last: int) -> list[memoryview]:
        """Verified cells of one shard, or [] when no known holder has them."""
        for node in self._peers.up_first(self._candidates(shard)):
            try:
                return await self._fetch_from(node, shard, first, last)
            except Corrupt:
                self._reader.report_corrupt(node, FragmentId(self.ref.id, self.segment, shard))
                self._corrupt.add((shard, node))
                self._failed.add((shard, node))
            except ObjstoreError:
                self._failed.add((shard, node))
        return []

    async def _fetch_from(self, node: NodeId, shard: int, first: int, last: int) -> list[memoryview]:
        shape = self.shape
        fragment = FragmentId(self.ref.id, self.segment, shard)
        edges = [shape.cell_offset(stripe) for stripe in range(first, last + 1)]
        edges.append(shape.cell_offset(last) + shape.cell_length(shard, last) + CHECKSUM)
        request = FragRead(fragment.pack(), edges[0], edges[-1] - edges[0])
        _, payload = await self._peers.call(node, request, timeout_s=READ_TIMEOUT_S)
        if len(payload) != edges[-1] - edges[0]:
            raise Corrupt(f"node {node} sent {len(payload)} bytes of fragment {fragment}, not {edges[-1] - edges[0]}")
        body = memoryview(payload)
        return [
            open_cell(fragment, first + i, body[start - edges[0] : stop - edges[0]])
            for i, (start, stop) in enumerate(pairwise(edges))
        ]

    async def _locate_all(self, *, everybody: bool) -> None:
        """Ask every node that has a lease which shards it has, or really every member: what this process knows of
        leases may be out of date, above all while the coordinator is away (P7)."""
        topology = self._peers.topology
        request = FragLocate(self.ref.id, self.segment)
        nodes = [node for node in topology.node_ids if everybody or self._peers.has_lease(node)]
        answers = await asyncio.gather(*(self._locate(node, request) for node in nodes))
        for node, shards in zip(nodes, answers, strict=True):
            for shard in shards:
                holders = self._holders.setdefault(shard, [])
                if node not in holders:
                    holders.append(node)
                if (shard, node) not in self._corrupt:
                    self._failed.discard((shard, node))

    async def _locate(self, node: NodeId, request: FragLocate) -> list[int]:
        try:
            reply, _ = await self._peers.call(node, request, timeout_s=LOCATE_TIMEOUT_S)
        except ObjstoreError:
            return []
        assert isinstance(reply, FragLocated), reply
        return reply.shards

    def _why_unreadable(self, got: Mapping[int, object]) -> str:
        ref = self.ref
        return (
            f"segment {self.segment} of blob {ref.id.hex()}: {len(got)} of {ref.k + ref.m} shards are readable now, "
            f"{ref.k} are needed; bring nodes back (objstore status)"
        )
