"""Nodes that lose their index alone, and what their record journals say after a bad time."""

from __future__ import annotations

import asyncio

import pytest

from objstore.node.journal import files_in
from objstore.node.service import TABLES
from tests.sim.checks import journal_differs
from tests.sim.cluster import SimCluster
from tests.sim.kv import SimKV
from tests.sim.loop import run
from tests.sim.seeds import first_of
from tests.sim.test_cluster import body, get


@pytest.mark.parametrize("seed", first_of(1, range(3)))
def test_a_node_without_index_takes_its_old_place_and_then_needs_its_old_journal_no_more(seed: int) -> None:
    async def main() -> None:
        async with SimCluster(100 + seed, nodes=7) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            data = {f"k{i}-{size}": cluster.random.randbytes(size) for i in range(5) for size in (5, 40_000, 400_000)}
            for key, content in data.items():
                await one.put_object("b", key, body(content), len(content), {})
            for machine in cluster.machines[seed : seed + 3]:
                assert machine.service is not None
                former = machine.service.id
                cluster.kill(machine, power=True)
                machine.kv = SimKV(TABLES)
                await cluster.start_node(machine)
                assert machine.service is not None and machine.service.has_lost_records
                await two.put_object("b", f"while {machine.name} is a stranger", body(b"x"), 1, {})
                assert await cluster.converged(120) == ""
                await asyncio.sleep(40.0)  # the repairer looks for such journals twice a minute
                assert former not in files_in(machine.disk), "nobody needs that journal"
                assert not machine.service.has_lost_records
            for key, content in data.items():
                assert await get(two, "b", key) == content
            for machine in cluster.machines:
                assert journal_differs(machine, cluster.cluster_id) == []

    run(main, 100 + seed)


@pytest.mark.parametrize("seed", first_of(2, range(4)))
def test_journals_and_rows_agree_after_kills_and_power_cuts(seed: int) -> None:
    async def main() -> None:
        async with SimCluster(200 + seed, nodes=7) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            for i in range(60):
                engine = (one, two)[i % 2]
                await engine.put_object("b", f"k{i % 9}", body(bytes([i]) * 2000), 2000, {})
                if i % 4 == 3:
                    await engine.delete_object("b", f"k{(i * 7) % 9}")
                if i % 10 == 5:
                    machine = cluster.machines[cluster.random.randrange(7)]
                    cluster.kill(machine, power=True)
                    await cluster.start_node(machine)
                    assert journal_differs(machine, cluster.cluster_id) == []
            assert await cluster.converged(120) == ""
            for machine in cluster.machines:
                assert journal_differs(machine, cluster.cluster_id) == []
                assert machine.service is not None and not machine.service.has_lost_records

    run(main, 200 + seed)
