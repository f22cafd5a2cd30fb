"""Every micro-benchmark runs, and says what it measured beside which limit. How fast that is, no test knows."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

SHORT = ["--seconds", "0.01"]
BENCHES = {
    "codec": [*SHORT, "--cell", "4KiB"],
    "framing": SHORT,
    "register": SHORT,
    "listing": [*SHORT, "--keys", "50"],
    "placement": [*SHORT, "--nodes", "8"],
    "commit": [*SHORT, "--batch", "1,4", "--window", "0,1", "--size", "512"],
    "rpc": SHORT,
}


def test_every_bench_has_its_parameters_here() -> None:
    root = Path(__file__).resolve().parents[3] / "bench"
    others = {"__init__", "figures", "repair", "idle", "choices"}  # no benches, and those that start clusters
    assert {path.stem for path in root.glob("*.py")} - others == set(BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_each_figure_beside_its_limit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert module.main([*BENCHES[name], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] and len(found["figures"]) >= 2
    for figure in found["figures"]:
        assert figure["value"] > 0 and figure["unit"] and figure["limit"] and figure["ratio"] > 0, figure


def test_figures_are_shown_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module("bench.register")
    assert module.main(SHORT) == 0
    title, empty, head, *rows = capsys.readouterr().out.splitlines()
    assert title and not empty and head.split() == ["figure", "unit", "limit", "ratio"] and len(rows) == 2
    assert all("rounds/s" in row and "loopback" in row for row in rows)
