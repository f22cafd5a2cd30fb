"""Rounds of the worker over the engine's real operations: what goes, what stays, what a write in between changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.cluster.port import LIFECYCLE_KEY
from objstore.cluster.store import CoordinatorStore
from objstore.engine.keystate import state_of
from objstore.lifecycle import worker as working
from objstore.lifecycle.settings import LifecycleSettings
from objstore.lifecycle.worker import LifecycleWorker
from objstore.model import bucketconfig
from objstore.model.errors import NoSuchUpload, QuorumLost
from objstore.model.lifecycle import (
    DAY_MS,
    BucketLifecycle,
    Done,
    LifecycleProgress,
    LifecycleRule,
    decode_progress,
)
from objstore.model.notification import BucketNotification, Rule
from objstore.model.origin import Origin
from objstore.model.records import BucketState, KeyState, Lock, ObjectVersion, RegisterKey, Space
from objstore.ports import Buffer
from objstore.register.change import Change, body_of
from tests.s3.memory_engine import MemoryEngine
from tests.sim.coordinator import LocalCoordinator

DAYS = [LifecycleRule("r", True, days=1)]


class Clock(SystemClock):
    """Its times can be moved on."""

    ahead_s = 0.0

    def wall_ms(self) -> int:
        return super().wall_ms() + int(1000 * self.ahead_s)


class Site:
    """A bucket with rules, and workers that live some days later."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.clock = Clock()
        self.coordinator = LocalCoordinator(CoordinatorStore(), self.clock)
        self.worker = self.another()
        self.leads = True

    def another(self) -> LifecycleWorker:
        return LifecycleWorker(self.engine, self.coordinator, self.clock, SystemRandom(), LifecycleSettings())

    async def make(self, rules: list[LifecycleRule], *, name: str = "b", versioning: str = "", **config: Any) -> None:
        records = bucketconfig.encoded(BucketLifecycle(tuple(rules)), *config.values())
        await self.engine.create_bucket(name, versioning=versioning, config=records)

    async def put(self, key: str, data: bytes = b"x", name: str = "b", **options: Any) -> str:
        return (await self.engine.put_object(name, key, _body(data), len(data), {}, **options)).version_id

    async def state(self, key: str, name: str = "b") -> KeyState:
        bucket = await self.engine.get_bucket(name)
        register = RegisterKey(bucket.id, Space.OBJECT, key.encode())
        return state_of(body_of(await self.engine.registers.read(register)))

    async def round(self, *, days: float = 3) -> LifecycleProgress:
        """So many days later."""
        self.clock.ahead_s += days * 86_400
        while await self.worker.step(lambda: self.leads):
            pass
        return await self.progress()

    async def progress(self) -> LifecycleProgress:
        entry = await self.coordinator.get(LIFECYCLE_KEY)
        assert entry is not None
        return decode_progress(entry.value)

    async def keys(self, name: str = "b") -> list[str]:
        return [entry.key for entry in (await self.engine.list_objects(name)).entries]

    def before_the_change(self, of: str, meanwhile: Callable[[], Awaitable[Any]]) -> list[bytes]:
        """Runs `meanwhile` between the worker's look at this key and its change; returns what the changes answer."""
        registers: Any = self.engine.registers
        change, waiting = registers.change, [meanwhile]
        answers: list[bytes] = []

        async def ambush(key: RegisterKey, how: Change, **options: Any) -> bytes:
            if key.space is Space.OBJECT and key.name == of.encode() and how.__module__ == "objstore.lifecycle.acting":
                if waiting:
                    await waiting.pop()()
                answers.append(await change(key, how, **options))
                return answers[-1]
            result: bytes = await change(key, how, **options)
            return result

        registers.change = ambush
        return answers


async def _body(data: bytes) -> AsyncIterator[Buffer]:
    yield data


def run(test: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await test(Site())

    asyncio.run(main())


def test_without_versioning_an_object_goes_for_good() -> None:
    async def test(site: Site) -> None:
        await site.make([LifecycleRule("r", True, prefix="logs/", days=2)])
        await site.put("logs/a", b"12345")
        await site.put("keep")
        assert (await site.round(days=1)).last == Done(buckets=1, keys=1)
        assert await site.keys() == ["keep", "logs/a"]
        done = await site.round(days=3)
        assert done.last == Done(buckets=1, keys=1, expired=1, expired_bytes=5)
        assert await site.keys() == ["keep"]
        assert not (await site.state("logs/a")).versions

    run(test)


def test_with_versioning_a_marker_hides_it_then_the_version_goes_then_the_marker() -> None:
    async def test(site: Site) -> None:
        rules = [LifecycleRule("r", True, days=1, noncurrent_days=1)]
        await site.make(rules, versioning="Enabled")
        await site.put("k")
        assert (await site.round()).last.marked == 1
        [marker, version] = (await site.state("k")).versions
        assert marker.marker and not marker.null and not version.marker
        assert await site.keys() == []
        assert (await site.round()).last.expired == 1
        assert (await site.state("k")).versions == (marker,)
        assert (await site.round()).last.expired == 1
        assert not (await site.state("k")).versions
        assert (await site.round()).last == Done(buckets=1)
        assert (await site.progress()).ever == Done(buckets=4, keys=3, expired=2, expired_bytes=1, marked=1)

    run(test)


def test_in_a_suspended_bucket_the_marker_is_the_null_version() -> None:
    async def test(site: Site) -> None:
        await site.make(DAYS, versioning="Suspended")
        await site.put("k")
        await site.round()
        [marker] = (await site.state("k")).versions
        assert marker.marker and marker.null

    run(test)


def test_noncurrent_versions_go_but_for_the_newest_of_them_and_the_locked() -> None:
    async def test(site: Site) -> None:
        rules = [LifecycleRule("r", True, noncurrent_days=1, newer_noncurrent=1)]
        await site.make(rules, versioning="Enabled")
        ids = [await site.put("k", lock=Lock(hold=number == 1)) for number in range(5)]
        assert (await site.round()).last.expired == 2
        assert [one.version_id.hex() for one in (await site.state("k")).versions] == [ids[4], ids[3], ids[1]]

    run(test)


def test_an_abandoned_upload_is_aborted_and_its_parts_are_not_listed() -> None:
    async def test(site: Site) -> None:
        await site.make([LifecycleRule("r", True, prefix="a", abort_days=1)])
        await site.put("a")
        old = await site.engine.create_upload("b", "a/big", {})
        other = await site.engine.create_upload("b", "z", {})
        await site.engine.put_part("b", "a/big", old, 1, _body(b"x"), 1)
        assert (await site.round()).last == Done(buckets=1, keys=1, aborted=1)
        with pytest.raises(NoSuchUpload):
            await site.engine.list_parts("b", "a/big", old)
        await site.engine.list_parts("b", "z", other)
        assert await site.keys() == ["a"]

    run(test)


def test_what_is_written_between_the_look_and_the_change_is_not_touched() -> None:
    """INV-23: a rule with a date in the past would end it at once, but it is not what the worker saw."""

    async def test(site: Site) -> None:
        await site.make([LifecycleRule("r", True, date_ms=DAY_MS)])
        await site.put("k", b"old")
        answers = site.before_the_change("k", lambda: site.put("k", b"new"))
        assert (await site.round()).last.expired == 0
        assert answers == [b""]
        assert (await site.engine.head_object("b", "k")).size == 3
        assert (await site.round()).last.expired == 1, "the next round has seen it"

    run(test)


@pytest.mark.parametrize("versioning", ["", "Enabled"])
def test_a_tag_that_is_changed_in_between_is_obeyed(versioning: str) -> None:
    async def test(site: Site) -> None:
        await site.make([LifecycleRule("r", True, tags={"keep": "no"}, days=1)], versioning=versioning)
        await site.put("k", tags={"keep": "no"})

        def edit(version: ObjectVersion) -> ObjectVersion:
            return msgspec.structs.replace(version, tags={"keep": "yes"})

        answers = site.before_the_change("k", lambda: site.engine.amend_object("b", "k", None, edit))
        assert (await site.round()).last == Done(buckets=1, keys=1)
        assert answers == [b""]
        assert await site.keys() == ["k"]

    run(test)


def test_a_hold_that_is_put_in_between_is_obeyed() -> None:
    async def test(site: Site) -> None:
        await site.make([LifecycleRule("r", True, noncurrent_days=1)], versioning="Enabled")
        first = await site.put("k")
        await site.put("k")

        def edit(version: ObjectVersion) -> ObjectVersion:
            return msgspec.structs.replace(version, lock=Lock(hold=True))

        answers = site.before_the_change("k", lambda: site.engine.amend_object("b", "k", first, edit))
        assert (await site.round()).last.expired == 0
        assert answers == [b""]

    run(test)


def test_rules_that_were_taken_away_before_the_worker_acts_are_not_obeyed() -> None:
    """The worker looked by the old rules; before it acts it reads those of now."""

    async def test(site: Site) -> None:
        await site.make(DAYS)
        await site.put("k")
        read: Any = site.engine.registers.read

        async def reading(key: RegisterKey, **options: Any) -> Any:
            found = await read(key, **options)
            if key.space is Space.OBJECT:
                site.engine.registers.read = read  # type: ignore[method-assign]
                await site.engine.configure_bucket("b", _without_rules)
            return found

        site.engine.registers.read = reading  # type: ignore[method-assign]
        assert (await site.round()).last == Done(buckets=1, keys=1)
        assert await site.keys() == ["k"]

    run(test)


def _without_rules(bucket: BucketState) -> BucketState:
    return bucketconfig.without(bucket, BucketLifecycle)


def test_of_a_bucket_that_is_migrated_it_is_known_that_the_key_is_gone() -> None:
    """Else the origin's object would come back."""

    async def test(site: Site) -> None:
        origin = Origin(b"m" * 16, "http://other", "b", "", "us-east-1", "key", b"", 1)
        await site.make(DAYS, origin=origin)
        await site.put("k")
        assert (await site.round()).last.expired == 1
        assert await site.state("k") == KeyState(gone=b"m" * 16)
        assert (await site.round()).last.expired == 0

    run(test)


def test_each_event_has_a_change_of_its_own() -> None:
    """They go by the ballot of their change."""

    async def test(site: Site) -> None:
        told = BucketNotification((Rule("n", "hook", ("LifecycleExpiration:*",)),))
        await site.make([LifecycleRule("r", True, days=1, noncurrent_days=1)], versioning="Enabled", told=told)
        for _ in range(3):
            await site.put("k")
        done = (await site.round()).last
        assert (done.expired, done.marked) == (2, 1)
        events = (await site.state("k")).events
        names = ["LifecycleExpiration:Delete"] * 2 + ["LifecycleExpiration:DeleteMarkerCreated"]
        assert [event.name for event in events] == names
        assert len({event.sequence for event in events}) == 3

    run(test)


def test_a_round_begins_only_when_it_is_time() -> None:
    async def test(site: Site) -> None:
        await site.make(DAYS)
        first = await site.round()
        assert first.next_ms == first.last_started_ms + 3_600_000
        site.clock.ahead_s += 3599
        assert not await site.worker.step(lambda: True)
        assert await site.progress() == first
        assert (await site.round(days=0.01)).last_started_ms >= first.next_ms

    run(test)


def test_the_next_leader_goes_on_where_the_first_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "PAGE", 2)
    monkeypatch.setattr(working, "KEPT_EVERY_S", 0.0)

    async def test(site: Site) -> None:
        await site.make(DAYS)
        await site.make(DAYS, name="c")
        for number in range(5):
            await site.put(f"k{number}")
            await site.put(f"k{number}", name="c")
        site.clock.ahead_s += 3 * 86_400
        assert await site.worker.step(lambda: True)
        assert await site.keys() == ["k2", "k3", "k4"]
        await site.put("k0")  # behind the place: not of this round
        site.worker = site.another()
        before = (await site.progress()).started_ms
        done = await site.round(days=0)
        assert done.last_started_ms == before
        assert done.last == Done(buckets=2, keys=10, expired=10, expired_bytes=10)
        assert await site.keys() == ["k0"]

    run(test)


def test_who_does_not_lead_any_more_changes_nothing() -> None:
    async def test(site: Site) -> None:
        await site.make(DAYS)
        await site.put("k")
        site.leads = False
        site.clock.ahead_s += 3 * 86_400
        assert not await site.worker.step(lambda: site.leads)
        assert await site.keys() == ["k"]
        assert await site.coordinator.get(LIFECYCLE_KEY) is None

    run(test)


def test_of_two_that_think_they_lead_one_keeps_its_place() -> None:
    async def test(site: Site) -> None:
        await site.make(DAYS)
        other = site.another()
        await site.round()
        site.clock.ahead_s += 7200
        while await other.step(lambda: True):
            pass
        second = await site.progress()
        site.clock.ahead_s += 7200
        while await site.worker.step(lambda: True):  # it finds out and begins with what the other has kept
            pass
        await site.round(days=0)
        third = await site.progress()
        assert third.ever.buckets == second.ever.buckets + 1

    run(test)


def test_a_key_that_cannot_be_changed_now_waits_and_the_others_do_not() -> None:
    async def test(site: Site) -> None:
        await site.make(DAYS)
        await site.put("bad")
        await site.put("good")

        async def lost() -> None:
            raise QuorumLost("no majority")

        site.before_the_change("bad", lost)
        done = await site.round()
        assert done.last == Done(buckets=1, keys=2, expired=1, expired_bytes=1, errors=1)
        assert done.error == "b: no majority"
        assert await site.keys() == ["bad"]
        assert (await site.round()).last.expired == 1
        assert await site.keys() == [] and not (await site.progress()).error

    run(test)


def test_a_bucket_that_is_deleted_meanwhile_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "PAGE", 1)

    async def test(site: Site) -> None:
        await site.make(DAYS)
        await site.make(DAYS, name="c")
        await site.put("k", name="c")
        await site.put("k")
        site.clock.ahead_s += 3 * 86_400
        assert await site.worker.step(lambda: True)
        await site.engine.delete_bucket("b")
        assert (await site.round(days=0)).last.expired == 2

    run(test)
