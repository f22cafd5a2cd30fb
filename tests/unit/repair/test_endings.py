"""Uploads and buckets that are over: all that is left of them goes, late comers change nothing (INV-7, 8, 9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from objstore.engine.engine import Engine
from objstore.model.errors import InvalidPart, NoSuchBucket, NoSuchUpload
from objstore.model.ids import BucketId, uuid7
from objstore.model.records import PartState, Register, RegisterKey, Space, decode, encode, part_name
from objstore.register.change import Outcome
from objstore.wire.messages import RegPull, RegPulled
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import SETTINGS, MappedCluster, Repaired, body, get

IMPATIENT = replace(SETTINGS, garbage_delay_s=2.0, orphan_age_s=5.0, orphan_round_s=2.0, upload_age_s=6.0)
PART = 5 << 20
SHARDS = 6


async def bodies(sim: SimCluster) -> dict[tuple[bytes, int], bytes]:
    """What registers say, on any node, by (bucket, space, name) and space; tombstones left out."""
    peers = sim.engines[0].peers
    found: dict[tuple[bytes, int], bytes] = {}
    for node in peers.live():
        for partition in range(peers.topology.map.partitions):
            page, _ = await peers.call(node, RegPull(partition, b"", 1024))
            assert isinstance(page, RegPulled) and not page.more
            for key, state in zip(page.keys, page.states, strict=True):
                if state and (said := decode(state, Register).body):
                    found[key, key[16]] = said
    return found


async def spaces(sim: SimCluster) -> list[Space]:
    return sorted(Space(space) for _, space in await bodies(sim))


def fragments(sim: SimCluster) -> int:
    return sum(machine.service.stats().fragments for machine in sim.machines if machine.service)


async def until(sim: SimCluster, *, spaces_left: list[Space], fragments_left: int, within_s: float = 90.0) -> None:
    end = sim.loop.time() + within_s
    while (found := (await spaces(sim), fragments(sim))) != (spaces_left, fragments_left):
        assert sim.loop.time() < end, f"left: {found}"
        await asyncio.sleep(1.0)


async def until_forgotten(sim: SimCluster) -> None:
    """Nobody has a register but of the bucket's name, not even a tombstone."""
    for _ in range(300):
        await asyncio.sleep(1.0)
        if sum(machine.service.stats().registers for machine in sim.machines if machine.service) == 5:
            return
    raise AssertionError("tombstones are still there")


async def upload_of(engine: Engine, key: str, *parts: bytes) -> tuple[str, list[tuple[int, str]]]:
    upload = await engine.create_upload("b", key, {})
    named = []
    for number, data in enumerate(parts, 1):
        part = await engine.put_part("b", key, upload, number, body(data), len(data))
        named.append((number, part.etag))
    return upload, named


class Gate:
    """Holds up one call of a method of the engine's parts, until it is opened."""

    def __init__(self, owner: Any, name: str, *, after: bool = False) -> None:
        self.reached, self._open = asyncio.Event(), asyncio.Event()
        self._owner, self._name, self._method = owner, name, getattr(owner, name)
        self._after = after
        setattr(owner, name, self._held)

    async def _held(self, *args: Any, **keywords: Any) -> Any:
        setattr(self._owner, self._name, self._method)
        result = await self._method(*args, **keywords) if self._after else None
        self.reached.set()
        await self._open.wait()
        return result if self._after else await self._method(*args, **keywords)

    def open(self) -> None:
        self._open.set()


def objects_of(engine: Engine) -> Any:
    return engine.complete_upload.__self__._objects  # type: ignore[attr-defined]


def test_a_completed_upload_leaves_its_object_and_nothing_else() -> None:
    async def main() -> None:
        async with MappedCluster(61) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            data = sim.random.randbytes(PART)
            upload, named = await upload_of(one, "k", data, b"tail")
            await one.put_part("b", "k", upload, 9, body(b"never chosen"), 12)
            repaired = Repaired(sim, IMPATIENT)
            await repaired.start("r1")
            await asyncio.sleep(20)
            assert await spaces(sim) == [Space.OBJECT] * 0 + [Space.UPLOAD, *[Space.PART] * 3, Space.BUCKET]
            assert fragments(sim) == 3 * SHARDS, "an open upload is the client's, however old it is"
            info = await two.complete_upload("b", "k", upload, named)
            await until(sim, spaces_left=[Space.OBJECT, Space.BUCKET], fragments_left=2 * SHARDS)
            assert await get(one, "b", "k") == data + b"tail"
            assert (await two.head_object("b", "k")).etag == info.etag
            assert (await two.complete_upload("b", "k", upload, named)).etag == info.etag, "a repeat, days late"
            for late in (
                two.complete_upload("b", "k", upload, named[:1]),
                two.abort_upload("b", "k", upload),
                one.put_part("b", "k", upload, 1, body(b"late"), 4),
            ):
                with pytest.raises(NoSuchUpload):
                    await late
            await one.delete_object("b", "k")
            with pytest.raises(NoSuchUpload):
                await two.complete_upload("b", "k", upload, named)
            await until(sim, spaces_left=[Space.BUCKET], fragments_left=0)

    run(main, 61)


@pytest.mark.parametrize("tombstone_age_s", [600.0, 3.0])
def test_a_part_that_comes_after_its_upload_was_forgotten_goes_too(tombstone_age_s: float) -> None:
    async def main() -> None:
        async with MappedCluster(62) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, _ = await upload_of(one, "k", b"first")
            repaired = Repaired(sim, replace(IMPATIENT, tombstone_age_s=tombstone_age_s))
            await repaired.start("r1")
            paused = Gate(objects_of(two), "store", after=True)
            late = asyncio.ensure_future(two.put_part("b", "k", upload, 2, body(b"late part"), 9))
            await paused.reached.wait()
            await one.abort_upload("b", "k", upload)
            await until(sim, spaces_left=[Space.BUCKET], fragments_left=0)
            if tombstone_age_s < 10:
                await until_forgotten(sim)
            paused.open()
            with pytest.raises(NoSuchUpload):
                await late
            assert await spaces(sim) == [Space.PART, Space.BUCKET], "its register was written"
            await until(sim, spaces_left=[Space.BUCKET], fragments_left=0)

    run(main, 62)


def test_a_part_whose_upload_was_never_written_proves_nothing_and_stays() -> None:
    async def main() -> None:
        async with MappedCluster(63) as sim:
            one = sim.engines[0]
            bucket = await one.create_bucket("b")
            upload = uuid7(1, bytes(10))
            state = encode(PartState(1, 4, "e", 1, {}, (), key=b"k"))
            key = RegisterKey(bucket.id, Space.PART, part_name(upload, 1))
            await one.registers.change(key, lambda _: Outcome(b"", state))
            await Repaired(sim, IMPATIENT).start("r1")
            await asyncio.sleep(60)
            assert await spaces(sim) == [Space.PART, Space.BUCKET]

    run(main, 63)


def test_a_part_that_was_overlooked_when_its_upload_was_forgotten_keeps_what_the_object_took() -> None:
    async def main() -> None:
        async with MappedCluster(71) as sim:
            one = sim.engines[0]
            bucket = await one.create_bucket("b")
            upload, named = await upload_of(one, "k", b"chosen")
            key = RegisterKey(bucket.id, Space.PART, part_name(bytes.fromhex(upload), 1))
            overlooked = next(said for (raw, _), said in (await bodies(sim)).items() if raw == key.pack())
            await one.complete_upload("b", "k", upload, named)
            await Repaired(sim, IMPATIENT).start("r1")
            await until(sim, spaces_left=[Space.OBJECT, Space.BUCKET], fragments_left=SHARDS)
            await one.registers.change(key, lambda _: Outcome(b"", overlooked))
            await until(sim, spaces_left=[Space.OBJECT, Space.PART, Space.BUCKET], fragments_left=SHARDS)
            await until(sim, spaces_left=[Space.OBJECT, Space.BUCKET], fragments_left=SHARDS)
            assert await get(one, "b", "k") == b"chosen"

    run(main, 71)


@pytest.mark.parametrize("replaced", [False, True])
def test_an_upload_whose_gateway_died_after_the_commit_is_finished(replaced: bool) -> None:
    async def main() -> None:
        async with MappedCluster(64) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", b"made")
            died = Gate(objects_of(two), "commit", after=True)
            dead = asyncio.ensure_future(two.complete_upload("b", "k", upload, named))
            await died.reached.wait()
            if replaced:
                await one.put_object("b", "k", body(b"new"), 3, {})
            with pytest.raises(NoSuchUpload):  # it made the object: it was not aborted
                await one.abort_upload("b", "k", upload)
            await Repaired(sim, IMPATIENT).start("r1")
            await until(sim, spaces_left=[Space.OBJECT, Space.BUCKET], fragments_left=0 if replaced else SHARDS)
            assert await get(one, "b", "k") == (b"new" if replaced else b"made")
            dead.cancel()

    run(main, 64)


def test_the_collector_finishes_an_upload_that_nobody_asks_about_again() -> None:
    async def main() -> None:
        async with MappedCluster(65) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", b"made")
            died = Gate(objects_of(two), "commit", after=True)
            dead = asyncio.ensure_future(two.complete_upload("b", "k", upload, named))
            await died.reached.wait()
            assert [entry.key for entry in (await one.list_uploads("b")).uploads] == ["k"]
            await Repaired(sim, IMPATIENT).start("r1")
            await until(sim, spaces_left=[Space.OBJECT, Space.BUCKET], fragments_left=SHARDS)
            assert (await one.list_uploads("b")).uploads == []
            assert await get(one, "b", "k") == b"made"
            dead.cancel()

    run(main, 65)


def test_an_attempt_that_has_not_committed_waits_for_its_client_however_long() -> None:
    async def main() -> None:
        async with MappedCluster(66) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", b"part")
            died = Gate(objects_of(two), "commit")
            dead = asyncio.ensure_future(two.complete_upload("b", "k", upload, named))
            await died.reached.wait()
            await Repaired(sim, IMPATIENT).start("r1")
            await asyncio.sleep(60)
            assert fragments(sim) == SHARDS
            assert [part.number for part in (await one.list_parts("b", "k", upload)).parts] == [1]
            await one.complete_upload("b", "k", upload, named)
            assert await get(two, "b", "k") == b"part"
            dead.cancel()

    run(main, 66)


def test_no_part_of_an_upload_goes_while_an_attempt_to_complete_it_is_open() -> None:
    """The attempt names part 1, and its gateway died; parts that were replaced do go. The others are still the
    client's: it may complete the upload with them (INV-7)."""

    async def main() -> None:
        async with MappedCluster(72) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", bytes(PART), b"two", b"x")
            for number, data in ((2, b"two again"), (3, b"three")):
                part = await one.put_part("b", "k", upload, number, body(data), len(data))
                named[number - 1] = (number, part.etag)
            died = Gate(objects_of(two), "commit")
            dead = asyncio.ensure_future(two.complete_upload("b", "k", upload, named[:1]))
            await died.reached.wait()
            await Repaired(sim, IMPATIENT).start("r1")
            await asyncio.sleep(60)
            assert [part.number for part in (await one.list_parts("b", "k", upload)).parts] == [1, 2, 3]
            await one.complete_upload("b", "k", upload, [named[0], named[2]])
            assert await get(one, "b", "k") == bytes(PART) + b"three"
            dead.cancel()

    run(main, 72)


@pytest.mark.parametrize("then", ["replaced", "deleted"])
def test_a_commit_that_comes_days_late_brings_nothing_back(then: str) -> None:
    async def main() -> None:
        async with MappedCluster(67) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", b"part")
            paused = Gate(objects_of(two), "commit")
            late = asyncio.ensure_future(two.complete_upload("b", "k", upload, named))
            await paused.reached.wait()
            await one.complete_upload("b", "k", upload, named)
            await Repaired(sim, IMPATIENT).start("r1")
            if then == "replaced":
                await one.put_object("b", "k", body(b"new"), 3, {})
            else:
                await one.delete_object("b", "k")
            left = [Space.OBJECT] if then == "replaced" else []
            await until(sim, spaces_left=[*left, Space.BUCKET], fragments_left=0)
            paused.open()
            with pytest.raises((NoSuchUpload, InvalidPart)):
                await late
            await until(sim, spaces_left=[*left, Space.BUCKET], fragments_left=0)
            if then == "replaced":
                assert await get(one, "b", "k") == b"new"

    run(main, 67)


def test_a_deleted_bucket_takes_its_uploads_along_and_spares_its_successor() -> None:
    async def main() -> None:
        async with MappedCluster(68) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            big = bytes(50_000)
            await upload_of(one, "k", b"part", b"other")
            await one.put_object("b", "gone", body(big), len(big), {})
            await one.delete_object("b", "gone")
            paused = Gate(objects_of(two), "commit")
            late = asyncio.ensure_future(two.put_object("b", "late", body(big), len(big), {}))
            await paused.reached.wait()
            await one.delete_bucket("b")
            assert await one.list_buckets() == []
            await one.create_bucket("b")
            await one.put_object("b", "k", body(big), len(big), {})
            upload, _ = await upload_of(one, "k2", b"new part")
            paused.open()
            with pytest.raises(NoSuchBucket):
                await late
            assert fragments(sim) > 2 * SHARDS
            await Repaired(sim, IMPATIENT).start("r1")
            left = [Space.OBJECT, Space.UPLOAD, Space.PART, Space.BUCKET]
            await until(sim, spaces_left=left, fragments_left=2 * SHARDS)
            assert await get(two, "b", "k") == big
            assert [bucket.name for bucket in await two.list_buckets()] == ["b"]
            await one.abort_upload("b", "k2", upload)
            await one.delete_object("b", "k")
            await one.delete_bucket("b")
            await until(sim, spaces_left=[], fragments_left=0)
            with pytest.raises(NoSuchBucket):
                await two.get_bucket("b")

    run(main, 68)


@pytest.mark.parametrize("step", ["create", "part"])
def test_an_upload_in_a_bucket_that_is_deleted_meanwhile_is_refused(step: str) -> None:
    async def main() -> None:
        async with MappedCluster(69) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, _ = await upload_of(one, "k", b"part")
            paused = Gate(two.registers, "change")
            if step == "create":
                late: asyncio.Future[Any] = asyncio.ensure_future(two.create_upload("b", "k2", {}))
            else:
                late = asyncio.ensure_future(two.put_part("b", "k", upload, 2, body(b"late"), 4))
            await paused.reached.wait()
            await one.delete_bucket("b")
            paused.open()
            with pytest.raises(NoSuchBucket):
                await late
            await Repaired(sim, IMPATIENT).start("r1")
            await until(sim, spaces_left=[], fragments_left=0)

    run(main, 69)


def test_a_bucket_that_says_nothing_of_its_end_is_left_alone() -> None:
    """A register that was lost must not take a bucket with it."""

    async def main() -> None:
        async with MappedCluster(70) as sim:
            one = sim.engines[0]
            bucket = await one.create_bucket("b")
            await one.put_object("b", "k", body(bytes(50_000)), 50_000, {})
            key = RegisterKey(BucketId(bytes(16)), Space.BUCKET, b"b")
            await one.registers.change(key, lambda _: Outcome(b"", b""))
            await Repaired(sim, IMPATIENT).start("r1")
            await asyncio.sleep(60)
            assert await spaces(sim) == [Space.OBJECT] and fragments(sim) == SHARDS
            assert bucket.id in {key[:16] for key, _ in await bodies(sim)}

    run(main, 70)
