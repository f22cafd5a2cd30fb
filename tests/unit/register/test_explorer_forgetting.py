"""Schedules in which tombstones are forgotten, and planted bugs in the forgetting that they must find (INV-11)."""

from __future__ import annotations

import pytest

from tests.sim.explorer import World


def explore(seeds: range, bug: str = "") -> tuple[int, str] | None:
    """The first schedule with collectors that goes wrong."""
    for seed in seeds:
        world = World(seed, bug)
        if world.forgets and (wrong := world.run()):
            return seed, wrong
    return None


def test_nothing_comes_back_and_nothing_is_applied_twice() -> None:
    assert explore(range(5000)) is None


@pytest.mark.parametrize(
    "bug",
    [
        "a register is forgotten without a floor",
        "an absent register reports no floor",
        "a majority is looked at",
    ],
)
def test_planted_bug_is_found(bug: str) -> None:
    assert explore(range(40_000), bug) is not None
