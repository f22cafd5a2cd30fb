"""The searches that canaries must not survive, by name. Each looks at one seed and says what is wrong, if anything.

sim             random clusters, faults and clients (tests/sim/runner.py)
explorer        random schedules of the register's messages (tests/sim/explorer.py)
ambush NAME     a rare situation, made likely (tests/sim/ambush)
pytest NODE     named tests; the seed plays no part
calm            a cluster without faults: here canaries keep quiet, or they would be too easy
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable

Look = Callable[[int], list[str]]


def search(lane: str, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first seed at which something is wrong, and what; None if all are well. A crash counts: it was noticed."""
    look = find_lane(lane)
    for seed in seeds:
        try:
            wrong = look(seed)
        except Exception as error:  # noqa: BLE001 - whatever the bug makes of it
            wrong = [f"{type(error).__name__}: {error}"]
        if wrong:
            return seed, wrong[0]
    return None


def find_lane(lane: str) -> Look:
    """Imports all that the search needs, so that what goes wrong later is the search's word."""
    kind, _, detail = lane.partition(" ")
    if kind == "sim":
        from tests.sim import runner

        return runner.run_seed
    if kind == "explorer":
        from tests.sim import explorer

        return lambda seed: [found[1] for found in (explorer.explore(range(seed, seed + 1)),) if found]
    if kind == "pytest":
        import pytest

        assert pytest
        return lambda seed: _pytest(detail)
    from tests.sim import ambush

    return ambush.calm if kind == "calm" else ambush.AMBUSHES[detail]


def _pytest(node: str) -> list[str]:
    """Without rewriting of asserts: that would import the spoiled module its own way."""
    import pytest

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--assert=plain", node])
    if code == pytest.ExitCode.OK:
        return []
    assert code == pytest.ExitCode.TESTS_FAILED, f"pytest ended with {code!r}:\n{output.getvalue()}"
    lines = output.getvalue().splitlines()
    return [next((line[4:].strip() for line in lines if line.startswith("E  ")), lines[-1])]
