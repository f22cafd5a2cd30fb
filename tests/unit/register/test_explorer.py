"""Random schedules over the real register code, and planted bugs that they must find.

`python -m tests.sim.explorer --schedules 300000 --jobs 2` looks longer.
"""

import pytest

from tests.sim.explorer import explore

SCHEDULES = 3000

PLANTED = [
    "no fence",
    "a sync from one acceptor",
    "newcomers do not forget",
    "an install ignores promises",
    "an install is not looked at",
    "a retry with a new id",
    "answers before it is durable",
    "a full replica refuses what it promised",
    "a lack of room is told too late",
    pytest.param("a read reports what is not durable", marks=pytest.mark.long),
]
NEEDLES = ["a shortcut after an accept", "a sync does not settle"]  # in a haystack of other trouble


def test_no_schedule_breaks_a_promise() -> None:
    assert explore(range(SCHEDULES)) is None


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert explore(range(40_000), bug) is not None


@pytest.mark.parametrize("bug", NEEDLES)
def test_a_planted_bug_is_found_by_sharper_schedules(bug: str) -> None:
    assert explore(range(40_000), bug, sharp=True) is not None
