"""One seed from plan to judgement: `run_seed(seed)` says what is wrong; [] if nothing is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from objstore.engine import writing
from objstore.model import limits
from tests.sim import buckets, checks, uploads
from tests.sim.cluster import SimCluster
from tests.sim.faults import Faults
from tests.sim.history import History
from tests.sim.loop import run
from tests.sim.network import NetworkFaults
from tests.sim.plan import Plan, draw, quiet
from tests.sim.versions import Versions
from tests.sim.workload import Workload, make_bucket

CONVERGE_S = 180.0  # virtual seconds
ENDLESS_S = 1800.0


@dataclass
class Report:
    plan: Plan
    wrong: list[str] = field(default_factory=list)
    trace: str = ""  # equal in equal runs
    seconds: float = 0.0  # virtual
    messages: int = 0
    operations: int = 0
    failed: int = 0
    longest: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)  # faults as they happened
    history: History | None = None


def run_seed(seed: int, *, without_faults: bool = False) -> list[str]:
    """What is wrong."""
    return run_plan(quiet(seed) if without_faults else draw(seed)).wrong


def run_plan(plan: Plan) -> Report:
    report = Report(plan)
    with small_sizes():
        try:
            _, loop = run(lambda: _scenario(plan, report), plan.seed, within_s=ENDLESS_S)
        except Exception as error:
            report.wrong.append(f"the run broke: {error!r}")
            raise
    report.trace, report.seconds = loop.trace, loop.time() - 1000.0
    return report


async def _scenario(plan: Plan, report: Report) -> None:
    cluster = SimCluster(
        plan.seed,
        nodes=plan.nodes,
        code=plan.code,
        gateways=plan.gateways,
        repairer_count=plan.repairers,
        faults=plan.network,
        zones=plan.zones,
        repair={
            "orphan_age_s": plan.orphan_age_s,
            "orphan_round_s": 3.0,
            "tombstone_age_s": plan.tombstone_age_s,
        },
        quick=frozenset(f"n{number}" for number in range(1, plan.nodes + 1, 2)),
    )
    async with cluster:
        work = Workload(cluster, plan.keys, plan.clients, plan.operations, plan.pause_s, quiet=plan.quiet)
        faults, versions = Faults(cluster, plan), Versions(work)
        report.history, report.log = work.history, faults.log
        await make_bucket(cluster, work.bucket)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            group.create_task(_upload(work, plan))
            group.create_task(_meddle(work, plan))
            group.create_task(versions.run())
            group.create_task(faults.run())
        cluster.network.faults = NetworkFaults()
        report.wrong += await _account(cluster, work, faults, versions)
        buckets.spare_ghosts(work)
        report.wrong += work.history.judge()
        report.messages = cluster.network.messages
    report.operations, report.failed = work.history.done, work.history.failed
    report.longest = work.history.longest


async def _upload(work: Workload, plan: Plan) -> None:
    for _ in range(plan.operations // 4):
        await asyncio.sleep(work.cluster.random.uniform(0, plan.pause_s * 4))
        await uploads.upload(work)


async def _meddle(work: Workload, plan: Plan) -> None:
    async def client() -> None:
        for _ in range(plan.operations // 3):
            await asyncio.sleep(work.cluster.random.uniform(0, plan.pause_s))
            await buckets.meddle(work)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(client())


async def _account(cluster: SimCluster, work: Workload, faults: Faults, versions: Versions) -> list[str]:
    """The run is over and everything works again: nothing may be lost, left over or stuck."""
    left = await cluster.converged(CONVERGE_S)
    if left:
        return [f"the cluster does not heal: {left}"]
    damaged, wrong = await checks.verify_fragments(cluster, faults.explains)
    if damaged:
        left = await cluster.converged(CONVERGE_S)
        wrong += [f"the cluster does not heal after damage was found: {left}"] * bool(left)
    await checks.make_old(cluster)
    await uploads.end_all(work)
    wrong += await checks.collected(cluster)
    await work.final_reads()
    await versions.account()
    wrong += await checks.stuck(cluster)
    return wrong


@contextlib.contextmanager
def small_sizes() -> Iterator[None]:
    """Everything a good deal smaller, so that small bodies have many segments, stripes, streams and parts."""
    before = limits.INLINE_SIZE_MAX, limits.CELL_SIZE, limits.SEGMENT_SIZE, limits.PART_SIZE_MIN
    kept, one_shot = limits.INLINE_KEPT_MAX, writing.ONE_SHOT_BYTES_MAX
    limits.INLINE_SIZE_MAX, limits.CELL_SIZE = 4 * limits.KIB, 8 * limits.KIB
    limits.INLINE_KEPT_MAX = 6 * limits.KIB
    limits.SEGMENT_SIZE, limits.PART_SIZE_MIN = 64 * limits.KIB, 50_000
    writing.ONE_SHOT_BYTES_MAX = 14 * limits.KIB
    try:
        yield
    finally:
        limits.INLINE_SIZE_MAX, limits.CELL_SIZE, limits.SEGMENT_SIZE, limits.PART_SIZE_MIN = before
        limits.INLINE_KEPT_MAX, writing.ONE_SHOT_BYTES_MAX = kept, one_shot
