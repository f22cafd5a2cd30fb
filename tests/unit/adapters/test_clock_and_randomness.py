"""The real clock and randomness do what their ports say."""

from __future__ import annotations

import time

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.ports import Clock, Random


def test_the_clock_is_monotonic_in_seconds_and_wall_time_is_in_milliseconds() -> None:
    clock: Clock = SystemClock()
    first = clock.monotonic()
    assert isinstance(first, float) and clock.monotonic() >= first
    before = time.time() * 1000
    wall = clock.wall_ms()
    assert isinstance(wall, int) and before - 1 <= wall <= time.time() * 1000


def test_random_bytes_have_the_length_asked_for_and_do_not_repeat() -> None:
    random: Random = SystemRandom()
    assert [len(random.bytes(count)) for count in (0, 1, 32)] == [0, 1, 32]
    assert len({random.bytes(16) for _ in range(100)}) == 100


def test_uniform_stays_between_its_bounds() -> None:
    random = SystemRandom()
    values = [random.uniform(-1.0, 3.0) for _ in range(1000)]
    assert all(-1.0 <= value <= 3.0 for value in values)
    assert min(values) < 0.0 < 2.0 < max(values)
