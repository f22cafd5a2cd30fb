"""The object of the explorer, a list of operation numbers in one register, and the check of its histories.

Every result carries the whole list, so a lost, repeated or reordered change shows at once. The check is a search
for an order of the operations that respects real time and explains every answer (Wing & Gong, with Lowe's memo).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from objstore.model.errors import PreconditionFailed
from objstore.register.change import Change, Outcome

APPEND, KEEP, EVEN, NEW, DELETE, READ, SETTLE = "append", "keep", "even", "new", "delete", "read", "settle"
"""Append; append and keep the data; append if the length is even; append if absent; delete; read; settle: no change."""


@dataclass(eq=False, slots=True)
class Op:
    """One operation of a client. `end` inf: its outcome is not known, it may take effect at any time, or never."""

    number: int
    kind: str
    start: int
    end: float = inf
    refused: bool = False
    result: bytes = b""  # the list afterwards; of a delete: before; of a refusal: that which refused
    never: bool = False  # it has certainly not taken effect, and will not


def allows(kind: str, body: bytes) -> bool:
    if kind == EVEN:
        return len(body) % 2 == 0
    return kind != NEW or not body


def data_of(number: int) -> bytes:
    return bytes((number, number, number))


def change_of(op: Op) -> Change:
    """What the register code applies."""

    def change(body: bytes) -> Outcome:
        if op.kind == DELETE:
            return Outcome(body, b"") if body else Outcome()
        if op.kind == SETTLE:
            return Outcome()
        if not allows(op.kind, body):
            raise PreconditionFailed(body.hex())
        new = body + bytes((op.number,))
        return Outcome(new, new, new[-2:], None if op.kind == KEEP else data_of(op.number))

    return change


def check_parts(body: bytes, listing: bytes, data: bytes | None, kinds: list[Op]) -> str:
    """The parts of a value as read belong together. data None: it was not asked for."""
    if listing != body[-2:]:
        return f"the listing {listing.hex()} does not belong to {body.hex()}"
    last = next((number for number in reversed(body) if kinds[number].kind != KEEP), None)
    if data is not None and data != (b"" if last is None else data_of(last)):
        return f"the data {data.hex()} do not belong to {body.hex()}"
    return ""


def check(ops: list[Op]) -> str:
    """ "" when some order explains everything, else what is wrong."""
    for op in ops:
        if len(set(op.result)) != len(op.result):
            return f"an operation was applied twice: {op}"
    return "" if _explained([op for op in ops if not op.never]) else "no order of the operations explains the answers"


def _explained(ops: list[Op]) -> bool:
    must = frozenset(op for op in ops if op.end != inf)
    seen: set[tuple[frozenset[Op], bytes]] = set()
    stack: list[tuple[frozenset[Op], bytes]] = [(frozenset(ops), b"")]
    while stack:
        left, body = stack.pop()
        while True:  # what leaves the state alone and is possible now may always come first
            horizon = min([op.end for op in left if op.end != inf], default=inf)
            idle = [op for op in left if op.start <= horizon and _changes_nothing(op, body)]
            if not idle:
                break
            left = left.difference(idle)
        if not left & must:
            return True
        if (left, body) in seen:
            continue
        seen.add((left, body))
        for op in left:
            if op.start <= horizon and not op.refused:
                after = _applied(op, body)
                if after is not None:
                    stack.append((left - {op}, after))
    return False


def _changes_nothing(op: Op, body: bytes) -> bool:
    if op.end == inf or op.result != body:
        return False
    if op.refused:
        return not allows(op.kind, body)
    return op.kind == READ or (op.kind == DELETE and not body)


def _applied(op: Op, body: bytes) -> bytes | None:
    """The list after `op`; None where it cannot have happened, or does nothing."""
    if op.kind == READ:
        return None
    if op.kind == DELETE:
        return b"" if body and (op.end == inf or op.result == body) else None
    if not allows(op.kind, body):
        return None
    after = body + bytes((op.number,))
    return after if op.end == inf or op.result == after else None
