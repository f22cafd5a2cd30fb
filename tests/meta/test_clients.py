"""The matrix of S3 clients shows every test of a client, and none that is not there."""

from __future__ import annotations

import ast
import re

from tests.meta.source import ROOT
from tests.s3.clients.prepare import PYTHON_LIBRARIES

MATRIX = (ROOT / "gateway" / "s3" / "CLIENTS.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \| `([^`|]+)` \| ([^|]+) \|$", MATRIX, re.MULTILINE)


def _tests() -> set[str]:
    return {
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests" / "s3" / "clients").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_row_has_its_test_and_each_test_its_row() -> None:
    assert len(ROWS) == MATRIX.count("\n| ") - 1, "a line of the table is not written as the others are"
    shown = [test for _, _, test, _ in ROWS]
    assert len(shown) == len(set(shown)) and set(shown) == _tests()


def test_each_result_is_a_known_one_and_its_note_is_there() -> None:
    notes = set(re.findall(r"^(\d+)\. ", MATRIX, re.MULTILINE))
    for client, _, test, result in ROWS:
        said = re.fullmatch(r"works(?:, (\d+))?|fails: .+", result)
        assert said and (said[1] is None or said[1] in notes), (client, test, result)
    assert notes == {number for *_, result in ROWS for number in re.findall(r"works, (\d+)", result)}


def test_versions_that_are_wanted_exactly_are_the_ones_shown() -> None:
    shown = {version for _, versions, _, _ in ROWS for version in versions.split(", ")}
    exact = {wish.partition("==")[2] for wishes in PYTHON_LIBRARIES.values() for wish in wishes if "==" in wish}
    assert exact and exact <= shown
