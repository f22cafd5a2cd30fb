"""A read whose replicas disagree: whose data it believes, and what it does when the one it counted on falls silent."""

from __future__ import annotations

from objstore.model.clock import ZERO, Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Register, encode
from objstore.register.proposer import Done, ReadRound, Retry, Send, Target
from objstore.wire.messages import RegAccept, RegAccepted, RegRead, RegStale, RegState

A, B, C = map(NodeId, "abc")
STATE = encode(Register(b"body"))
OLD, NEW = RegState(Ballot(1, 1).pack(), b"", STATE), RegState(Ballot(2, 1).pack(), b"", STATE)


def read(*, with_data: bool) -> tuple[ReadRound, list[Send]]:
    machine = ReadRound(Target(b"key", 0, 2, ((A, B, C),)), with_data=with_data, preferred=(True, True, True))
    return machine, machine.start()


def test_an_answer_that_was_asked_without_data_is_never_written_back_as_if_it_had_brought_it() -> None:
    machine, sends = read(with_data=False)
    assert [(one.node, one.request.with_data) for one in sends if isinstance(one.request, RegRead)] == [
        (A, False),
        (B, False),
    ]
    (third,) = machine.more()
    assert isinstance(third.request, RegRead) and not third.request.with_data
    assert machine.receive(A, RegState(ZERO.pack(), b"", b""), b"") == []
    (fetch,) = machine.receive(B, OLD, b"")
    assert fetch.node == B and isinstance(fetch.request, RegRead) and fetch.request.with_data
    machine.receive(C, NEW, b"")  # newer than what is being fetched, and without its data
    (again,) = machine.receive(B, OLD, b"old data")
    assert again.node == C and isinstance(again.request, RegRead) and again.request.with_data
    accepts = machine.receive(C, NEW, b"new data")
    assert [one.payload for one in accepts] == [b"new data"] * 3
    assert all(isinstance(one.request, RegAccept) for one in accepts)
    machine.receive(A, RegAccepted(), b"")
    machine.receive(C, RegAccepted(), b"")
    assert isinstance(machine.outcome, Done) and machine.outcome.value.data == b"new data"


def test_a_read_ends_when_the_node_it_fetches_from_has_moved_on() -> None:
    machine, _ = read(with_data=False)
    machine.receive(A, OLD, b"")
    (fetch,) = machine.receive(B, NEW, b"")
    assert fetch.node == B
    (third,) = machine.receive(B, RegStale(3), b"")
    assert third.node == C
    machine.receive(C, RegStale(3), b"")
    assert machine.outcome is Retry.STALE


def test_a_read_ends_when_the_node_it_fetches_from_dies_after_another_did() -> None:
    machine, _ = read(with_data=False)
    (third,) = machine.fail(A)
    assert third.node == C
    machine.receive(B, OLD, b"")
    (fetch,) = machine.receive(C, NEW, b"")
    assert fetch.node == C
    machine.fail(C)
    assert machine.outcome is Retry.LOST


def test_a_read_of_two_owners_ends_at_once_when_one_of_them_is_away() -> None:
    machine = ReadRound(Target(b"key", 0, 3, ((A, B), (B, C))), with_data=False, preferred=(True, True, True))
    machine.start()
    machine.fail(A)
    assert machine.outcome is Retry.LOST
