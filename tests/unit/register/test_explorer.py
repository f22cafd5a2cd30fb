"""Random schedules over the real register code, and planted bugs that they must find."""

import pytest

from tests.sim.explorer import explore


def test_no_schedule_loses_or_repeats_an_increment() -> None:
    assert explore(range(3000)) is None


@pytest.mark.parametrize(
    "canary",
    ["no fence", "sync from one acceptor", "no reset of joining acceptors", "retry with a new id"],
)
def test_planted_bug_is_found(canary: str) -> None:
    assert explore(range(20000), canary) is not None
