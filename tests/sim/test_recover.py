"""Every index is lost at once, and recovery brings all of it back: nothing that a client was told becomes untrue
(INV-14)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

import pytest

from objstore.cluster.embedded import TABLE
from objstore.model.errors import Conflict
from objstore.node.service import TABLES
from objstore.recovery.procedure import Defaults, Finding, Recovery
from objstore.wire.messages import RegPull, RegPulled
from tests.sim import uploads
from tests.sim.cluster import PARTITION_BITS, SimCluster, SimNode, SimRandom
from tests.sim.disk import SimDisk
from tests.sim.faults import Faults
from tests.sim.kv import SimKV
from tests.sim.loop import run
from tests.sim.network import NetworkFaults, SimTransport
from tests.sim.plan import Plan, draw
from tests.sim.runner import small_sizes
from tests.sim.seeds import first_of
from tests.sim.workload import Workload, make_bucket
from tests.unit.repair.rig import body

DESTROYING = ("wipe", "rot", "cut", "drain")  # faults that leave no room for lost machines on top


def lose_power(cluster: SimCluster) -> None:
    """Of everything at once; nothing runs any more."""
    for machine in cluster.machines:
        if machine.up:
            cluster.kill(machine, power=True)
    for process in list(cluster.loop.tasks_of):
        if process and process != "operator":
            cluster.stop(process)
    cluster.coordinator_kv.crash(cluster.random)
    cluster.coordinator_disk.crash(cluster.random)


def lose_indexes(cluster: SimCluster, kept: list[SimNode], *, coordinator: str) -> None:
    """All but those kept. coordinator: "" = as it was; "store" = its store is lost; "all" = the file beside it too."""
    for machine in cluster.machines:
        if machine not in kept:
            machine.kv = SimKV(TABLES)
    if coordinator:
        cluster.coordinator_kv = SimKV((TABLE,))
    if coordinator == "all":
        cluster.coordinator_disk = SimDisk()


async def start_all(cluster: SimCluster, missing: list[SimNode]) -> None:
    """All but the gateways, which wait for a map."""
    cluster.network.faults = NetworkFaults()
    await cluster.start("coordinator")
    for machine in cluster.machines:
        if machine not in missing:
            await cluster.start_node(machine)
    for i in range(cluster.repairer_count):
        await cluster.start(f"repairer{i + 1}")


async def start_gateways(cluster: SimCluster) -> None:
    for i in range(cluster.gateways):
        await cluster.start(f"gateway{i + 1}")


def operator(cluster: SimCluster) -> Recovery:
    transport = SimTransport(cluster.network, "operator")
    chance = SimRandom(cluster.random.getrandbits(60))
    defaults = Defaults(cluster.code, PARTITION_BITS, cluster.codec, cluster.nodes)
    return Recovery(cluster.coordinator("operator"), transport, chance, defaults, lambda *_: None)


async def recover(cluster: SimCluster, *, tries: str) -> Finding:
    """tries: a letter each; i = interrupted at a random moment, t = two at once. Then once to the end."""
    for kind in tries:
        tasks = [asyncio.create_task(_once(cluster)) for _ in range(1 + (kind == "t"))]
        if kind == "i":
            await asyncio.sleep(cluster.random.uniform(0.0, 0.4))
            tasks[0].cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, (asyncio.CancelledError, Conflict)):
                raise outcome
    return await _once(cluster)


async def _once(cluster: SimCluster) -> Finding:
    await asyncio.sleep(cluster.random.uniform(0.0, 0.1))
    found = await operator(cluster).examine()
    if found.is_needed:  # not after a run that was interrupted when it was nearly done
        await operator(cluster).carry_out(found)
    return found


@dataclass(frozen=True)
class Disaster:
    """What is lost besides the indexes, and what happens until they are back."""

    machines: int  # that are missing
    late: bool  # ... and come back once it is over, as they were; else their disks are gone
    survivors: int  # machines that keep their index
    coordinator: str
    patience_s: float  # until somebody does something about it
    tries: str

    @classmethod
    def draw(cls, plan: Plan) -> Disaster:
        chance = random.Random(f"disaster {plan.seed}")
        room = min(plan.code.m, plan.nodes - plan.code.nodes_min)
        return cls(
            machines=chance.choice((0, 0, chance.randint(0, room))),
            late=chance.random() < 0.7,
            survivors=chance.choice((0, 0, 1, chance.randint(1, plan.nodes - 1))),
            coordinator=chance.choice(("", "store", "store", "all")),
            patience_s=chance.choice((3.0, 3.0, 12.0)),
            tries=chance.choice(("", "", "i", "ii", "iii", "t", "it")),
        )


async def scenario(plan: Plan, disaster: Disaster) -> list[str]:
    cluster = SimCluster(
        plan.seed,
        nodes=plan.nodes,
        code=plan.code,
        gateways=plan.gateways,
        repairer_count=plan.repairers,
        faults=plan.network,
        zones=plan.zones,
        repair={"tombstone_age_s": 0.5},
    )
    async with cluster:
        work = Workload(cluster, plan.keys, plan.clients, plan.operations, plan.pause_s)
        faults = Faults(cluster, plan)
        await make_bucket(cluster, work.bucket)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            group.create_task(uploads.upload(work))
            group.create_task(faults.run())
        await asyncio.sleep(cluster.random.choice((0.0, 0.5, 8.0)))
        lose_power(cluster)
        missing = cluster.random.sample(cluster.machines, disaster.machines)
        kept = cluster.random.sample(cluster.machines, disaster.survivors)
        late = missing if disaster.late else []
        lose_indexes(cluster, [*kept, *late], coordinator=disaster.coordinator)
        await start_all(cluster, missing)
        await asyncio.sleep(disaster.patience_s)
        found = await recover(cluster, tries=disaster.tries)
        wrong = [f"{found.outlook} after {disaster}"] * bool(found.outlook.unsure)
        await start_gateways(cluster)
        for machine in cluster.machines:  # whoever makes a map anew takes all that run
            machine.member = machine.member or disaster.coordinator == "all"
        await Workload.run(work)
        for machine in late:
            await cluster.start_node(machine)
        if disaster.coordinator == "all":  # who was away then belongs to nothing now
            for machine in late:
                machine.member = False
        if not missing or late:
            left = await cluster.converged(180.0)
            wrong += [f"the cluster does not heal: {left}"] * bool(left)
        await work.final_reads()
        return wrong + work.history.judge()


def play(seed: int) -> list[str]:
    plan = draw(seed)
    disaster = Disaster.draw(plan)
    network = replace(plan.network, slow=0.0, loss=min(plan.network.loss, 0.01))
    plan = replace(plan, network=network)  # how long operations take is not the matter here
    if disaster.machines:
        plan = replace(plan, faults=tuple(fault for fault in plan.faults if fault.kind not in DESTROYING))
    with small_sizes():
        wrong, _ = run(lambda: scenario(plan, disaster), seed)
    return wrong and [str(disaster), *wrong]


@pytest.mark.parametrize("first", first_of(1, range(0, 20, 5)))
def test_all_metadata_comes_back_after_every_index_was_lost(first: int) -> None:
    for seed in range(first, first + 5):
        wrong = play(seed)
        assert not wrong, f"seed {seed}:\n" + "\n".join(wrong)


async def floors(cluster: SimCluster) -> dict[int, list[bytes]]:
    """Of every partition, those of its owners, the lowest first."""
    peers = cluster.engines[0].peers
    found: dict[int, list[bytes]] = {}
    for partition in range(peers.topology.map.partitions):
        pages = [
            (await peers.call(node, RegPull(partition, b"", 1)))[0]
            for node in peers.topology.meta_view(partition).sets[0]
        ]
        found[partition] = sorted(page.floor for page in pages if isinstance(page, RegPulled))
    return found


def test_recovery_keeps_the_floors_of_what_was_forgotten() -> None:
    """A deletion whose tombstone is forgotten is known by the floor alone: without it, an old value or a late accept
    would bring the key back (INV-11, INV-14)."""

    async def main() -> None:
        async with SimCluster(5, nodes=6, repairer_count=1, repair={"tombstone_age_s": 0.5}) as cluster:
            engine = cluster.engines[0]
            await make_bucket(cluster, "b")
            for number in range(30):
                await engine.put_object("b", f"k{number}", body(b"x"), 1, {})
                await engine.delete_object("b", f"k{number}")
            await asyncio.sleep(40)
            before = await floors(cluster)
            assert any(any(lowest) for lowest, *_ in before.values()), "nothing was forgotten"
            lose_power(cluster)
            lose_indexes(cluster, [], coordinator="")
            await start_all(cluster, [])
            await asyncio.sleep(3)
            await recover(cluster, tries="")
            await start_gateways(cluster)
            await asyncio.sleep(5)
            for partition, after in (await floors(cluster)).items():
                of_a_majority = after[(len(after) - 1) // 2]
                assert of_a_majority >= before[partition][0], partition

    run(main, 5)
