"""Rounds under two sets of owners: what is chosen is with a majority of both (INV-1, INV-3)."""

from __future__ import annotations

import itertools

import pytest

from objstore.model.clock import Ballot
from objstore.model.errors import NotFound
from objstore.model.ids import NodeId
from objstore.model.records import Register, Value, encode
from objstore.register.change import Decision, Outcome, apply
from objstore.register.proposer import Done, ReadRound, Target, WriteRound
from objstore.wire.messages import RegState

SETS = (tuple(map(NodeId, "ABC")), tuple(map(NodeId, "DEF")))
ANSWERING = tuple(map(NodeId, "ABDE"))  # just a majority of either
LOW, TOP = Ballot(1, 1), Ballot(2, 1)
TARGET = Target(b"k" * 20, 0, 3, SETS)
PATTERNS = list(itertools.product((LOW, TOP), repeat=len(ANSWERING)))


def state(ballot: Ballot) -> RegState:
    return RegState(ballot.pack(), b"l", encode(Register(b"%d" % ballot.time)))


def agreed(pattern: tuple[Ballot, ...]) -> bool:
    """Whether the highest ballot was seen by majorities of both sets."""
    holding = [node for node, ballot in zip(ANSWERING, pattern, strict=True) if ballot == max(pattern)]
    return all(sum(node in holding for node in owners) > len(owners) // 2 for owners in SETS)


def refuse(value: Value) -> Decision:
    def change(body: bytes) -> Outcome:
        raise NotFound("no")

    return apply(value, change, bytes(16), Ballot(9, 9), None)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: "".join(str(ballot.time) for ballot in pattern))
def test_a_joint_read_is_over_only_when_majorities_of_both_sets_agree(pattern: tuple[Ballot, ...]) -> None:
    """A value that only the old owners agree on may be unknown to the new ones, who will be alone one day: a read that
    returned it without writing it back could be followed by one that does not know it."""
    machine = ReadRound(TARGET, with_data=False, preferred=[NodeId(n) in ANSWERING for n in "ABCDEF"])
    assert sorted(send.node for send in machine.start()) == list(ANSWERING)
    for node, ballot in zip(ANSWERING, pattern, strict=True):
        machine.receive(node, state(ballot), b"")
    assert isinstance(machine.outcome, Done) == agreed(pattern)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: "".join(str(ballot.time) for ballot in pattern))
def test_a_joint_refusal_rests_on_majorities_of_both_sets(pattern: tuple[Ballot, ...]) -> None:
    """A refusal that rests on a value that is not chosen in both sets becomes untrue when another is adopted (INV-3);
    such a value has to be written again first."""
    machine = WriteRound(TARGET, Ballot(9, 9), refuse, first=True)
    machine.start()
    for node, ballot in zip(ANSWERING, pattern, strict=True):
        machine.receive(node, state(ballot), b"")
    assert isinstance(machine.outcome, Done) == agreed(pattern)
