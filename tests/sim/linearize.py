"""Linearizability of one history (Wing & Gong search with Lowe's memo of visited configurations).

The object is whatever the operations say (`apply`); `Op` is a register of values (None = absent) with conditional
writes. An operation whose outcome is unknown may take effect at any time after its start, or never.

Two things keep the search small: what never changes anything (`reads`) is taken at once where it answers truly (if any
order explains the history, one with it here does too), and an operation of unknown outcome is tried only where it
changes something. A write that happens to change nothing here may still be the one that changes something later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Protocol


class Operation(Protocol):
    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float:
        """inf: no answer, or an answer that leaves the outcome open."""

    @property
    def reads(self) -> bool:
        """It changes nothing in any state in which it is possible."""

    def apply(self, state: object) -> tuple[bool, object]:
        """(is this op possible in `state`, the state after it)"""


@dataclass(frozen=True)
class Op:
    """`condition`: what a write demanded: "" nothing, "absent" (If-None-Match: *), "present" (If-Match: *), else the
    value that must be there (If-Match: an ETag)."""

    kind: Literal["write", "read"]
    start: float
    end: float
    value: object = None  # written (None: deleted), or read
    condition: str = ""
    ok: bool = True  # False: refused by its condition; unknown outcomes have end == inf
    found: bool | None = None  # a delete that told whether there was something

    @property
    def reads(self) -> bool:
        return self.kind == "read" or not self.ok or self.found is False

    def apply(self, state: object) -> tuple[bool, object]:
        if self.kind == "read":
            return state == self.value, state
        plain = {"": True, "absent": state is None, "present": state is not None}
        holds = plain.get(self.condition, state == self.condition)
        after = self.value if holds else state
        if self.end == inf:
            return True, after
        truly = self.found is None or self.found == (state is not None)
        return holds == self.ok and truly, after


def check(ops: Sequence[Operation], initial: object = None) -> bool:
    """True if some order of the operations explains every answer and respects real time."""
    ops = sorted(ops, key=lambda op: (op.start, op.end))
    must = sum(1 << i for i, op in enumerate(ops) if op.end != inf)
    seen: set[tuple[int, object]] = set()
    stack: list[tuple[int, object]] = [((1 << len(ops)) - 1, initial)]
    while stack:
        left, state = stack.pop()
        if not left & must:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        stack.extend(_next(ops, left, state))
    return False


def _next(ops: Sequence[Operation], left: int, state: object) -> list[tuple[int, object]]:
    """The configurations that one more operation leads to, the most promising last."""
    found: list[tuple[int, object]] = []
    horizon = inf
    pending = left
    while pending:
        lowest = pending & -pending
        pending ^= lowest
        op = ops[lowest.bit_length() - 1]
        if op.start > horizon:
            break
        horizon = min(horizon, op.end)
        possible, after = op.apply(state)
        if not possible:
            continue
        if op.reads and op.end != inf:
            return [(left ^ lowest, state)]
        if after != state or op.end != inf:
            found.append((left ^ lowest, after))
    return found[::-1]
