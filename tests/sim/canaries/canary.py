"""What a canary is: a small change of one module's source that makes it wrong in a way that people make mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Edit:
    old: str  # occurs exactly once in the module
    new: str


@dataclass(frozen=True)
class Canary:
    """`lane` is the search that must find it within `limit` seeds; see lanes.py."""

    name: str
    module: str
    edits: tuple[Edit, ...]
    lane: str
    why: str  # what is planted, in words
    limit: int = 200
    quick: bool = False  # found within a second or two: `make test` looks for one of each lane


def source_path(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def misfits(canary: Canary, source: str) -> list[str]:
    """Edits that cannot be made: what they replace is not there exactly once, or they change nothing."""
    return [
        f"{canary.name}: {source.count(edit.old)} times in {canary.module}: {edit.old!r}"
        for edit in canary.edits
        if source.count(edit.old) != 1 or edit.new == edit.old
    ]


def spoiled(canary: Canary, source: str) -> str:
    """The source with the bug in it."""
    assert not (wrong := misfits(canary, source)), wrong
    for edit in canary.edits:
        source = source.replace(edit.old, edit.new)
    return source
