"""Whom a write asks for a promise: a majority first, the rest when that is not enough; the value goes to all."""

from __future__ import annotations

import msgspec
import pytest

from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Value
from objstore.register.change import Decision
from objstore.register.proposer import Done, Retry, Send, Target, WriteRound
from objstore.wire.fields import NO_BALLOT
from objstore.wire.messages import RegAccept, RegAccepted, RegPrepare, RegRead, RegRefused, RegStale, RegState

NODES = tuple(map(NodeId, "ABCDE"))
BALLOT = Ballot(9, 9)
TARGET = Target(b"key", 0, 2, (NODES,))
NOTHING = RegState(NO_BALLOT, b"", b"", NO_BALLOT)
FULL = RegState(NO_BALLOT, b"", b"", NO_BALLOT, full=True)
NEW = Value(b"l", b"s", b"d")
THERE = RegState(Ballot(5, 5).pack(), b"l", b"there")


def new_round(down: str = "", to: Value = NEW, *, first: bool = True) -> WriteRound:
    def decide(value: Value) -> Decision:
        return Decision(to)

    return WriteRound(TARGET, BALLOT, decide, first=first, preferred=[node not in down for node in NODES])


def told(machine: WriteRound, replies: dict[str, RegState]) -> list[Send]:
    """What is sent after the last of them."""
    sends: list[Send] = []
    for node, reply in replies.items():
        assert not sends, "before everybody was heard"
        sends = machine.receive(NodeId(node), reply, b"")
    return sends


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


def test_a_full_replica_is_sent_no_new_value_and_another_is_asked() -> None:
    machine = new_round()
    machine.start()
    assert asked(told(machine, {"A": NOTHING, "B": FULL, "C": NOTHING})) == "DE"
    assert asked(machine.receive(NodeId("E"), NOTHING, b""), RegAccept) == "ACDE"
    for node in "AC":
        machine.receive(NodeId(node), RegAccepted(), b"")
    assert machine.outcome is None
    machine.receive(NodeId("E"), RegAccepted(), b"")
    assert isinstance(machine.outcome, Done)


def test_without_room_on_a_majority_nothing_is_sent_at_all() -> None:
    machine = new_round()
    machine.start()
    told(machine, {"A": FULL, "B": NOTHING, "C": FULL})
    assert machine.outcome is None and not machine.receive(NodeId("D"), NOTHING, b"")
    assert not machine.receive(NodeId("E"), FULL, b"")
    assert machine.outcome is Retry.FULL and not machine.accept_sent and machine.full == set("ACE")


def test_who_fails_while_room_is_looked_for_has_none() -> None:
    machine = new_round()
    machine.start()
    told(machine, {"A": FULL, "B": NOTHING, "C": FULL})
    assert not machine.fail(NodeId("D"))
    assert machine.outcome is Retry.FULL


@pytest.mark.parametrize("refusal", [RegRefused(Ballot(99, 1).pack()), RegStale(4)])
def test_who_refuses_while_room_is_looked_for_may_let_another_round_find_some(refusal: RegRefused | RegStale) -> None:
    machine = new_round()
    machine.start()
    told(machine, {"A": FULL, "B": NOTHING, "C": FULL})
    machine.receive(NodeId("D"), refusal, b"")
    assert machine.outcome is (Retry.STALE if isinstance(refusal, RegStale) else Retry.CONTENDED)


def test_a_word_of_room_that_comes_while_data_is_fetched_is_not_forgotten() -> None:
    def decide(value: Value) -> Decision:
        return Decision(Value(b"l", b"new", b""), keep_data=True)

    machine = WriteRound(TARGET, BALLOT, decide, first=True)
    machine.start()
    machine.more()
    fetch = told(machine, {"A": THERE, "B": msgspec.structs.replace(THERE, full=True), "C": THERE})
    assert asked(fetch, RegRead) == "A"
    assert not machine.receive(NodeId("D"), THERE, b"") and not machine.fail(NodeId("E"))
    assert asked(machine.receive(NodeId("A"), THERE, b"data"), RegAccept) == "ACDE"


@pytest.mark.parametrize(
    "machine",
    [
        new_round(to=Value(b"", b"tombstone", b"")),
        new_round(to=Value(b"l", b"there", b"")),
        new_round(first=False),
    ],
    ids=["a tombstone", "what is there", "what may be there"],
)
def test_what_takes_no_room_goes_to_full_replicas_too(machine: WriteRound) -> None:
    machine.start()
    full = msgspec.structs.replace(THERE, full=True)
    assert asked(told(machine, {"A": full, "B": full, "C": full}), RegAccept) == "ABCDE"
