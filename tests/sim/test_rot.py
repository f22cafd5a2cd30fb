"""Rows of the indexes rot, on m nodes or on all: no client hears a wrong word; the cluster heals or is recovered."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from objstore.node import damage
from objstore.node.journal import files_in
from objstore.node.service import INDEX
from tests.sim import uploads
from tests.sim.checks import journal_differs
from tests.sim.cluster import SimCluster
from tests.sim.faults import Faults
from tests.sim.loop import run
from tests.sim.network import NetworkFaults
from tests.sim.plan import Fault, Plan, quiet
from tests.sim.runner import small_sizes
from tests.sim.seeds import first_of
from tests.sim.test_cluster import body, get
from tests.sim.test_recover import lose_power, recover, start_all, start_gateways
from tests.sim.workload import Workload, make_bucket


def rotten(seed: int) -> Plan:
    """m nodes, one after the other or at once, in the middle of the work."""
    plan, chance = quiet(seed), random.Random(f"rot {seed}")
    names = chance.sample([f"n{i + 1}" for i in range(plan.nodes)], plan.code.m)
    faults = [
        Fault(chance.uniform(2.0, 5.0), "rows", name, chance.choice((0.5, 4.0)), chance.choice((1, 20)))
        for name in names
    ]
    return replace(plan, faults=tuple(faults), pause_s=2.0, network=NetworkFaults(loss=chance.choice((0.0, 0.01))))


async def _rotten(plan: Plan) -> tuple[list[str], list[str]]:
    cluster = SimCluster(
        plan.seed, nodes=plan.nodes, code=plan.code, gateways=plan.gateways, faults=plan.network, zones=plan.zones
    )
    async with cluster:
        work = Workload(cluster, plan.keys, plan.clients, plan.operations, plan.pause_s)
        faults = Faults(cluster, plan)
        await make_bucket(cluster, work.bucket)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            group.create_task(uploads.upload(work))
            group.create_task(faults.run())
        cluster.network.faults = NetworkFaults()  # a lost heartbeat costs a lease here: no cluster comes to rest so
        left = await cluster.converged(180.0)
        await work.final_reads()
        wrong = [f"the cluster does not heal: {left}"] if left else []
        for machine in cluster.machines:
            wrong += journal_differs(machine, cluster.cluster_id)
        return wrong + work.history.judge(), faults.log


@pytest.mark.parametrize("first", first_of(1, range(0, 24, 4)))
def test_rows_rot_under_load(first: int) -> None:
    noticed = 0
    for seed in range(first, first + 4):
        plan = rotten(seed)
        with small_sizes():
            (wrong, log), _ = run(lambda plan=plan: _rotten(plan), seed)  # type: ignore[misc]
        assert not wrong, f"seed {seed}:\n" + "\n".join([*wrong, *log])
        noticed += sum("begins a new life" in line for line in log)
    assert noticed


@pytest.mark.parametrize("seed", range(3))
def test_all_nodes_think_that_their_index_is_damaged(seed: int) -> None:
    """As a bug could make them: nothing is deleted, and recovery brings all of it back."""

    async def main() -> None:
        async with SimCluster(300 + seed, nodes=7) as cluster:
            one, _ = cluster.engines
            await one.create_bucket("b")
            sizes = (0, 5, 40_000, 400_000)
            data = {f"k{i}-{size}": cluster.random.randbytes(size) for i in range(6) for size in sizes}
            for key, content in data.items():
                await one.put_object("b", key, body(content), len(content), {})
            await one.delete_object("b", "k0-5")
            lose_power(cluster)
            former = [next(iter(files_in(machine.disk))) for machine in cluster.machines]
            for machine in cluster.machines:
                damage.mark(machine.disk, INDEX, "a bug says so")
            await start_all(cluster, [])
            found = await recover(cluster, tries="")
            assert found.is_needed and not found.outlook.unsure
            await start_gateways(cluster)
            two = cluster.engines[1]
            for key, content in data.items():
                if key != "k0-5":
                    assert await get(two, "b", key) == content
            assert "k0-5" not in [entry.key for entry in (await two.list_objects("b")).entries]
            assert await cluster.converged(120) == ""
            for machine, name in zip(cluster.machines, former, strict=True):
                assert machine.service is not None and machine.service.id != name
                assert len(machine.former) == 1 and machine.disk.exists(f"{INDEX}.damaged-1")

    run(main, 300 + seed)
