"""The acceptor's rules of one register (CASPaxos: Rystsov, "CASPaxos: Replicated State Machines without logs").

Two ballots and a few decisions; the value is stored beside them by whoever calls. The caller makes the new
state (and the value) durable before it answers (INV-2).

`floor` is the floor ballot of the register's partition (INV-11, DESIGN.md). It speaks of *absent* registers only,
those where nothing is accepted: everything up to it may have happened there and been forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from objstore.model.clock import ZERO, Ballot


class AcceptorState(NamedTuple):
    promised: Ballot  # rounds below this are refused
    accepted: Ballot  # of the stored value; ZERO = no value


EMPTY = AcceptorState(ZERO, ZERO)


def prepare(state: AcceptorState, ballot: Ballot, floor: Ballot = ZERO) -> tuple[AcceptorState, bool]:
    """Round 1: promise to refuse lower ballots. Never granted twice for one ballot."""
    if ballot > state.promised and ballot > _past(state, floor):
        return AcceptorState(ballot, state.accepted), True
    return state, False


def accept(state: AcceptorState, ballot: Ballot, floor: Ballot = ZERO) -> tuple[AcceptorState, bool]:
    """Round 2. One ballot belongs to one value, so a repeat of the accepted ballot is granted again."""
    if ballot == state.accepted:
        return state, True
    return install(state, ballot, floor)


def install(state: AcceptorState, ballot: Ballot, floor: Ballot = ZERO) -> tuple[AcceptorState, bool]:
    """Take over what others accepted (layout change): like an accept that was sent again, so it keeps promises.

    Were promises ignored, a fast read could meet a majority that "accepted" a ballot which a rival, having
    prepared here, already knows can never be chosen."""
    if ballot >= state.promised and ballot > _past(state, floor):
        return AcceptorState(ballot, ballot), True
    return state, False


def refusal(state: AcceptorState, floor: Ballot = ZERO) -> Ballot:
    """What a refused proposer has to get above."""
    return max(state.promised, _past(state, floor))


def may_forget(state: AcceptorState, ballot: Ballot, floor: Ballot) -> bool:
    """May the register become absent, if `ballot` (ZERO: nothing) is all it ever accepted and its value is empty?

    The floor then stands for both of its ballots. A promise above it would be lost, and a lower ballot could be
    accepted behind the back of whoever prepared."""
    return ballot == state.accepted and max(state) <= floor


def is_joint(tag: int) -> bool:
    """Tags are odd while a partition has two sets of acceptors. An acceptor that grants a round under such a tag, or
    is read under it, refuses lower tags from then on as if it were fenced (INV-11: no old-only `forget` may begin)."""
    return tag % 2 == 1


def _past(state: AcceptorState, floor: Ballot) -> Ballot:
    """The highest ballot at which something may have been accepted here."""
    return floor if state.accepted == ZERO else state.accepted
