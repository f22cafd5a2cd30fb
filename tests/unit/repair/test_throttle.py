"""Foreground first, idle capacity used: the controller against a shared queue, and the brakes around it."""

from __future__ import annotations

import asyncio
import heapq
import random

import msgspec
import pytest

from objstore.engine.rebuilding import WINDOW_BYTES
from objstore.model.ids import NodeId
from objstore.repair.pace import SMALL_WINDOW_BYTES, WHOLE_BYTES, Pace
from objstore.repair.throttle import FLOOR, OPEN_FLOOR, WINDOW_MAX, Throttle
from objstore.wire.messages import NodeStatsReply
from tests.sim.loop import run
from tests.unit.repair.acceptors import StillClock

SERVERS = 4
SERVICE_S = 0.005  # of one operation, at rest


class Machines:
    """A queue in front of a few servers. Clients come at a rate of their own, whatever happens; repair keeps as many
    operations in it as its window allows."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.throttle = Throttle()
        self.now = 0.0
        self.margin: int | None = 2
        self._free = [0.0] * SERVERS  # when each server is free again
        self._ends: list[float] = []  # of repair's operations in flight
        self._next_client = 0.0

    def _serve(self, at: float) -> float:
        begin = max(at, heapq.heappop(self._free))
        end = begin + self.random.expovariate(1 / SERVICE_S) * 0.5 + SERVICE_S * 0.5
        heapq.heappush(self._free, end)
        return end

    def run(self, seconds: float, load: float) -> tuple[float, float]:
        """(share of the capacity that repair got, mean seconds that clients waited in the queue)."""
        until, done, waits = self.now + seconds, 0, [0.0]
        self._next_client = max(self._next_client, self.now)
        while self.now < until:
            self.now += 0.001
            while self._ends and self._ends[0] <= self.now:
                heapq.heappop(self._ends)
                done += 1
            while load and self._next_client <= self.now:
                at = self._next_client
                waits.append(max(0.0, self._free[0] - at))
                self._serve(at)
                self._next_client += self.random.expovariate(load * SERVERS / SERVICE_S)
            self.throttle.step(self.now, margin=self.margin, in_use=len(self._ends))
            while len(self._ends) < int(self.throttle.window):
                end = self._serve(self.now)
                heapq.heappush(self._ends, end)
                self.throttle.observe(self.now, "op", end - self.now)
        return done * SERVICE_S / SERVERS / seconds, sum(waits) / len(waits)


@pytest.mark.parametrize("seed", range(5))
def test_repair_alone_uses_what_there_is_and_gives_way_to_clients(seed: int) -> None:
    machines = Machines(seed)
    machines.run(10, load=0)
    alone, _ = machines.run(20, load=0)
    assert alone > 0.85 and not machines.throttle.why
    machines.run(10, load=0.5)
    beside, wait_s = machines.run(30, load=0.5)
    assert beside > 0.3, "what clients leave is used"
    assert wait_s < 0.03
    machines.run(10, load=1.1)
    crowded, _ = machines.run(10, load=1.1)
    assert 0 < crowded < 0.25 * alone
    assert "at rest" in machines.throttle.why
    machines._free = [machines.now] * SERVERS  # the clients have given up
    machines.run(10, load=0)
    assert machines.run(10, load=0)[0] > 0.85, "and comes back"


@pytest.mark.parametrize(("took", "held_back"), [(0.06, 2), (0.5, 3)])
def test_the_fewer_losses_are_survived_the_less_it_gives_way(took: float, held_back: int) -> None:
    found = []
    for margin in (None, 2, 1, 0):
        throttle = Throttle()
        for tick in range(200):
            throttle.observe(tick * 0.1, "op", 0.005 if tick < 5 else took)
            throttle.step(tick * 0.1, margin=margin, in_use=20)
        found.append(throttle.window)
    assert found[:held_back] == [FLOOR] * held_back and min(found[held_back:]) >= OPEN_FLOOR


def test_a_window_that_is_not_used_does_not_grow_and_one_slow_node_of_many_is_no_reason() -> None:
    throttle = Throttle()
    before = throttle.window
    for tick in range(100):
        throttle.observe(tick * 0.1, "op", 0.005)
        throttle.step(tick * 0.1, margin=2, in_use=1)
    assert throttle.window == before
    for tick in range(100, 200):
        for answer in (0.005, 0.005, 0.005, 2.0):
            throttle.observe(tick * 0.1, "op", answer)
        throttle.step(tick * 0.1, margin=2, in_use=20)
    assert throttle.window == WINDOW_MAX and not throttle.why


def test_calls_of_different_kinds_are_compared_with_their_own_best() -> None:
    throttle = Throttle()
    for tick in range(100):
        throttle.observe(tick * 0.1, "small", 0.002)
        throttle.observe(tick * 0.1, "large", 0.5)
        throttle.step(tick * 0.1, margin=2, in_use=20)
    assert throttle.window == WINDOW_MAX


async def _operations(pace: Pace, count: int, size: int, seconds: float) -> tuple[float, int]:
    """(how long they took, how many were in flight at most)."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    now = most = 0

    async def one() -> None:
        nonlocal now, most
        async with pace.work(lambda written: None).slot(size):
            now += 1
            most = max(most, now)
            await asyncio.sleep(seconds)
            now -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return loop.time() - begin, most


def test_a_budget_holds_the_mean_rate_whatever_the_window() -> None:
    async def main() -> None:
        pace = Pace(StillClock(), 1000)
        for _ in range(5):
            took, _ = await _operations(pace, 10, 100, 0.0)
        assert 4.4 <= took + 4 <= 5.1
        assert pace.why_slow == ""
        begun = asyncio.gather(*(pace.enter(500) for _ in range(3)))
        await asyncio.sleep(0)
        assert pace.why_slow == "at the budget of 1000 B/s"
        await begun

    run(main, 4)


def test_operations_wait_for_their_turn_and_cancelled_ones_leave_no_gap() -> None:
    async def main() -> None:
        pace = Pace(StillClock(), "auto")
        took, most = await _operations(pace, 12, 0, 1.0)
        assert (most, took) == (4, 3.0)
        holders = [asyncio.create_task(_operations(pace, 1, 0, 10.0)) for _ in range(4)]
        await asyncio.sleep(1)
        waiting = [asyncio.create_task(pace.enter(0)) for _ in range(5)]
        await asyncio.sleep(1)
        waiting[1].cancel()
        await asyncio.gather(*holders)
        waiting[0].cancel()  # it may have been given its turn just now
        await asyncio.gather(*waiting, return_exceptions=True)
        for task in waiting:
            if not task.cancelled():
                pace.leave(task.result())
        assert (await _operations(pace, 8, 0, 1.0))[1] == 4
        free = Pace(StillClock(), "unlimited")
        assert (await _operations(free, 50, 0, 1.0)) == (1.0, 50)

    run(main, 5)


def among_clients(throttle: Throttle, begin: float, end: float, *, took: float, best: float = 0.005) -> None:
    """Steps with repair always at work; a node tells of ten more calls of clients each time."""
    throttle.observe(begin, "op", best)
    for tick in range(round(begin * 10), round(end * 10)):
        throttle.hear(tick * 0.1, "n1", tick * 10)
        throttle.observe(tick * 0.1, "op", took)
        throttle.step(tick * 0.1, margin=2, in_use=20)


def test_a_delay_that_nobody_minds_is_too_much_while_clients_are_under_way() -> None:
    throttle = Throttle()
    for tick in range(100):
        throttle.observe(tick * 0.1, "op", 0.008 if tick else 0.005)
        throttle.step(tick * 0.1, margin=2, in_use=20)
    assert throttle.window == WINDOW_MAX and not throttle.among_clients
    among_clients(throttle, 10, 20, took=0.008)
    assert throttle.window == FLOOR
    assert "clients come first" in throttle.why
    for tick in range(200, 400):  # they have gone
        throttle.hear(tick * 0.1, "n1", 2000)
        throttle.observe(tick * 0.1, "op", 0.008)
        throttle.step(tick * 0.1, margin=2, in_use=20)
    assert throttle.window == WINDOW_MAX and not throttle.why


def test_where_clients_are_not_delayed_either_repair_goes_on_beside_them() -> None:
    throttle = Throttle()
    among_clients(throttle, 0, 20, took=0.005)
    assert throttle.window == WINDOW_MAX and throttle.among_clients


def test_repair_begins_slowly_among_clients_and_a_node_that_was_started_again_is_no_client() -> None:
    throttle = Throttle()
    for tick in range(20):
        throttle.hear(tick * 0.1, ("n1", 1), tick * 10)
        throttle.step(tick * 0.1, margin=None, in_use=0)
    assert throttle.window == 1.0
    quiet = Throttle()
    before = quiet.window
    for tick, (boot, calls) in enumerate([(1, 100), (1, 100), (1, 101), (2, 5000), (2, 5000)]):
        quiet.hear(float(tick), ("n1", boot), calls)
        quiet.step(float(tick), margin=None, in_use=0)
    assert not quiet.among_clients and quiet.window == before


def test_operations_are_small_while_clients_are_under_way_unless_the_operator_wants_all() -> None:
    async def main() -> None:
        pace = Pace(StillClock(), "auto")
        stats = NodeStatsReply("n1", "n1", 0, 0, 0, 0, 0, 7)
        assert pace.window_bytes == WINDOW_BYTES
        pace.hear(NodeId("n1"), stats)
        pace.hear(NodeId("n1"), msgspec.structs.replace(stats, client_calls=100))
        pace.step(2)
        assert pace.window_bytes == SMALL_WINDOW_BYTES
        for size, most in ((WHOLE_BYTES, 1), (WHOLE_BYTES // 4, 4), (100, 8)):
            assert (await _operations(pace, 20, size, 1.0))[1] == most, "small ones go together, up to one large"
        pace.budget = "unlimited"
        assert pace.window_bytes == WINDOW_BYTES

    run(main, seed=1)
