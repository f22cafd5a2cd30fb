"""One leads; it knows when it does not any more; another follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from objstore.cluster.election import Election
from objstore.cluster.port import Entry
from objstore.cluster.store import CoordinatorStore
from tests.sim.coordinator import LocalCoordinator, ManualClock
from tests.unit.cluster.steps import until

KEY = "leader/repair"
TTL_S = 0.02  # the loops beat in real time; leases and leadership end by the manual clock


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.coordinator = LocalCoordinator(CoordinatorStore(), self.clock)
        self.candidates: list[Election] = []

    def candidate(self, name: str, *, coordinator: LocalCoordinator | None = None) -> Election:
        election = Election(coordinator or self.coordinator, self.clock, KEY, name, TTL_S)
        election.start()
        self.candidates.append(election)
        return election

    @property
    def leaders(self) -> list[Election]:
        return [candidate for candidate in self.candidates if candidate.is_leader]


def run(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        await body(world)
        for candidate in world.candidates:
            await candidate.close()

    asyncio.run(main())


def test_of_several_one_leads_and_the_key_says_who() -> None:
    async def body(world: World) -> None:
        candidates = {name: world.candidate(name) for name in ("r1", "r2", "r3")}
        await until(lambda: len(world.leaders) == 1, "a leader")
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert len(world.leaders) == 1
        found = world.coordinator.store.get(KEY)
        assert found is not None and candidates[found.value.decode()].is_leader

    run(body)


def test_when_the_leader_closes_another_follows() -> None:
    async def body(world: World) -> None:
        first = world.candidate("r1")
        await until(lambda: first.is_leader, "the first leads")
        second = world.candidate("r2")
        await first.close()
        assert not first.is_leader
        await until(lambda: second.is_leader, "the second leads")

    run(body)


def test_a_leader_that_hears_nothing_steps_down_before_its_lease_ends() -> None:
    async def body(world: World) -> None:
        leader = world.candidate("r1")
        await until(lambda: leader.is_leader, "leads")
        world.coordinator.away = True
        lease = world.coordinator.store.get(KEY)
        assert lease is not None
        world.clock.advance(TTL_S * 0.95)
        assert not leader.is_leader
        assert world.coordinator.store.keep_alive(lease.lease, world.clock.now), "its lease had not ended yet"

    run(body)


def test_a_leader_whose_coordinator_comes_back_in_time_goes_on() -> None:
    async def body(world: World) -> None:
        leader = world.candidate("r1")
        await until(lambda: leader.is_leader, "leads")
        world.coordinator.away = True
        world.clock.advance(TTL_S * 0.95)
        world.coordinator.away = False
        await until(lambda: leader.is_leader, "leads again")

    run(body)


def test_a_leader_cut_off_is_replaced_after_its_lease_and_never_joined() -> None:
    async def body(world: World) -> None:
        near = LocalCoordinator(world.coordinator.store, world.clock)  # the leader's own way to the same store
        leader = world.candidate("r1", coordinator=near)
        await until(lambda: leader.is_leader, "leads")
        near.away = True
        follower = world.candidate("r2")
        for _ in range(40):
            world.clock.advance(TTL_S / 10)
            await asyncio.sleep(0.002)
            assert len(world.leaders) <= 1
        await until(lambda: follower.is_leader, "replaced")
        near.away = False
        near.wake()
        await asyncio.sleep(0.01)
        assert world.leaders == [follower]

    run(body)


def test_a_leader_whose_key_was_taken_away_steps_down() -> None:
    async def body(world: World) -> None:
        leader = world.candidate("r1")
        await until(lambda: leader.is_leader, "leads")
        await world.coordinator.put(KEY, b"somebody else")
        await until(lambda: not leader.is_leader, "steps down")

    run(body)


def test_a_put_whose_answer_was_lost_still_counts() -> None:
    class Forgetful(LocalCoordinator):
        lost = 0

        async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
            done = await super().put(key, value, lease=lease, expected=expected)
            if done and not self.lost:
                self.lost += 1
                self.away = True
                self._enter()
            return done

    async def body(world: World) -> None:
        forgetful = Forgetful(world.coordinator.store, world.clock)
        leader = world.candidate("r1", coordinator=forgetful)
        await until(lambda: forgetful.lost == 1, "the answer is lost")
        assert not leader.is_leader
        forgetful.away = False
        await until(lambda: leader.is_leader, "leads")

    run(body)


class Slow(LocalCoordinator):
    """Answers come late: something happens after a request was carried out, before its answer is heard."""

    def __init__(self, world: World, between: Callable[[], Awaitable[object]]) -> None:
        super().__init__(world.coordinator.store, world.clock)
        self._between = between

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        found = await super().range(prefix)
        await self._between()
        return found


def test_two_that_saw_the_key_vacant_do_not_both_lead() -> None:
    """Who writes the key without looking at its revision takes it from the one who leads: two leaders would change the
    layout and delete at the same time (INV-15)."""

    async def body(world: World) -> None:
        two = Election(world.coordinator, world.clock, KEY, "r2", TTL_S)
        one = Election(Slow(world, two._hold), world.clock, KEY, "r1", TTL_S)
        await one._hold()
        assert two.is_leader and not one.is_leader

    run(body)


def test_a_late_answer_does_not_prolong_leadership() -> None:
    """The lease runs from when the coordinator prolonged it, not from when that was heard: who counts from there leads
    on beside its successor (INV-15)."""

    async def body(world: World) -> None:
        late = [0.0, TTL_S / 2]

        async def between() -> None:
            world.clock.advance(late.pop(0))

        leader = Election(Slow(world, between), world.clock, KEY, "r1", TTL_S)
        granted = world.clock.now
        await leader._hold()
        assert leader.is_leader
        await leader._hold()
        assert not late
        world.clock.advance(granted + TTL_S - world.clock.now)
        assert not leader.is_leader

    run(body)
