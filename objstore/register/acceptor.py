"""The acceptor's rules of one register (CASPaxos: Rystsov, "CASPaxos: Replicated State Machines without logs").

Two ballots and three decisions; the value is stored beside them by whoever calls. The caller makes the new
state (and the value) durable before it answers (INV-2).
"""

from __future__ import annotations

from typing import NamedTuple

from objstore.model.clock import ZERO, Ballot


class AcceptorState(NamedTuple):
    promised: Ballot  # rounds below this are refused
    accepted: Ballot  # of the stored value; ZERO = no value


EMPTY = AcceptorState(ZERO, ZERO)


def prepare(state: AcceptorState, ballot: Ballot) -> tuple[AcceptorState, bool]:
    """Round 1: promise to refuse lower ballots. Never granted twice for one ballot."""
    if ballot > state.promised and ballot > state.accepted:
        return AcceptorState(ballot, state.accepted), True
    return state, False


def accept(state: AcceptorState, ballot: Ballot) -> tuple[AcceptorState, bool]:
    """Round 2. One ballot belongs to one value, so a repeat of the accepted ballot is granted again."""
    if ballot == state.accepted:
        return state, True
    if ballot >= state.promised and ballot > state.accepted:
        return AcceptorState(ballot, ballot), True
    return state, False


def install(state: AcceptorState, ballot: Ballot) -> tuple[AcceptorState, bool]:
    """Take over what others accepted (layout change): like an accept that was sent again, so it keeps promises.

    Were promises ignored, a fast read could meet a majority that "accepted" a ballot which a rival, having
    prepared here, already knows can never be chosen."""
    if ballot > state.accepted and ballot >= state.promised:
        return AcceptorState(ballot, ballot), True
    return state, False
