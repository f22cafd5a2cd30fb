"""Ambushes of layout changes: a replica behind when its peers move on, a value that nobody chose, a lagging disk."""

from __future__ import annotations

import asyncio

from objstore.model.cluster import decode_map
from objstore.model.errors import ObjstoreError
from objstore.wire.messages import RegPull, RegPulled
from tests.sim.ambush.counting import Counter
from tests.sim.ambush.quorums import SMALL, both, owners
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.network import NetworkFaults

GATEWAYS = ("gateway1", "gateway2")


def ghost(seed: int) -> list[str]:
    """An owner is away while registers are deleted: for a moment, or so long that another takes its place and they are
    forgotten. When it is back, and an owner again, it must not bring up what it held before (INV-6, INV-11)."""

    async def main() -> list[str]:
        repair = {"tombstone_age_s": 0.5}
        async with SimCluster(seed, nodes=5, code=SMALL, repairer_count=1, repair=repair) as cluster:
            counters = [Counter(cluster, b"counter%d" % number) for number in range(4)]
            for counter in counters:
                await counter.add(cluster.random.choice(cluster.engines))
            away = cluster.random.choice(await owners(cluster, counters[0]))
            cluster.kill(away)
            before_s, after_s = cluster.random.choice(((0.5, 3.0), (9.0, 8.0)))  # it is out within 9 s
            await asyncio.sleep(before_s)
            for counter in counters:
                await counter.clear(cluster.random.choice(cluster.engines))
            await asyncio.sleep(after_s)
            await cluster.start_node(away)
            if left := await cluster.converged(60):
                return [left]
            return [line for counter in counters for line in await counter.finish()]

    return run(main, seed)[0]


def behind(seed: int) -> list[str]:
    """One owner misses writes, another dies for good: the change of layout begins with a replica that is behind. As
    soon as it is over the third is cut off: the one that was behind and the newcomer must do."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=5, code=SMALL, repairer_count=1) as cluster:
            random, network = cluster.random, cluster.network
            counters = [Counter(cluster, b"counter%d" % number) for number in range(4)]
            for counter in counters:
                await counter.add(cluster.engines[0])
            trio = await owners(cluster, counters[0])
            lagging, dying = random.sample(trio, 2)
            rest = [machine.name for machine in cluster.machines if machine is not lagging]
            network.blocked = both(*((name, lagging.name) for name in (*GATEWAYS, "repairer1", *rest)))
            for counter in counters * 2:
                await counter.add(random.choice(cluster.engines))
            cluster.kill(dying)
            await _layout_moves(cluster, True)
            network.blocked = set()
            await _layout_moves(cluster, False)
            third = next(machine.name for machine in trio if machine not in (lagging, dying))
            network.blocked = both(*((name, third) for name in (*GATEWAYS, "repairer1")))
            await asyncio.sleep(1.0)
            wrong: list[str] = []
            for counter in counters:
                try:
                    for engine in cluster.engines:
                        await counter.add(engine)
                except ObjstoreError as error:
                    wrong.append(f"after the change: {error}")
                wrong += await counter.finish()
            return wrong

    return run(main, seed)[0]


async def _layout_moves(cluster: SimCluster, moves: bool) -> None:
    """Until a change of layout is under way, or none is any more."""
    while True:
        entry = await cluster.coordinator("").get("map")
        if entry is not None and (decode_map(entry.value).next is not None) == moves:
            return
        await asyncio.sleep(0.01)


def lag(seed: int) -> list[str]:
    """An owner is off while registers change, and comes back before it is given up. Within a minute all replicas
    must be equal, though nobody reads or writes any more."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=5, code=SMALL, repairer_count=1) as cluster:
            random = cluster.random
            counters = [Counter(cluster, b"counter%d" % number) for number in range(6)]
            for counter in counters:
                await counter.add(cluster.engines[0])
            off = random.choice(await owners(cluster, counters[0]))
            cluster.kill(off)
            for counter in counters:
                for _ in range(random.randrange(3)):
                    await counter.add(random.choice(cluster.engines))
            await cluster.start_node(off)
            await asyncio.sleep(60.0)
            return await unequal(cluster)

    return run(main, seed)[0]


def forgetting(seed: int) -> list[str]:
    """Counters are deleted and added to again while tombstones are collected at once, owners come and go, and writes
    are so slow that some arrive after their register was forgotten."""

    async def main() -> list[str]:
        repair = {"tombstone_age_s": 0.05}
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1, repair=repair) as cluster:
            random = cluster.random
            counters = [Counter(cluster, b"counter%d" % number) for number in range(3)]
            cluster.network.faults = NetworkFaults(repeat=0.2, slow=0.3, slow_s=3.0)
            end = cluster.loop.time() + 12.0
            async with asyncio.TaskGroup() as group:
                for counter in counters:
                    for engine in cluster.engines * 2:
                        group.create_task(counter.client(engine, end, reads=0.1, clears=0.4))
                while cluster.loop.time() < end:
                    await asyncio.sleep(random.uniform(0.2, 3.0))
                    machine = random.choice(cluster.machines)
                    cluster.kill(machine, power=True)
                    await asyncio.sleep(random.uniform(0.0, 1.0))
                    await cluster.start_node(machine)
            cluster.network.faults = NetworkFaults()
            return [line for counter in counters for line in await counter.finish()]

    return run(main, seed)[0]


async def unequal(cluster: SimCluster) -> list[str]:
    """Partitions whose owners do not hold the same ballots."""
    topology = cluster.engines[0].peers.topology
    services = {machine.service.id: machine.service for machine in cluster.machines if machine.service}
    wrong = []
    for partition in range(topology.map.partitions):
        held = {}
        for node in topology.meta_view(partition).sets[-1]:
            reply, _ = await services[node].handle(RegPull(partition, b"", 1000, ballots_only=True), b"")
            assert isinstance(reply, RegPulled) and not reply.more
            held[node] = (tuple(reply.keys), reply.ballots)
        if len(set(held.values())) > 1:
            wrong.append(f"the replicas of partition {partition} differ: {[len(keys) for keys, _ in held.values()]}")
    return wrong
