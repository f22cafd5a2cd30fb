"""Lifecycle in the simulated cluster: a repairer carries out the rules, and the next one when that dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from objstore.cluster.port import LIFECYCLE_KEY
from objstore.engine.engine import Engine
from objstore.lifecycle.settings import LifecycleSettings
from objstore.model import bucketconfig
from objstore.model.lifecycle import BucketLifecycle, LifecycleProgress, LifecycleRule, decode_progress
from objstore.model.survey import Survey
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import SETTINGS, MappedCluster, Repaired, body, get

RULES = (
    LifecycleRule("old", True, prefix="tmp/", days=1),
    LifecycleRule("versions", True, noncurrent_days=1, abort_days=1),
)


async def progress_of(sim: SimCluster) -> LifecycleProgress:
    entry = await sim.coordinator("").get(LIFECYCLE_KEY)
    return decode_progress(entry.value) if entry is not None else LifecycleProgress()


async def fill(engine: Engine, names: list[str], *, versioning: str = "") -> None:
    config = bucketconfig.encoded(BucketLifecycle(RULES))
    await engine.create_bucket("b", versioning=versioning, config=config)
    for name in names:
        data = name.encode() * 20_000
        await engine.put_object("b", name, body(data), len(data), {})


async def keys(engine: Engine) -> list[str]:
    return [entry.key for entry in (await engine.list_objects("b")).entries]


def test_a_repairer_carries_out_the_rules_and_the_bytes_go() -> None:
    async def main() -> None:
        async with MappedCluster(11) as sim:
            engine = sim.engines[0]
            await fill(engine, ["keep", "tmp/a", "tmp/b"], versioning="Enabled")
            upload = await engine.create_upload("b", "tmp/big", {})
            await engine.put_part("b", "tmp/big", upload, 1, body(b"x" * 50_000), 50_000)
            days = LifecycleSettings(interval_s=5.0, day_ms=10_000)
            repaired = Repaired(sim, replace(SETTINGS, lifecycle=days, garbage_delay_s=1.0, orphan_round_s=5.0))
            await repaired.start("r1")

            def all_gone(survey: Survey) -> bool:
                done = survey.lifecycle
                stored = sum(one.fragments for one in survey.nodes.values())
                return done is not None and done.ever.expired == 4 and stored == 6  # of "keep"

            survey = await repaired.until(all_gone)
            assert survey.lifecycle is not None
            assert (survey.lifecycle.ever.marked, survey.lifecycle.ever.aborted) == (2, 1)
            assert survey.lifecycle.ever.errors == 0
            assert await keys(sim.engines[1]) == ["keep"]
            assert not (await engine.list_uploads("b")).uploads
            versions = (await sim.engines[1].list_versions("b")).entries
            assert [one.key for one in versions] == ["keep"]
            assert await get(sim.engines[1], "b", "keep") == b"keep" * 20_000

    run(main, 11)


def test_the_next_leader_goes_on_with_the_round_of_the_first() -> None:
    async def main() -> None:
        async with MappedCluster(12) as sim:
            engine = sim.engines[0]
            await fill(engine, ["keep", "tmp/a"])
            days = LifecycleSettings(interval_s=3.0, day_ms=20_000)
            repaired = Repaired(sim, replace(SETTINGS, lifecycle=days))
            await repaired.start("r1")
            await repaired.start("r2")
            first = await repaired.until(lambda s: s.lifecycle is not None and s.lifecycle.last_ended_ms > 0)
            repaired.kill(first.leader)
            second = await repaired.until(
                lambda s: s.leader != first.leader and s.lifecycle is not None and s.lifecycle.ever.expired == 1
            )
            assert second.lifecycle is not None and first.lifecycle is not None
            assert second.lifecycle.ever.buckets > first.lifecycle.ever.buckets, "it counts on"
            assert await keys(engine) == ["keep"]
            await asyncio.sleep(0)
            assert (await progress_of(sim)).ever.errors == 0

    run(main, 12)
