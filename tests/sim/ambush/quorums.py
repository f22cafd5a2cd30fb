"""Ambushes of registers: power cuts between answer and disk, split views, clocks apart, results forgotten."""

from __future__ import annotations

import asyncio

from objstore.model import limits
from objstore.model.cluster import ErasureCode
from objstore.model.errors import ObjstoreError
from tests.sim.ambush.counting import Counter
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import run
from tests.sim.network import NetworkFaults

CALM = NetworkFaults()
ROUGH = NetworkFaults(loss=0.05, repeat=0.05, slow=0.15, slow_s=0.4)
SMALL = ErasureCode(2, 1)  # three replicas per register


def counters(seed: int) -> list[str]:
    """Counters on slow disks over a rough network, while nodes lose power again and again, alone or together."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1) as cluster:
            counter = Counter(cluster)
            await counter.add(cluster.engines[0])
            cluster.network.faults = ROUGH
            for machine in cluster.machines:
                cluster.loop.slow_jobs[machine.name] = (0.05, 0.3)[seed % 2]
            end = cluster.loop.time() + 8.0
            async with asyncio.TaskGroup() as group:
                for engine in cluster.engines * 3:
                    group.create_task(counter.client(engine, end, pause_s=0.05))
                group.create_task(_cut_power(cluster, end))
            cluster.network.faults = CALM
            return await counter.finish()

    return run(main, seed)[0]


def glimpses(seed: int) -> list[str]:
    """Somebody reads all the time. At some of the moments when he sees something new, or a writer is told that his
    addition is done, all power is gone. Messages often come twice."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1) as cluster:
            counter = Counter(cluster)
            await counter.add(cluster.engines[0])
            cluster.network.faults = NetworkFaults(repeat=0.4)
            for machine in cluster.machines:
                cluster.loop.slow_jobs[machine.name] = 0.1
            end = cluster.loop.time() + 6.0
            async with asyncio.TaskGroup() as group:
                group.create_task(counter.client(cluster.engines[0], end, pause_s=0.05, reads=0.0))
                group.create_task(_watch(cluster, counter, end))
            return await counter.finish()

    return run(main, seed)[0]


async def _watch(cluster: SimCluster, counter: Counter, until: float) -> None:
    while cluster.loop.time() < until:
        known = (len(counter.last), len(counter.told))
        try:
            await counter.read(cluster.engines[1])
        except ObjstoreError:
            continue
        if known != (len(counter.last), len(counter.told)) and cluster.random.random() < 0.3:
            for machine in cluster.machines:
                cluster.kill(machine, power=True)
            await restart(cluster)


async def _cut_power(cluster: SimCluster, until: float) -> None:
    random = cluster.random
    while cluster.loop.time() < until:
        await asyncio.sleep(random.uniform(0.02, 0.6))
        for machine in random.sample(cluster.machines, random.choice((1, 1, 2, 3, 4))):
            cluster.kill(machine, power=True)
        await restart(cluster)


async def restart(cluster: SimCluster) -> None:
    """All machines that are off come up."""
    for machine in cluster.machines:
        if not machine.up:
            await cluster.start_node(machine)


def clocks(seed: int) -> list[str]:
    """Gateways whose clocks are hours apart share a counter. Nothing else is wrong, so nothing may fail."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1) as cluster:
            counter = Counter(cluster)
            cluster.clock("gateway1").skew_ms = cluster.random.randrange(-7_200_000, 7_200_000)
            wrong = []
            for _ in range(12):
                engine = cluster.random.choice(cluster.engines)
                try:
                    await counter.add(engine)
                except ObjstoreError as error:
                    wrong.append(f"gateway {cluster.engines.index(engine) + 1}: {error}")
            return wrong + await counter.finish()

    return run(main, seed)[0]


def forgotten(seed: int) -> list[str]:
    """Results are kept for two operations only, and many clients race on a rough network: late retries are common."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1) as cluster:
            counter = Counter(cluster)
            cluster.network.faults = NetworkFaults(loss=0.2, repeat=0.05, slow=0.2, slow_s=0.6)
            end = cluster.loop.time() + 6.0
            async with asyncio.TaskGroup() as group:
                for engine in cluster.engines * 4:
                    group.create_task(counter.client(engine, end, pause_s=0.02))
            cluster.network.faults = CALM
            return await counter.finish()

    kept, limits.OPS_KEPT_MAX = limits.OPS_KEPT_MAX, 2
    try:
        return run(main, seed)[0]
    finally:
        limits.OPS_KEPT_MAX = kept


async def owners(cluster: SimCluster, counter: Counter) -> list[SimNode]:
    """The machines that own the counter now, by slot."""
    topology = cluster.engines[0].peers.topology
    by_id = {machine.service.id: machine for machine in cluster.machines if machine.service}
    sets = topology.meta_view(topology.partition_of_register(counter.key)).sets
    return [by_id[node] for node in sets[-1]]


def split(seed: int) -> list[str]:
    """An owner is cut off from the coordinator, so another takes its place; but one gateway, cut off as well, still
    reaches it. Links between gateways and owners come and go, and so do the processes of the owners."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=5, code=SMALL, repairer_count=1) as cluster:
            random, network = cluster.random, cluster.network
            counter = Counter(cluster)
            await counter.add(cluster.engines[0])
            old = await owners(cluster, counter)
            lost = random.choice(old)
            network.faults = NetworkFaults(slow=0.1, slow_s=0.3)
            end = cluster.loop.time() + 16.0
            blocked = both(("coordinator", lost.name), ("coordinator", "gateway2"), ("gateway1", lost.name))
            async with asyncio.TaskGroup() as group:
                for engine in cluster.engines * 2:
                    group.create_task(counter.client(engine, end, pause_s=0.1))
                while cluster.loop.time() < end:
                    some = random.choice(old)
                    links = both(("gateway2", random.choice([m for m in old if m is not lost]).name))
                    if random.random() < 0.3:
                        links |= both(("gateway1", some.name))
                    network.blocked = blocked | links
                    if random.random() < 0.2:
                        cluster.kill(some, power=random.random() < 0.5)
                        await cluster.start_node(some)
                    await asyncio.sleep(random.uniform(0.3, 2.0))
            network.faults, network.blocked = CALM, set()
            if left := await cluster.converged(60):
                return [left]
            return await counter.finish()

    return run(main, seed)[0]


def withdrawn(seed: int) -> list[str]:
    """One acceptor alone has heard of two writes, the second on condition of the first. A retry of the second asks the
    other two acceptors, which agree that the condition does not hold. What it is told then must stay true (INV-3)."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=4, code=SMALL, repairer_count=1) as cluster:
            random, network = cluster.random, cluster.network
            counters = [Counter(cluster, b"counter%d" % number) for number in range(8)]
            for counter in counters:
                await counter.add(cluster.engines[0])
            trio = [machine.name for machine in await owners(cluster, counters[0])]
            alone, middle, far = random.sample(trio, 3)
            network.blocked = both(("repairer1", alone), ("repairer1", middle), ("repairer1", far))  # heals nothing
            first = [asyncio.ensure_future(counter.add(cluster.engines[0])) for counter in counters]
            await asyncio.sleep(random.uniform(0.0015, 0.004))
            network.blocked |= both(("gateway1", middle), ("gateway1", far))
            await asyncio.sleep(0.2)
            for task in first:
                task.cancel()
            network.blocked |= both(("gateway2", far))
            second = [asyncio.ensure_future(counter.add_to_even(cluster.engines[1])) for counter in counters]
            await asyncio.sleep(random.uniform(0.0015, 0.004))
            network.blocked |= both(("gateway2", middle))
            await asyncio.sleep(random.uniform(0.1, 3.9))
            network.blocked -= both(("gateway2", middle), ("gateway2", far))
            network.blocked |= both(("gateway2", alone))
            await asyncio.gather(*first, *second, return_exceptions=True)
            network.blocked = both(("gateway1", middle))
            await asyncio.sleep(4.5)
            for counter in counters:
                await counter.read(cluster.engines[0])
            network.blocked = set()
            return [line for counter in counters for line in await counter.finish()]

    return run(main, seed)[0]


def both(*pairs: tuple[str, str]) -> set[tuple[str, str]]:
    return {*pairs, *((b, a) for a, b in pairs)}
