"""Linearizability of one key's history (Wing & Gong search with Lowe's memo of visited configurations).

The object is a register of values (None = absent) with conditional writes. An operation whose outcome is
unknown may take effect at any time after its start, or never.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True)
class Op:
    """`condition`: what a write demanded: "" nothing, "absent" (If-None-Match: *), "present" (If-Match: *)."""

    kind: Literal["write", "read"]
    start: float
    end: float  # inf: no answer, or an answer that leaves the outcome open
    value: object = None  # written (None: deleted), or read
    condition: str = ""
    ok: bool = True  # False: refused by its condition; unknown outcomes have end == inf

    def apply(self, state: object) -> tuple[bool, object]:
        """(is this op possible in `state`, the state after it)"""
        if self.kind == "read":
            return state == self.value, state
        holds = {"": True, "absent": state is None, "present": state is not None}[self.condition]
        if self.end == inf:
            return True, self.value if holds else state
        return holds == self.ok, self.value if holds else state


def check(ops: list[Op], initial: object = None) -> bool:
    """True if some order of the operations explains every answer and respects real time."""
    ops = sorted(ops, key=lambda op: (op.start, op.end))
    must = frozenset(i for i, op in enumerate(ops) if op.end != inf)
    everything = frozenset(range(len(ops)))
    seen: set[tuple[frozenset[int], object]] = set()
    stack: list[tuple[frozenset[int], object]] = [(everything, initial)]
    while stack:
        left, state = stack.pop()
        if not left & must:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        horizon = min(ops[i].end for i in left)
        for i in sorted(left, reverse=True):
            if ops[i].start <= horizon:
                possible, after = ops[i].apply(state)
                if possible:
                    stack.append((left - {i}, after))
    return False
