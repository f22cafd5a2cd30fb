"""Seeds with faults: what clients saw is linearizable, nothing acknowledged is lost, no byte is wrong."""

import asyncio

import pytest

from objstore.model.errors import BucketAlreadyExists, Unavailable
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.network import NetworkFaults
from tests.sim.workload import Workload, break_things

SEEDS = 40  # and those that once failed, below


async def scenario(seed: int) -> list[str]:
    faults = NetworkFaults(loss=0.01, repeat=0.02, slow=0.02, slow_s=2.0)
    async with SimCluster(seed, faults=faults) as cluster:
        work = Workload(cluster)
        await create_bucket(cluster, work.bucket)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            group.create_task(break_things(cluster, 6.0))
        cluster.network.faults = NetworkFaults()
        left = await cluster.converged(120)
        wrong = await work.final_reads()
        return [left] * bool(left) + wrong + work.judge()


async def create_bucket(cluster: SimCluster, name: str) -> None:
    """Until it is there: the network is lossy already."""
    while True:
        try:
            await cluster.engines[0].create_bucket(name)
        except BucketAlreadyExists:
            return  # an earlier try whose answer was lost
        except Unavailable:
            await asyncio.sleep(0.5)
        else:
            return


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_faulty_runs_are_linearizable_and_lose_nothing(first: int) -> None:
    for seed in range(first, first + 10):
        wrong, _ = run(lambda seed=seed: scenario(seed), seed)  # type: ignore[misc]
        assert not wrong, f"seed {seed}:\n" + "\n".join(wrong)


def test_seed_652_reads_ask_members_whose_lease_this_gateway_does_not_know_of() -> None:
    wrong, _ = run(lambda: scenario(652), 652)
    assert not wrong
