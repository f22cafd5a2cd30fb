"""Deleted keys leave nothing behind on any node of a whole cluster, and can be written again (INV-11)."""

from __future__ import annotations

import asyncio

import pytest

from objstore.engine.types import WriteCondition
from objstore.model.errors import NoSuchKey, PreconditionFailed
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.test_cluster import body, get

KEYS = [f"k{i}" for i in range(40)]


def registers(cluster: SimCluster) -> int:
    """On all nodes that are up, together."""
    return sum(machine.service.stats().registers for machine in cluster.machines if machine.service is not None)


async def only(cluster: SimCluster, count: int, within_s: float) -> None:
    end = cluster.loop.time() + within_s
    while registers(cluster) != count:
        assert cluster.loop.time() < end, f"{registers(cluster)} registers are left instead of {count}"
        await asyncio.sleep(0.5)


async def churn(cluster: SimCluster, size: int) -> None:
    """Every key is written by one gateway and deleted by the other."""
    data = cluster.random.randbytes(size)
    for number, key in enumerate(KEYS):
        writer, deleter = cluster.engines[number % 2], cluster.engines[1 - number % 2]
        await writer.put_object("b", key, body(data), size, {})
        assert await deleter.delete_object("b", key)


@pytest.mark.parametrize("size", [10, 50_000])
def test_deleted_keys_leave_no_register_on_any_node(size: int) -> None:
    async def main() -> None:
        async with SimCluster(21, nodes=7, repair={"tombstone_age_s": 10.0}) as cluster:
            await cluster.engines[0].create_bucket("b")
            assert await cluster.converged(60) == ""
            await asyncio.sleep(2)
            before = registers(cluster)
            await churn(cluster, size)
            assert registers(cluster) > before + len(KEYS)
            await only(cluster, before, 200)
            assert (await cluster.engines[1].list_objects("b")).entries == []

    run(main, 21)


def test_keys_come_and_go_while_nodes_die_and_return() -> None:
    async def main() -> None:
        async with SimCluster(22, nodes=8, repair={"tombstone_age_s": 5.0}) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            assert await cluster.converged(60) == ""
            for turn in range(4):
                victim = cluster.machines[turn]
                cluster.kill(victim, power=turn % 2 == 1)
                await churn(cluster, 20)
                await asyncio.sleep((1, 15, 1, 30)[turn])
                await cluster.start_node(victim)
                for number, key in enumerate(KEYS[:10]):
                    writer, reader = cluster.engines[number % 2], cluster.engines[1 - number % 2]
                    with pytest.raises(NoSuchKey):
                        await reader.head_object("b", key)
                    data = b"%d %d" % (turn, number)
                    absent = WriteCondition(if_none_match="*")
                    await writer.put_object("b", key, body(data), len(data), {}, condition=absent)
                    with pytest.raises(PreconditionFailed):
                        await reader.put_object("b", key, body(b"no"), 2, {}, condition=absent)
                    assert await get(reader, "b", key) == data
                await asyncio.sleep(10)
                names = [entry.key for entry in (await two.list_objects("b")).entries]
                assert names == sorted(KEYS[:10])
                for key in KEYS[:10]:
                    assert await two.delete_object("b", key)
            assert await cluster.converged(200) == ""
            owners = 5  # of each metadata partition
            await only(cluster, owners, 400)

    run(main, 22)


def test_replicas_that_were_away_bring_nothing_back() -> None:
    """A node misses the deletions, and comes back when all others could have forgotten them."""

    async def main() -> None:
        async with SimCluster(23, nodes=8, repair={"tombstone_age_s": 3.0, "out_after_s": 1000.0}) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            for key in KEYS:
                await one.put_object("b", key, body(b"old"), 3, {})
            victim = cluster.machines[3]
            cluster.kill(victim)
            await asyncio.sleep(3)
            for key in KEYS:
                assert await two.delete_object("b", key)
            await asyncio.sleep(60)
            held_by_others = registers(cluster)
            await cluster.start_node(victim)
            assert (await two.list_objects("b")).entries == []
            await only(cluster, 5, 200)
            assert held_by_others > 5, "tombstones that one owner may lack are kept"
            assert (await one.list_objects("b")).entries == []
            for key in KEYS:
                with pytest.raises(NoSuchKey):
                    await one.head_object("b", key)

    run(main, 23)
