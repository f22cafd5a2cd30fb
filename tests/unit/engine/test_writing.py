"""What is acknowledged is stored as INV-5 says: every shard on a node of its own, and what is missing on a list."""

from __future__ import annotations

import asyncio

import pytest

from objstore.engine.peers import Peers
from objstore.model.errors import ObjstoreError
from objstore.model.ids import NodeId
from objstore.model.manifest import BlobRef
from objstore.wire.messages import FragLocate, FragLocated
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.runner import small_sizes
from tests.unit.repair.rig import body

DATA = 4  # shards, of 6: no segment is acknowledged with less than one more


async def shards_of(peers: Peers, blob: BlobRef, segment: int) -> dict[NodeId, list[int]]:
    """By node, on all that are up."""
    found: dict[NodeId, list[int]] = {}
    for node in peers.live():
        located, _ = await peers.call(node, FragLocate(blob.id, segment))
        assert isinstance(located, FragLocated)
        found[node] = list(located.shards)
    return found


@pytest.mark.parametrize("left", [6, 5, 4])
@pytest.mark.parametrize("size", [300_000, 3_000_000, 9_000_000])
@pytest.mark.parametrize("wait_s", [0.0, 6.0])
def test_no_node_has_two_shards_of_a_segment_when_it_is_acknowledged(left: int, size: int, wait_s: float) -> None:
    """A shard that fails is offered to another node; were that one of those that hold one already, the loss of a single
    node would cost two shards, and m losses more than the code can bear."""

    async def main() -> None:
        async with SimCluster(3, nodes=6, repairer_count=1) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            sim.loop.kill("repairer1")  # nobody corrects it afterwards
            for machine in sim.machines[left:]:
                sim.kill(machine)
            await asyncio.sleep(wait_s)  # they are known to be down, or not yet
            if left <= DATA:
                with pytest.raises(ObjstoreError):
                    await engine.put_object("b", "k", body(bytes(size)), size, {})
                return
            info = await engine.put_object("b", "k", body(bytes(size)), size, {})
            for blob in info.blobs:
                for segment in range(blob.segments):
                    found = await shards_of(engine.peers, blob, segment)
                    assert all(len(shards) <= 1 for shards in found.values()), found
                    assert len({shard for shards in found.values() for shard in shards}) > DATA

    run(main, 3)


@pytest.mark.parametrize("seed", range(3))
def test_what_an_acknowledged_blob_lacks_is_on_its_list(seed: int) -> None:
    """Of every segment, not only of the last: repair goes by that list, and what is not on it stays missing."""

    async def main() -> None:
        async with SimCluster(seed, nodes=6, repairer_count=1) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            sim.loop.kill("repairer1")
            sim.kill(sim.machines[seed])
            size = 700_000
            info = await engine.put_object("b", "k", body(bytes(size)), size, {})
            for blob in info.blobs:
                assert blob.segments > 1
                missing = set()
                for segment in range(blob.segments):
                    found = await shards_of(engine.peers, blob, segment)
                    there = {shard for shards in found.values() for shard in shards}
                    missing |= {(segment, shard) for shard in range(blob.k + blob.m) if shard not in there}
                assert set(blob.absent) == missing and missing

    with small_sizes():
        run(main, seed)
