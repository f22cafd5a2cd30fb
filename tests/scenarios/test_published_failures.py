"""What other stores were reported to do to their users' data, played against this one.

Each test names the report, plays its story in the simulated cluster, and holds what should have happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from objstore.engine.engine import Engine
from objstore.model.errors import NoSuchKey, ObjstoreError, Unavailable
from objstore.model.limits import OPERATION_TIMEOUT_S
from objstore.model.manifest import FragmentId
from objstore.wire.messages import FragDelete
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import run

SIZES = (10, 40_000, 300_000)  # in the register, one stripe, several
LONG_S = 150  # longer than every delay of garbage collection in the simulated cluster


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def put(engine: Engine, key: str, data: bytes) -> None:
    await engine.put_object("b", key, body(data), len(data), {})


async def get(engine: Engine, key: str) -> bytes:
    info = await engine.head_object("b", key)
    return b"".join([bytes(piece) async for piece in engine.read(info, 0, info.size)])


async def fill(cluster: SimCluster) -> dict[str, bytes]:
    await cluster.engines[0].create_bucket("b")
    data = {f"k{size}": cluster.random.randbytes(size) for size in SIZES}
    for key, content in data.items():
        await put(cluster.engines[0], key, content)
    return data


async def all_back(cluster: SimCluster, machines: list[SimNode]) -> None:
    for machine in machines:
        await cluster.start_node(machine)


def test_node_that_was_away_for_long_brings_no_deleted_object_back() -> None:
    """minio#3768, #9473; Swift, where a replica away for a week resurrects what was deleted meanwhile."""

    async def main() -> None:
        async with SimCluster(21) as cluster:
            data = await fill(cluster)
            away = cluster.machines[:2]
            for machine in away:
                cluster.kill(machine)
            assert await cluster.whole(60) == ""
            for key in data:
                await cluster.engines[0].delete_object("b", key)
            await asyncio.sleep(LONG_S)
            await all_back(cluster, away)
            assert await cluster.converged(60) == ""
            for machine in cluster.machines[2:4]:  # so that the returned ones are asked
                cluster.kill(machine)
            for engine in cluster.engines:
                assert (await engine.list_objects("b")).entries == []
                for key in data:
                    with pytest.raises(NoSuchKey):
                        await engine.head_object("b", key)

    run(main, 21)


def test_repair_never_replaces_a_newer_write_by_an_older_one() -> None:
    """weaviate#12028: repair compared times, and a write lost against what it had replaced."""

    async def main() -> None:
        async with SimCluster(22) as cluster:
            data = await fill(cluster)
            for turn in range(4):  # each time others are behind, with clocks that are hours off
                behind = cluster.machines[2 * turn : 2 * turn + 2]
                for machine in behind:
                    cluster.kill(machine)
                    machine.clock.skew_ms = 10 * 3_600_000 * (1 if turn % 2 else -1)
                for key, content in data.items():
                    data[key] = content[::-1] + bytes((turn,))
                    await put(cluster.engines[turn % 2], key, data[key])
                await all_back(cluster, behind)
                assert await cluster.converged(60) == ""
            for machine in cluster.machines[:2]:
                cluster.kill(machine)
            for engine in cluster.engines:
                for key, content in data.items():
                    assert await get(engine, key) == content

    run(main, 22)


def test_delete_without_a_majority_is_not_acknowledged() -> None:
    """minio#5535: a delete answered well although most drives were away, and the object came back."""

    async def main() -> None:
        async with SimCluster(23, nodes=6) as cluster:
            data = await fill(cluster)
            away = cluster.machines[:4]
            for machine in away:
                cluster.kill(machine)
            for key in data:
                start = cluster.loop.time()
                with pytest.raises(Unavailable):
                    await cluster.engines[1].delete_object("b", key)
                assert cluster.loop.time() - start <= OPERATION_TIMEOUT_S + 0.1
            await all_back(cluster, away)
            assert await cluster.converged(60) == ""
            for key, content in data.items():  # the outcome is open, but one for all, and never half
                seen = set()
                for engine in cluster.engines:
                    try:
                        seen.add(await get(engine, key))
                    except NoSuchKey:
                        seen.add(b"")
                assert seen in ({content}, {b""})

    run(main, 23)


def test_objects_whose_nodes_are_away_are_not_taken_for_garbage() -> None:
    """minio#14380, #20277: "dangling" objects were purged while their drives were merely offline."""

    async def main() -> None:
        async with SimCluster(24) as cluster:
            data = await fill(cluster)
            away = cluster.machines[:5]  # more than m: nobody can read or repair
            for machine in away:
                cluster.kill(machine)
            await asyncio.sleep(LONG_S)
            await all_back(cluster, away)
            assert await cluster.converged(90) == ""
            for engine in cluster.engines:
                for key, content in data.items():
                    assert await get(engine, key) == content

    run(main, 24)


def test_object_that_cannot_be_repaired_holds_nothing_up() -> None:
    """minio#21579: two objects that could not be healed restarted the healing of 43 million, for ever."""

    async def main() -> None:
        async with SimCluster(25) as cluster:
            engine = cluster.engines[0]
            data = await fill(cluster)
            await put(engine, "hopeless", cluster.random.randbytes(40_000))
            blob = (await engine.head_object("b", "hopeless")).blobs[0]
            partition = engine.peers.topology.partition_of_blob(blob.id, 0)
            lost = b"".join(FragmentId(blob.id, 0, shard).pack() for shard in range(3))
            for machine in cluster.machines:
                assert machine.service is not None
                await machine.service.handle(FragDelete(partition, lost), b"")
            await asyncio.sleep(20)
            survey = await cluster.survey()
            assert survey is not None
            assert survey.repair.state == "failed" and "restore or delete" in survey.repair.reason
            cluster.kill(cluster.machines[7])
            await asyncio.sleep(60)
            survey = await cluster.survey()
            assert survey is not None
            assert survey.objects.total - survey.objects.full == 1
            for key, content in data.items():
                assert await get(engine, key) == content
            await engine.delete_object("b", "hopeless")
            assert await cluster.whole(60) == ""

    run(main, 25)


@pytest.mark.parametrize("seed", range(260, 266))
def test_overwrite_that_meets_a_power_cut_leaves_the_old_or_the_new(seed: int) -> None:
    """minio#17416: an overwrite truncated first, and after a power cut neither version was left."""

    async def main() -> None:
        async with SimCluster(seed, nodes=6) as cluster:
            data = await fill(cluster)
            newer = {key: cluster.random.randbytes(len(content)) for key, content in data.items()}
            acked: dict[str, None] = {}

            async def overwrite(key: str) -> None:
                try:
                    await put(cluster.engines[1], key, newer[key])
                except ObjstoreError:
                    return
                acked[key] = None

            writes = [asyncio.ensure_future(overwrite(key)) for key in data]
            await asyncio.sleep(cluster.random.uniform(0, 0.04))
            for machine in cluster.machines:
                cluster.kill(machine, power=True)
            await asyncio.gather(*writes)
            await all_back(cluster, cluster.machines)
            assert await cluster.converged(90) == ""
            for key, content in data.items():
                expected = {newer[key]} if key in acked else {content, newer[key]}
                assert {await get(engine, key) for engine in cluster.engines} <= expected

    run(main, seed)


def test_the_later_write_wins_whatever_the_clocks_say() -> None:
    """Garage's and Cassandra's last writer by wall clock; scylladb#10966: writes of a lagging server vanish."""

    async def main() -> None:
        async with SimCluster(27) as cluster:
            one, two = cluster.engines
            for engine, hours in ((one, 24), (two, -24)):
                engine.registers._clock.skew_ms = hours * 3_600_000  # type: ignore[attr-defined]
            await one.create_bucket("b")
            for size in SIZES:
                data = cluster.random.randbytes(size)
                await put(one, "k", b"of tomorrow")
                await put(two, "k", data)
                assert await get(one, "k") == data
                await put(one, "k", b"of tomorrow again")
                await two.delete_object("b", "k")
                with pytest.raises(NoSuchKey):
                    await one.head_object("b", "k")

    run(main, 27)


def test_repairer_that_was_frozen_and_thinks_it_leads_does_no_harm() -> None:
    """seaweedfs#825: after a partition two leaders went on until somebody restarted them."""

    async def main() -> None:
        async with SimCluster(28) as cluster:
            data = await fill(cluster)
            for turn in range(6):
                cluster.kill(cluster.machines[turn])
                await asyncio.sleep(cluster.random.uniform(3, 6))  # it is out, and being rebuilt
                leader = next((f"repairer{i + 1}" for i, one in enumerate(cluster.repairers) if one.is_leader), "")
                cluster.network.paused.add(leader)
                await asyncio.sleep(10)  # longer than its lease: the other one leads
                for key in data:
                    data[key] = data[key][::-1]
                    await put(cluster.engines[turn % 2], key, data[key])
                await cluster.start_node(cluster.machines[turn])
                cluster.network.paused.discard(leader)
                assert await cluster.converged(90) == ""
                assert sum(one.is_leader for one in cluster.repairers) == 1
            for machine in cluster.machines[6:]:
                cluster.kill(machine)
            for engine in cluster.engines:
                for key, content in data.items():
                    assert await get(engine, key) == content

    run(main, 28)
