"""Seeds of the simulation: what clients saw is linearizable, nothing is lost, nothing is left over, nothing hangs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.plan import draw
from tests.sim.runner import run_seed
from tests.sim.search import run_twice, search

ROOT = Path(__file__).parents[2]
SEEDS = range(60)  # and those that once failed, below; `make prove` goes on from there
AT_A_TIME = 10
REGRESSIONS = {
    20: "an operator's change of the layout whose answer was lost",
    652: "reads ask members whose lease this gateway does not know of",
    1029: "a list ends in time when most replicas are silent",
    1062: "a bucket that goes while it is written to",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", SEEDS[::AT_A_TIME])
def test_faulty_runs_keep_the_promises(first: int, capfd: pytest.CaptureFixture[str]) -> None:
    bad = search(SEEDS[first : first + AT_A_TIME], jobs=1, minutes=0, twice=False)
    assert not bad, capfd.readouterr().out


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_what_once_failed(seed: int) -> None:
    assert not run_seed(seed), str(draw(seed))


@pytest.mark.parametrize("seed", range(9000, 9010))
def test_without_faults_nothing_fails(seed: int) -> None:
    assert not run_seed(seed, without_faults=True)


@pytest.mark.parametrize("seed", [3, 87])
def test_a_seed_is_the_same_run_in_every_process(seed: int) -> None:
    assert not run_twice(seed).wrong


def test_a_bad_seed_is_told_with_the_command_that_shows_it_again() -> None:
    code = (
        "import sys; from tests.sim import checks, search\n"
        "async def lost(cluster): return ['something is lost']\n"
        "checks.collected = lost\n"
        "sys.exit(search.search([9001], jobs=1, minutes=0, twice=False))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "seed 9001 is bad" in done.stdout and "python -m tests.sim --seed 9001" in done.stdout
    assert "something is lost" in done.stdout
