"""Deletion: only on proof, only what is proven, and never more than allowed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from objstore.engine.announcing import announcement
from objstore.engine.engine import Engine
from objstore.engine.types import ALWAYS
from objstore.model.errors import GivenUp
from objstore.model.manifest import BlobRef
from objstore.model.notification import PUT, Origin
from objstore.repair.deletion import Breaker
from tests.sim.loop import run
from tests.unit.repair.rig import SETTINGS, MappedCluster, Repaired, body, get

IMPATIENT = replace(SETTINGS, garbage_delay_s=3.0, orphan_age_s=5.0, orphan_round_s=2.0)


async def store_without_commit(engine: Engine, key: str, size: int) -> tuple[BlobRef, ...]:
    """What a gateway leaves behind that dies between the fragments and the register."""
    objects = engine.put_object.__self__  # type: ignore[attr-defined]
    bucket = await engine._buckets.get("b")
    return (await objects.store(bucket, "b", key, body(bytes(size)), size, {}, None)).blobs  # type: ignore[no-any-return]


def test_fragments_of_a_write_that_never_committed_go_and_a_late_commit_is_refused() -> None:
    async def main() -> None:
        async with MappedCluster(41) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            data = sim.random.randbytes(50_000)
            await engine.put_object("b", "live", body(data), len(data), {"x-amz-meta-a": "1"})
            await engine.put_object("b", "inline", body(b"small"), 5, {})
            orphan = await store_without_commit(engine, "live", 60_000)
            other = await store_without_commit(engine, "inline", 60_000)
            repaired = Repaired(sim, IMPATIENT)
            await repaired.start("r1")
            await repaired.until(lambda s: sum(n.fragments for n in s.nodes.values()) == 18)
            await repaired.until(lambda s: sum(n.fragments for n in s.nodes.values()) == 6)
            assert await get(engine, "b", "live") == data
            assert await get(engine, "b", "inline") == b"small"
            assert (await engine.head_object("b", "live")).headers == {"x-amz-meta-a": "1"}
            assert [entry.key for entry in (await engine.list_objects("b")).entries] == ["inline", "live"]
            objects = engine.put_object.__self__  # type: ignore[attr-defined]
            bucket = await engine._buckets.get("b")
            for key, blobs in (("live", orphan), ("inline", other)):
                late = objects.new_version(60_000, "etag", {}, blobs, mode="")
                quiet = announcement({}, "b", key, Origin(), "")
                with pytest.raises(GivenUp):
                    await objects.commit(bucket.id, key, late, b"", ALWAYS, quiet, PUT, mode="")

    run(main, 41)


def test_a_register_keeps_its_proof_until_every_member_has_deleted() -> None:
    async def main() -> None:
        async with MappedCluster(42) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            repaired = Repaired(sim, replace(IMPATIENT, out_after_s=600.0))
            await repaired.start("r1")
            for i in range(6):
                await engine.put_object("b", f"k{i}", body(bytes(50_000)), 50_000, {})
            away = sim.machines[0]
            await repaired.until(lambda s: s.objects.total == 6)
            assert away.service is not None
            node = away.service.id
            held = (await repaired.survey()).nodes[node].fragments  # type: ignore[union-attr]
            assert held > 0
            sim.kill(away)
            for i in range(6):
                await engine.delete_object("b", f"k{i}")
            await repaired.until(lambda s: s.objects.total == 0 and sum(n.fragments for n in s.nodes.values()) == 0)
            await sim.start_node(away)
            await repaired.until(lambda s: s.nodes[node].fragments == held)
            await repaired.until(lambda s: s.nodes[node].fragments == 0)

    run(main, 42)


def test_what_was_replaced_just_now_can_be_read_on_while_something_older_goes() -> None:
    """A register names all that it retired, each with its time: were the delay asked of the oldest only, a reader that
    began before the last overwrite would find its bytes gone (INV-7)."""

    async def main() -> None:
        async with MappedCluster(73) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            datas = [bytes([number]) * 300_000 for number in range(20)]
            await one.put_object("b", "k", body(datas[0]), len(datas[0]), {})
            await Repaired(sim, replace(IMPATIENT, garbage_delay_s=10.0)).start("r1")
            await asyncio.sleep(3)
            for old, new in pairwise(datas):
                info = await two.head_object("b", "k")
                await one.put_object("b", "k", body(new), len(new), {})
                await asyncio.sleep(4)
                assert b"".join([bytes(piece) async for piece in two.read(info, 0, info.size)]) == old

    run(main, 73)


def test_the_circuit_breaker_stops_deletions_and_says_so() -> None:
    async def main() -> None:
        async with MappedCluster(43) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            repaired = Repaired(sim, replace(IMPATIENT, deletions_per_hour=12))
            await repaired.start("r1")
            for i in range(5):
                await engine.put_object("b", f"k{i}", body(bytes(50_000)), 50_000, {})
            await repaired.until(lambda s: s.objects.total == 5)
            for i in range(5):
                await engine.delete_object("b", f"k{i}")
            stopped = await repaired.until(lambda s: "hourly limit" in s.repair.reason)
            await asyncio.sleep(30)
            survey = await repaired.survey()
            assert stopped.repair.state == "idle" and survey is not None
            assert sum(n.fragments for n in survey.nodes.values()) == 3 * 6

    run(main, 43)


def test_the_breaker_opens_again_after_an_hour() -> None:
    breaker = Breaker(10)
    assert breaker.allows(0.0, 6) and not breaker.allows(1.0, 6) and breaker.allows(2.0, 4)
    assert not breaker.allows(3599.0, 1)
    assert breaker.allows(3600.5, 6) and not breaker.allows(3600.6, 1)
