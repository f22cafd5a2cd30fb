"""Every invariant of the documents is named where the code keeps it and where a test would notice if it did not."""

from __future__ import annotations

import re

import pytest

from tests.meta.source import ROOT

DOCUMENTS = ("objstore/ARCHITECTURE.md", "objstore/register/DESIGN.md")
STATED = re.compile(r"^(?:\| |- \*\*)(INV-\d+)(?: \||\*\*)", re.MULTILINE)


def _stated() -> list[str]:
    return [name for document in DOCUMENTS for name in STATED.findall((ROOT / document).read_text())]


def _named_in(*folders: str) -> set[str]:
    here = ROOT / "tests/meta"
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py") if here not in path.parents)
    return {name for path in files for name in re.findall(r"INV-\d+", path.read_text())}


def test_invariants_are_numbered_without_gaps_or_repeats() -> None:
    numbers = [int(name.removeprefix("INV-")) for name in _stated()]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("folders", [("objstore", "gateway"), ("tests",)], ids=["code", "tests"])
def test_every_invariant_is_named_and_every_named_one_is_stated(folders: tuple[str, ...]) -> None:
    stated = set(_stated())
    named = _named_in(*folders)
    assert stated <= named, f"nobody names {sorted(stated - named)}"
    assert named <= stated, f"nobody states {sorted(named - stated)}"
