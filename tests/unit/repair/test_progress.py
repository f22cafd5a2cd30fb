"""The time left is within a factor of two of the truth from a fifth of the work on: episodes played to their end."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import cycle, islice

import pytest

from objstore.repair.progress import ItemCost, Speed

KIB, MIB = 1 << 10, 1 << 20
WIDTH = 8


def play(
    sizes: list[int], per_item_s: float, per_byte_s: float, *, width: int = 8, load: Callable[[float], float]
) -> None:
    """Jobs in the order of `sizes`, `width` at a time, on machines that take `load(now)` times as long. Bytes are told
    in windows of 1 MiB, as the rebuilder does. The truth is known afterwards."""
    speed = Speed()
    speed.begin(0.0)
    now, todo = 0.0, list(reversed(sizes))
    running: list[list[float]] = []  # [seconds of work left, bytes told, size, seconds held]
    items_left, bytes_left, total = len(sizes), float(sum(sizes)), float(sum(map(cost(per_item_s, per_byte_s), sizes)))
    done = 0.0
    said: list[tuple[float, float, float]] = []  # (when, eta, share done)
    step = 0.01
    while todo or running:
        while todo and len(running) < WIDTH:
            size = todo.pop()
            running.append([cost(per_item_s, per_byte_s)(size), 0.0, size, 0.0])
        now += step
        share = step / load(now) / len(running)  # the machines are shared by those that run
        for one in list(running):
            work = min(one[0], share)
            one[0] -= work
            one[3] += step
            done += work
            whole = cost(per_item_s, per_byte_s)(int(one[2]))
            told = one[2] if one[0] <= 0 else MIB * int(one[2] * (1 - one[0] / whole) / MIB)
            if told > one[1]:
                speed.moved(now, told - one[1], int(told - one[1]) // 5)
                one[1] = told
            if one[0] <= 1e-12:
                running.remove(one)
                speed.finished(now, one[2], one[3])
                items_left -= 1
                bytes_left -= one[2]
        eta = speed.eta_s(now, items_left, bytes_left - sum(one[1] for one in running))
        if eta is not None:
            said.append((now, eta, done / total))
    late = [(at, eta) for at, eta, share in said if 0.2 <= share <= 0.98 and now - at > 1.0]
    assert len(late) > 20, "it has said something"
    wrong = [(at, eta, now - at) for at, eta in late if not 0.5 <= eta / (now - at) <= 2]
    assert not wrong, f"{len(wrong)} of {len(late)} are wrong; (at, said, truth): {wrong[:: max(1, len(wrong) // 5)]}"


def cost(per_item_s: float, per_byte_s: float) -> Callable[[int], float]:
    return lambda size: per_item_s + per_byte_s * size


def steady(now: float) -> float:
    return 1.0


MIXED = [4 * KIB] * 60 + [200 * KIB] * 30 + [16 * MIB] * 2


@pytest.mark.parametrize(
    ("sizes", "per_item_s", "per_byte_s"),
    [
        ([64 * KIB] * 2000, 0.01, 1 / (100 * MIB)),
        ([80 * MIB] * 60, 0.01, 1 / (100 * MIB)),
        (MIXED * 12, 0.01, 1 / (100 * MIB)),
        (MIXED * 12, 0.002, 1 / (400 * MIB)),
        (random.Random(1).sample(MIXED * 12, len(MIXED) * 12), 0.03, 1 / (50 * MIB)),
        (sorted(MIXED * 12), 0.01, 1 / (100 * MIB)),
        (sorted(MIXED * 12, reverse=True), 0.01, 1 / (100 * MIB)),
    ],
    ids=["small", "large", "mixed", "mixed, fast", "mixed, slow", "small first", "large first"],
)
def test_within_a_factor_of_two(sizes: list[int], per_item_s: float, per_byte_s: float) -> None:
    play(sizes, per_item_s, per_byte_s, load=steady)


def test_within_a_factor_of_two_while_clients_come_and_go() -> None:
    """A load that goes up and down: what comes is not known, but the mean of the last seconds is a fair guess."""
    waves = [1.0 + 0.5 * (second // 3 % 2) for second in range(10_000)]
    play(MIXED * 12, 0.01, 1 / (100 * MIB), load=lambda now: waves[int(now)])
    play([MIB] * 1500, 0.01, 1 / (100 * MIB), load=lambda now: 3.0 if now < 10 else 2.0)


def test_a_change_for_good_is_seen_within_the_window() -> None:
    speed = Speed()
    speed.begin(0.0)
    now = 0.0
    for pace in (0.01, 0.1):
        for _ in range(int(30 / pace)):
            now += pace
            speed.moved(now, MIB, MIB // 5)
            speed.finished(now, MIB, pace)
        eta = speed.eta_s(now, 100, 100 * MIB)
        assert eta is not None and 0.9 < eta / (100 * pace) < 1.1


def test_what_an_item_costs_is_learnt_from_sizes_that_differ() -> None:
    learnt = ItemCost()
    for size in islice(cycle([4 * KIB, 500 * KIB, 20 * MIB]), 90):
        learnt.add(size, 0.05 + size / (10 * MIB))
    assert 0.8 < learnt.bytes_per_item / (0.05 * 10 * MIB) < 1.25


def test_it_is_silent_while_it_knows_too_little() -> None:
    speed = Speed()
    assert speed.eta_s(5.0, 3, 100) is None
    speed.begin(10.0)
    speed.moved(10.5, 100, 20)
    speed.finished(10.5, 100, 0.1)
    assert speed.eta_s(10.6, 3, 300) is None
    assert speed.eta_s(20.0, 0, 0) is None
