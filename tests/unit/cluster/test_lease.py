"""The heartbeat: a key that stays, comes back, follows its value, and never troubles its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from objstore.cluster.lease import Heartbeat
from objstore.cluster.port import Entry
from objstore.cluster.store import CoordinatorStore
from tests.sim.coordinator import LocalCoordinator, ManualClock
from tests.unit.cluster.steps import until

KEY = "nodes/a"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.coordinator = LocalCoordinator(CoordinatorStore(), self.clock)
        self.value = b"1"
        self.heartbeat = self.beat()

    def beat(self) -> Heartbeat:
        return Heartbeat(self.coordinator, KEY, lambda: self.value, ttl_s=0.01)

    @property
    def entry(self) -> Entry | None:
        return self.coordinator.store.get(KEY)

    @property
    def shown(self) -> bytes | None:
        return self.entry.value if self.entry else None


def run(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        world.heartbeat.start()
        await until(lambda: world.shown == b"1", "registered")
        await body(world)
        await world.heartbeat.close()

    asyncio.run(main())


def test_a_changed_value_is_published() -> None:
    async def body(world: World) -> None:
        world.value = b"2"
        await until(lambda: world.shown == b"2", "the new value")

    run(body)


def test_an_unchanged_value_is_not_put_again() -> None:
    async def body(world: World) -> None:
        calls = 0

        async def counted(lease: int) -> bool:
            nonlocal calls
            calls += 1
            return await keep_alive(lease)

        keep_alive = world.coordinator.keep_alive
        world.coordinator.keep_alive = counted  # type: ignore[method-assign]
        revision = world.coordinator.store.revision
        await until(lambda: calls >= 5, "five beats")
        assert world.coordinator.store.revision == revision

    run(body)


def test_a_lost_lease_is_granted_again() -> None:
    async def body(world: World) -> None:
        before = world.entry
        assert before is not None
        world.coordinator.store.revoke(before.lease)
        await until(lambda: world.shown == b"1", "registered again")
        assert world.entry is not None and world.entry.lease != before.lease

    run(body)


def test_after_an_absence_of_the_coordinator_it_registers_again() -> None:
    async def body(world: World) -> None:
        world.coordinator.away = True
        await until(lambda: not world.heartbeat.registered, "noticed")
        world.coordinator.store = CoordinatorStore(revision=5000)
        assert world.shown is None
        world.coordinator.away = False
        await until(lambda: world.shown == b"1" and world.heartbeat.registered, "registered again")

    run(body)


def test_a_value_that_cannot_be_made_does_not_end_the_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    async def body(world: World) -> None:
        def fail() -> bytes:
            raise RuntimeError("a bug")

        failing = Heartbeat(world.coordinator, "nodes/b", fail, ttl_s=0.01)
        failing.start()
        await until(lambda: sum("nodes/b failed" in r.getMessage() for r in caplog.records) >= 2, "logged twice")
        await failing.close()

    run(body)


def test_close_takes_the_key_away() -> None:
    async def body(world: World) -> None:
        await world.heartbeat.close()
        assert world.shown is None

    run(body)


def test_close_without_a_coordinator_does_not_raise() -> None:
    async def body(world: World) -> None:
        world.coordinator.away = True
        await world.heartbeat.close()

    run(body)


def test_a_process_that_starts_again_takes_over_the_key_of_the_life_before() -> None:
    async def body(world: World) -> None:
        old = world.entry
        assert old is not None
        again = world.beat()
        world.value = b"2"
        again.start()
        await until(lambda: world.entry is not None and world.entry.lease != old.lease, "taken over")
        await again.close()

    run(body)


def test_two_processes_with_one_identity_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def body(world: World) -> None:
        twin = Heartbeat(world.coordinator, KEY, lambda: b"twin", ttl_s=0.01)
        twin.start()
        await until(lambda: world.shown == b"twin", "the twin")
        world.value = b"2"
        await until(lambda: "another process registers as nodes/a too" in caplog.text, "reported")
        await twin.close()

    with caplog.at_level(logging.ERROR):
        run(body)
