"""Applying one operation to the value of a register, exactly once whatever is retried. Pure.

A value carries the results of its recent operations. A proposer that lost its answer runs the same operation
again under a higher ballot; if the first attempt took effect after all, its result is found here (INV-3).
Records are pruned by count and age. That is safe for any pruning: `ops_floor` is the highest ballot time that
was pruned, and an operation whose first accept was sent at or below it no longer knows its fate: UNKNOWN.

An operation may name things with ids of their own (fragments on disks), which garbage collection gives up when nobody
names them for long. `ids_floor` is how it makes sure that nobody will: operations with ids born at or below it are
refused, for ever (INV-7). A register that was forgotten refuses whatever was born before that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.errors import Conflict, GivenUp, NotFound
from objstore.model.records import OpRecord, Register, Value, decode, encode


class Outcome(NamedTuple):
    """What a change function decides. body None: the value stays as it is."""

    result: bytes = b""  # remembered for retries; small
    body: bytes | None = None  # new body of the Register; b"" is a tombstone
    listing: bytes = b""
    data: bytes | None = b""  # new inline data; None: keep
    kept: tuple[tuple[int, int], ...] = ()  # (offset, length) of pieces of the old inline data that follow `data`
    ids_floor: int = 0  # refuse operations with ids born up to this ballot time, from now on
    stamped: Callable[[bytes], bytes] | None = None  # makes `body` of the ballot of the round, if that is part of it


Change = Callable[[bytes], Outcome]
"""(body, b"" if absent) -> Outcome. Raises NotFound or Conflict when the operation is refused by the state.
Pure and repeatable: it may run several times."""


class Decision(NamedTuple):
    """`value` None: nothing to write, but the value read must be known to be chosen before `result` or
    `error` may be told. `keep_data`: the inline data of the value read goes into the new value, or what `joined`
    makes of both."""

    value: Value | None
    result: bytes = b""
    error: NotFound | Conflict | None = None
    keep_data: bool = False
    unknown: bool = False
    kept: tuple[tuple[int, int], ...] = ()

    def joined(self, old: bytes) -> bytes:
        """The new inline data, given the old."""
        assert self.value is not None
        if not self.kept:
            return old
        return b"".join((self.value.data, *(old[at : at + length] for at, length in self.kept)))


def apply(
    value: Value, change: Change, op: bytes, ballot: Ballot, first_accept: int | None, born: int | None = None
) -> Decision:
    """Decide operation `op` on the highest accepted `value` under `ballot`.

    first_accept: ballot time of the first accept this operation ever sent, or None if it sent none.
    born: ballot time at which the oldest id was made that the operation names; None: it names none.
    """
    assert born is None or born < ballot.time, "the id was made before the round began"
    register = decode(value.state, Register) if value.state else Register(b"")
    for record in register.ops:
        if record.op == op:
            return Decision(None, record.result)
    if first_accept is not None and register.ops_floor >= first_accept:
        return Decision(None, unknown=True)
    ids_floor = _ids_floor(register)
    if born is not None and born <= ids_floor:
        text = "this write took so long that what it had stored was given up; repeat it"
        return Decision(None, error=GivenUp(text, ids_floor))
    try:
        outcome = change(register.body)
    except (NotFound, Conflict) as refused:
        return Decision(None, error=refused)
    if outcome.body is None:
        return Decision(None, outcome.result)
    ops, floor = _pruned(register, OpRecord(op, ballot.time, outcome.result))
    assert outcome.ids_floor < ballot.time, "forgetting the register must cover it"
    body = outcome.stamped(ballot.pack()) if outcome.stamped is not None else outcome.body
    state = encode(Register(body, ops, floor, max(ids_floor, outcome.ids_floor)))
    new = Value(outcome.listing, state, outcome.data or b"")
    return Decision(new, outcome.result, keep_data=outcome.data is None or bool(outcome.kept), kept=outcome.kept)


def _ids_floor(register: Register) -> int:
    """A written register remembers an operation at least: without one it was forgotten, up to `ops_floor`."""
    return register.ids_floor if register.ops else max(register.ids_floor, register.ops_floor)


def _pruned(register: Register, newest: OpRecord) -> tuple[tuple[OpRecord, ...], int]:
    horizon = newest.ballot_time - (limits.OPS_KEPT_MS << 16)
    ops = (*register.ops, newest)
    kept = tuple(r for r in ops[-limits.OPS_KEPT_MAX :] if r.ballot_time >= horizon)
    dropped = ops[: len(ops) - len(kept)]
    assert kept[-1] is newest, "ballots of one register rise"
    return kept, max([register.ops_floor, *(r.ballot_time for r in dropped)])


def body_of(value: Value) -> bytes:
    """The body of a value as read: b"" when absent or deleted."""
    return decode(value.state, Register).body if value.state else b""
