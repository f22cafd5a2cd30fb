"""Whom a write asks for a promise: a majority first, the rest when that is not enough; the value goes to all."""

from __future__ import annotations

import pytest

from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Value
from objstore.register.change import Decision
from objstore.register.proposer import Done, Retry, Send, Target, WriteRound
from objstore.wire.fields import NO_BALLOT
from objstore.wire.messages import RegAccept, RegAccepted, RegPrepare, RegRefused, RegStale, RegState

NODES = tuple(map(NodeId, "ABCDE"))
BALLOT = Ballot(9, 9)
TARGET = Target(b"key", 0, 2, (NODES,))
NOTHING = RegState(NO_BALLOT, b"", b"", NO_BALLOT)


def new_round(down: str = "") -> WriteRound:
    def decide(value: Value) -> Decision:
        return Decision(Value(b"l", b"s", b"d"))

    return WriteRound(TARGET, BALLOT, decide, first=True, preferred=[node not in down for node in NODES])


def asked(sends: list[Send], kind: type = RegPrepare) -> str:
    assert all(isinstance(send.request, kind) for send in sends)
    return "".join(send.node for send in sends)


def test_a_majority_is_asked_and_all_are_written_to() -> None:
    machine = new_round()
    assert asked(machine.start()) == "ABC"
    assert not machine.receive(NodeId("A"), NOTHING, b"") and not machine.receive(NodeId("B"), NOTHING, b"")
    assert asked(machine.receive(NodeId("C"), NOTHING, b""), RegAccept) == "ABCDE"
    for node in NODES[2:]:
        assert machine.outcome is None
        machine.receive(node, RegAccepted(), b"")
    assert isinstance(machine.outcome, Done)


def test_those_that_are_up_are_asked_first() -> None:
    assert asked(new_round("AC").start()) == "BDE"


def test_the_rest_is_asked_once_when_one_fails() -> None:
    machine = new_round()
    machine.start()
    assert asked(machine.fail(NodeId("B"))) == "DE"
    assert not machine.fail(NodeId("C")) and not machine.more()
    machine.receive(NodeId("A"), NOTHING, b"")
    machine.receive(NodeId("D"), NOTHING, b"")
    assert asked(machine.receive(NodeId("E"), NOTHING, b""), RegAccept) == "ABCDE"


@pytest.mark.parametrize("refusal", [RegRefused(Ballot(99, 1).pack()), RegStale(4)])
def test_the_rest_is_asked_when_one_refuses(refusal: RegRefused | RegStale) -> None:
    machine = new_round()
    machine.start()
    assert asked(machine.receive(NodeId("A"), refusal, b"")) == "DE"
    assert machine.outcome is None
    assert not machine.receive(NodeId("B"), refusal, b"")
    machine.receive(NodeId("C"), refusal, b"")
    assert machine.outcome is (Retry.STALE if isinstance(refusal, RegStale) else Retry.CONTENDED)


def test_the_rest_is_asked_when_one_is_late_and_only_for_promises() -> None:
    machine = new_round()
    machine.start()
    assert asked(machine.more()) == "DE"
    for node in NODES[:3]:
        machine.receive(node, NOTHING, b"")
    second = new_round()
    second.start()
    for node in NODES[:3]:
        second.receive(node, NOTHING, b"")
    assert not second.more()
