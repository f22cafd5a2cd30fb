"""The product comes out of every ambush with nothing wrong."""

from __future__ import annotations

import pytest

from tests.sim.ambush import AMBUSHES, calm

SEEDS = 3
SLOW = {"slow_put": 1, "blackout": 2, "rebuilt": 2, "rot": 2}  # seconds per seed


@pytest.mark.parametrize("name", sorted(AMBUSHES))
def test_ambush(name: str) -> None:
    for seed in range(SLOW.get(name, SEEDS)):
        assert not AMBUSHES[name](seed), f"seed {seed} of {name}"


def test_calm() -> None:
    assert not calm(1)
