"""Pictures, where matplotlib is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from objstore.bench import picture
from objstore.bench.model import Mark, Result
from tests.unit.bench.test_report import PHASE, measured

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_rounds_marks_and_two_results_are_drawn(tmp_path: Path, suffix: str, begins: bytes) -> None:
    list_ = msgspec.structs.replace(PHASE, operation="list", size=4096)
    first = [measured(1000, marks=[Mark(5.0, "n3 killed")]), measured(900), measured(50, phase=list_, bytes=0)]
    results = [
        Result(name, "2026-01-31T00:00:00Z", {"cpus": "2"}, found) for name, found in (("A", first), ("B", first[:1]))
    ]
    path = tmp_path / f"found.{suffix}"
    picture.draw(results, path)
    raw = path.read_bytes()
    assert raw.startswith(begins) and len(raw) > 5000
    if suffix == "svg":
        assert b"n3 killed" in raw
