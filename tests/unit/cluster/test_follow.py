"""Following one key: every change of it arrives, and an absence of the coordinator changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from objstore.cluster.follow import follow
from objstore.cluster.store import CoordinatorStore
from tests.sim.coordinator import LocalCoordinator, ManualClock
from tests.unit.cluster.steps import until


class World:
    def __init__(self) -> None:
        self.coordinator = LocalCoordinator(CoordinatorStore(), ManualClock())
        self.seen: list[bytes] = []
        self.failing = False

    def take(self, value: bytes) -> None:
        if self.failing:
            raise ValueError("what came cannot be read")
        if self.seen[-1:] != [value]:
            self.seen.append(value)


def play(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        task = asyncio.create_task(follow(world.coordinator, "a/key", world.take))
        await body(world)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


def test_it_begins_with_what_is_there_and_tells_each_change_of_that_key_alone() -> None:
    async def body(world: World) -> None:
        await until(lambda: world.seen == [b""], "there is none")
        await world.coordinator.put("a/key", b"1")
        await until(lambda: world.seen == [b"", b"1"], "the first value")
        await world.coordinator.put("a/key/below", b"another")
        await world.coordinator.put("a/key", b"2")
        await until(lambda: world.seen == [b"", b"1", b"2"], "the second")
        await world.coordinator.delete("a/key")
        await until(lambda: world.seen == [b"", b"1", b"2", b""], "it is gone")

    play(body)


def test_the_coordinators_absence_and_a_value_that_cannot_be_taken_end_nothing() -> None:
    async def body(world: World) -> None:
        await world.coordinator.put("a/key", b"1")
        await until(lambda: world.seen == [b"1"], "the first value")
        world.coordinator.away = True
        world.coordinator.wake()
        await asyncio.sleep(0.01)
        assert world.seen == [b"1"]
        world.coordinator.away = False
        world.failing = True
        await world.coordinator.put("a/key", b"2")
        await asyncio.sleep(0.01)
        world.failing = False
        await until(lambda: world.seen == [b"1", b"2"], "it is back")

    play(body)
