"""Nodes are added, drained, replaced and removed under load, while nodes, repairers, coordinator and operator are
killed: nothing is lost, the cluster comes to rest with the members that were wanted, and nothing moves in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from objstore.cluster.port import MAP_KEY, PLAN_KEY
from objstore.model.cluster import decode_map
from objstore.node import index
from objstore.placement.preview import moves_min
from tests.sim import layouts
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import run
from tests.sim.plan import quiet
from tests.sim.seeds import first_of
from tests.sim.workload import Workload, make_bucket

PAUSES_S = (0.05, 4.0)


class Harm:
    """Ends one process after the other and starts it again, m nodes away at most."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.done: list[str] = []

    async def run(self, until: asyncio.Event) -> None:
        chance = self.cluster.random
        while not until.is_set():
            await asyncio.sleep(chance.uniform(*PAUSES_S))
            victim = chance.choice(("repairer1", "repairer2", "coordinator", "operator", "node", "node"))
            self.done.append(victim)
            if victim == "node":
                await self._node()
            elif victim == "operator":
                self.cluster.loop.kill(layouts.NAME)
            else:
                self.cluster.stop(victim)
                await asyncio.sleep(chance.uniform(0.0, 3.0))
                await self.cluster.start(victim)

    async def _node(self) -> None:
        machine = self.cluster.random.choice([one for one in self.cluster.machines if one.up and one.member])
        self.cluster.kill(machine, power=self.cluster.random.random() < 0.5)
        await asyncio.sleep(self.cluster.random.choice((0.5, 3.0, 9.0)))
        await self.cluster.start_node(machine)


async def spare(cluster: SimCluster) -> SimNode:
    machine = cluster.add_machine()
    machine.member = False
    await cluster.start_node(machine)
    return machine


async def until(
    cluster: SimCluster, step: Callable[[], Awaitable[None]], reached: Callable[[], Awaitable[bool]]
) -> None:
    """The operator does it again until it is so: it may be killed, or give up, or be refused for the moment."""
    for _ in range(12):
        await step()
        if await reached():
            return
    raise AssertionError(f"the plan is never carried out: {cluster.peek(PLAN_KEY)!r}")


async def reshape(cluster: SimCluster) -> None:
    """One node more, another one for n2, and n3 goes."""
    new, heir = await spare(cluster), await spare(cluster)
    n2, n3 = cluster.machines[1], cluster.machines[2]

    async def share(machine: SimNode) -> bool:
        return await layouts.has_share(cluster, machine)

    async def no_share(machine: SimNode) -> bool:
        return not await share(machine)

    async def gone(machine: SimNode) -> bool:
        return not await layouts.is_member(cluster, machine)

    await until(cluster, lambda: layouts.add(cluster, new), lambda: share(new))
    new.member = True
    await until(cluster, lambda: layouts.replace(cluster, n2, heir), lambda: share(heir))
    heir.member = True
    assert await no_share(n2)
    await until(cluster, lambda: layouts.drain(cluster, n3), lambda: no_share(n3))
    for machine in (n2, n3):
        machine.member = False  # it is not killed any more: it must run to be emptied
        await until(cluster, partial(layouts.remove, cluster, machine), partial(gone, machine))
        cluster.kill(machine)
        cluster.wipe(machine)  # INV-17: nothing of it is missed


async def scenario(seed: int) -> list[str]:
    plan = quiet(seed)
    cluster = SimCluster(seed, nodes=8, repair={"orphan_age_s": 20.0, "orphan_round_s": 5.0})
    async with cluster:
        work = Workload(cluster, plan.keys, plan.clients, plan.operations, 1.0)
        await make_bucket(cluster, work.bucket)
        harm, over = Harm(cluster), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            harming = group.create_task(harm.run(over))
            await reshape(cluster)
            over.set()
            await harming
        left = await cluster.converged(120.0)
        await work.final_reads()
        assert not left, left
        assert cluster.peek(PLAN_KEY) is None or decode_map(cluster.peek(MAP_KEY) or b"").plan
        return work.history.judge()


@pytest.mark.parametrize("seed", first_of(2, range(4)))
def test_nodes_come_and_go_while_everything_is_killed(seed: int) -> None:
    wrong, _ = run(lambda: scenario(seed), seed)
    assert wrong == []


def test_a_plan_is_carried_out_once_and_moves_no_more_than_it_must() -> None:
    """INV-17: whoever dies between the steps. And a move is made once: home is written, and nothing else."""

    async def main() -> None:
        async with SimCluster(7, nodes=8) as cluster:
            plan = quiet(7)
            work = Workload(cluster, plan.keys, plan.clients, plan.operations, 0.0)
            await make_bucket(cluster, work.bucket)
            await work.run()
            assert not await cluster.converged(60.0)
            before = decode_map(cluster.peek(MAP_KEY) or b"")
            machine = await spare(cluster)
            await layouts.add(cluster, machine)
            machine.member = True
            assert not await cluster.converged(60.0)
            after = decode_map(cluster.peek(MAP_KEY) or b"")
            assert after.current.epoch == before.current.epoch + 1 and after.plan
            assert cluster.peek(PLAN_KEY) is None, "the record goes when the map has it"
            assert after.leaving == () and len(after.nodes) == 9
            survey = await cluster.survey()
            assert survey is not None
            least = moves_min(before.current.layout, after.current.layout, after.nodes)
            slots = len(after.current.layout.data) * after.code.shards
            held = sum(held.fragments for held in survey.nodes.values())
            assert survey.nodes[machine.service.id].fragments <= 2.5 * held * least / slots + 8  # type: ignore[union-attr]

    run(main, 7)


def test_a_write_from_before_a_drain_stores_nothing_on_the_node_that_leaves() -> None:
    """INV-17: what came after the last look would leave with the node."""

    async def main() -> None:
        async with SimCluster(41, nodes=8) as cluster:
            one, leaving = cluster.engines[0], cluster.machines[2]
            await one.create_bucket("b")
            go_on = asyncio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield bytes(30_000)
                await go_on.wait()
                yield bytes(40_000)

            puts = [asyncio.ensure_future(one.put_object("b", f"k{n}", slow(), 70_000, {})) for n in range(12)]
            await asyncio.sleep(1)
            cluster.network.blocked |= {("gateway1", "coordinator"), ("coordinator", "gateway1")}
            await layouts.drain(cluster, leaving)
            assert not await layouts.has_share(cluster, leaving)
            go_on.set()
            await asyncio.gather(*puts)
            assert leaving.service is not None and not [one for one, _ in leaving.kv.scan(index.FRAG, b"")]
            await layouts.remove(cluster, leaving)
            assert not await layouts.is_member(cluster, leaving)
            for number in range(12):
                info = await cluster.engines[1].head_object("b", f"k{number}")
                assert not any(blob.absent for blob in info.blobs)

    run(main, 41)
