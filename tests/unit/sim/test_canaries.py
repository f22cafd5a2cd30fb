"""The canaries fit the product as it is, and each search finds one. (All of them: `tests.sim --canaries`.)"""

from __future__ import annotations

import ast

import pytest

from tests.sim.ambush import AMBUSHES
from tests.sim.canaries import hunt
from tests.sim.canaries.canary import ROOT, Canary, misfits, source_path, spoiled
from tests.sim.canaries.planted import CANARIES

QUICK = {canary.lane: canary for canary in CANARIES if canary.quick}  # one of each lane: no search is blind


def test_names_are_distinct_and_there_are_many() -> None:
    assert len({canary.name for canary in CANARIES}) == len(CANARIES) >= 40


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_a_canary_fits_its_module_and_leaves_it_python(canary: Canary) -> None:
    source = source_path(canary.module).read_text()
    assert not misfits(canary, source)
    assert ast.dump(ast.parse(spoiled(canary, source))) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_a_canary_names_a_search_that_exists(canary: Canary) -> None:
    kind, _, detail = canary.lane.partition(" ")
    if kind == "ambush":
        assert detail in AMBUSHES
    elif kind == "pytest":
        path, _, test = detail.partition("::")
        assert f"def {test}" in (ROOT / path).read_text()
    else:
        assert canary.lane in ("sim", "explorer")


def test_each_search_finds_a_canary() -> None:
    found = list(hunt.hunt_all([*QUICK.values()], calm=False))
    assert not [hunt.row(finding) for finding in found if not finding.said]


def test_a_canary_that_does_not_fit_is_no_discovery() -> None:
    with pytest.raises(hunt.Broken, match="there is no canary"):
        hunt.run("a name that nobody gave", "calm", 0, 1)
