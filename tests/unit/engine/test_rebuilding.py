"""Rebuild, move and trim on real nodes over simulated disks: what is stored is right, whatever a source sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from objstore.codec.envelope import decode_header, shape_of
from objstore.engine.calls import Calls
from objstore.engine.peers import Peers
from objstore.engine.rebuilding import Job, Rebuilder
from objstore.engine.types import Moved, Placed, Trimmed
from objstore.model.errors import NotFound, ObjstoreError, QuorumLost, StaleEpoch
from objstore.model.ids import NodeId
from objstore.model.manifest import BlobRef
from objstore.placement.topology import Topology
from objstore.ports import Buffer
from objstore.wire import messages as m
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import MappedCluster, body, machine_of

Tamper = Callable[[NodeId, m.Request, bytes], bytes]


class Tampered:
    """Calls whose answers a test may change on the way, and which it can see."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self.is_up = peers.is_up
        self.tamper: Tamper = lambda node, request, data: data
        self.seen: list[tuple[NodeId, m.Request]] = []

    async def call(
        self, node: NodeId, request: m.Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[m.Reply, bytes | memoryview]:
        self.seen.append((node, request))
        reply, data = await self._peers.call(node, request, payload, timeout_s=timeout_s)
        return reply, self.tamper(node, request, bytes(data))


class Bench:
    """One stored object, its segment, and an executor."""

    def __init__(self, sim: SimCluster) -> None:
        self.sim = sim
        self.calls = Tampered(sim.engines[0].peers)
        self.spent = 0
        self.executor = Rebuilder(self.calls)

    @asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        self.spent += size
        yield

    async def put(self, size: int) -> None:
        engine = self.sim.engines[0]
        await engine.create_bucket("b")
        data = self.sim.random.randbytes(size)
        info = await engine.put_object("b", "k", body(data), size, {})
        self.blob: BlobRef = info.blobs[0]
        self.topology: Topology = engine.peers.topology
        self.partition = self.topology.partition_of_blob(self.blob.id, 0)
        self.owners = self.topology.data_owners(self.partition)
        self.other = self.topology.handoff(self.partition)[0]

    def fragment(self, shard: int) -> bytes:
        return self.blob.id + bytes(4) + bytes((shard,))

    async def envelope(self, node: NodeId, shard: int) -> bytes:
        """Header and cells as a node has them."""
        _, header = await self.calls._peers.call(node, m.FragHead(self.fragment(shard)))
        length = shape_of(decode_header(header)[0]).body_length(shard)
        _, cells = await self.calls._peers.call(node, m.FragRead(self.fragment(shard), 0, length))
        return bytes(header) + bytes(cells)

    async def delete(self, node: NodeId, shard: int) -> None:
        await self.calls._peers.call(node, m.FragDelete(self.partition, self.fragment(shard)))

    def job(self, *without: int, rebuild: tuple[Placed, ...] = (), move: tuple[Moved, ...] = ()) -> Job:
        holders = {shard: (node,) for shard, node in enumerate(self.owners) if shard not in without}
        return Job(self.blob, 0, self.partition, holders, rebuild, move)


class Late:
    """Calls of which deletions are held up until `go_on`."""

    def __init__(self, calls: Calls, paused: asyncio.Event, go_on: asyncio.Event) -> None:
        self._calls, self._paused, self._go_on = calls, paused, go_on

    async def call(
        self, node: NodeId, request: m.Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[m.Reply, bytes | memoryview]:
        if isinstance(request, m.FragDelete):
            self._paused.set()
            await self._go_on.wait()
        return await self._calls.call(node, request, payload, timeout_s=timeout_s)

    def is_up(self, node: NodeId) -> bool:
        return self._calls.is_up(node)


@pytest.mark.parametrize("size", [40_000, 1_000_003, 6_500_001])  # one short stripe; one; several, streamed
def test_a_rebuilt_shard_is_the_lost_one_byte_for_byte(size: int) -> None:
    async def main() -> None:
        async with MappedCluster(31) as sim:
            bench = Bench(sim)
            await bench.put(size)
            for lost in ((0, 5), (3,)):
                bench.spent = 0
                before = {shard: await bench.envelope(bench.owners[shard], shard) for shard in lost}
                for shard in lost:
                    await bench.delete(bench.owners[shard], shard)
                places = tuple(Placed(shard, bench.owners[shard]) for shard in lost)
                stored = await bench.executor.run(bench.job(*lost, rebuild=places), bench.slot)
                assert {one.fragment for one in stored} == {bench.fragment(shard) for shard in lost}
                assert sum(one.size for one in stored) == sum(map(len, before.values()))
                assert 0 < sum(one.size for one in stored) - bench.spent < 2000, "all but the headers was announced"
                for shard in lost:
                    assert await bench.envelope(bench.owners[shard], shard) == before[shard]
            verified = [r for _, r in bench.calls.seen if isinstance(r, m.FragVerify)]
            assert len(verified) == 3, "the target has read each from its disk"

    run(main, 31)


def flip(node: NodeId) -> Tamper:
    def tamper(from_node: NodeId, request: m.Request, data: bytes) -> bytes:
        if from_node == node and isinstance(request, m.FragRead):
            return bytes((data[0] ^ 1,)) + data[1:]
        return data

    return tamper


def test_a_source_with_wrong_bytes_is_left_out_and_asked_to_look_at_its_disk() -> None:
    async def main() -> None:
        async with MappedCluster(32) as sim:
            bench = Bench(sim)
            await bench.put(2_000_000)
            before = await bench.envelope(bench.owners[2], 2)
            await bench.delete(bench.owners[2], 2)
            bench.calls.tamper = flip(bench.owners[1])
            await bench.executor.run(bench.job(2, rebuild=(Placed(2, bench.owners[2]),)))
            assert await bench.envelope(bench.owners[2], 2) == before
            accused = [node for node, r in bench.calls.seen if isinstance(r, m.FragVerify) and r.fragment[-1] == 1]
            assert accused == [bench.owners[1]]

    run(main, 32)


def test_with_fewer_than_k_good_shards_nothing_is_written() -> None:
    async def main() -> None:
        async with MappedCluster(33) as sim:
            bench = Bench(sim)
            await bench.put(2_000_000)
            for shard in (2, 3):
                await bench.delete(bench.owners[shard], shard)
            bench.calls.tamper = flip(bench.owners[0])
            with pytest.raises(QuorumLost, match="4 shards are needed and 3 read well"):
                await bench.executor.run(bench.job(2, 3, rebuild=(Placed(2, bench.owners[2]),)))
            assert not any(isinstance(r, (m.FragPut, m.FragOpen)) for _, r in bench.calls.seen)

    run(main, 33)


def test_a_move_copies_the_shard_and_leaves_the_source_alone() -> None:
    async def main() -> None:
        async with MappedCluster(34) as sim:
            bench = Bench(sim)
            await bench.put(3_000_000)
            before = await bench.envelope(bench.owners[4], 4)
            move = Moved(4, bench.owners[4], bench.other)
            stored = await bench.executor.run(bench.job(move=(move,)))
            assert [one.node for one in stored] == [bench.other]
            assert await bench.envelope(bench.other, 4) == before == await bench.envelope(bench.owners[4], 4)

    run(main, 34)


def test_a_corrupt_source_is_never_moved() -> None:
    async def main() -> None:
        async with MappedCluster(35) as sim:
            bench = Bench(sim)
            await bench.put(3_000_000)
            bench.calls.tamper = flip(bench.owners[4])
            with pytest.raises(QuorumLost):
                await bench.executor.run(bench.job(move=(Moved(4, bench.owners[4], bench.other),)))
            with pytest.raises(NotFound):
                await bench.envelope(bench.other, 4)

    run(main, 35)


def test_a_trim_needs_the_copy_at_home_to_read_well_and_the_layout_to_be_the_same() -> None:
    async def main() -> None:
        async with MappedCluster(36) as sim:
            bench = Bench(sim)
            await bench.put(100_000)
            home = bench.owners[4]
            await bench.executor.run(bench.job(move=(Moved(4, home, bench.other),)))
            trim = Trimmed(4, home, bench.other)
            assert not await bench.executor.trim(bench.job(), trim, 7, lambda: False)
            await bench.envelope(bench.other, 4)
            await bench.delete(home, 4)
            with pytest.raises(ObjstoreError):
                await bench.executor.trim(bench.job(), trim, 7, lambda: True)
            await bench.envelope(bench.other, 4)  # the last copy is still there
            await bench.executor.run(bench.job(4, rebuild=(Placed(4, home),)))
            assert await bench.executor.trim(bench.job(), trim, 7, lambda: True)
            with pytest.raises(NotFound):
                await bench.envelope(bench.other, 4)

    run(main, 36)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_trim_that_was_sent_under_an_older_layout_spares_what_has_become_the_last_copy(restarted: bool) -> None:
    """A repairer is paused right before it sends; its successor, under the next layout, trims the other copy."""

    async def main() -> None:
        async with MappedCluster(37) as sim:
            bench = Bench(sim)
            await bench.put(100_000)
            home = bench.owners[4]
            await bench.executor.run(bench.job(move=(Moved(4, home, bench.other),)))
            before = await bench.envelope(home, 4)
            paused, go_on = asyncio.Event(), asyncio.Event()
            late = asyncio.ensure_future(
                Rebuilder(Late(bench.calls, paused, go_on)).trim(
                    bench.job(), Trimmed(4, home, bench.other), 7, lambda: True
                )
            )
            await paused.wait()
            assert await bench.executor.trim(bench.job(), Trimmed(4, bench.other, home), 8, lambda: True)
            if restarted:
                machine = machine_of(sim, bench.other)
                sim.kill(machine, power=True)
                await sim.start_node(machine)
                await asyncio.sleep(5)
            go_on.set()
            with pytest.raises(StaleEpoch):
                await late
            assert await bench.envelope(bench.other, 4) == before
            await bench.delete(bench.other, 4)  # on proof that nobody needs it: under any layout
            with pytest.raises(NotFound):
                await bench.envelope(bench.other, 4)

    run(main, 37)
