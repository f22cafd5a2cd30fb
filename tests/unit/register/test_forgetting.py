"""Floors: what an absent register still refuses, what a round makes of it, and when one may become absent (INV-11)."""

from __future__ import annotations

import pytest

from objstore.model.clock import ZERO, Ballot
from objstore.model.ids import NodeId
from objstore.model.records import ABSENT, OpRecord, Register, Value, decode, encode
from objstore.register import acceptor
from objstore.register.acceptor import EMPTY, AcceptorState
from objstore.register.change import Decision, Outcome, apply, body_of
from objstore.register.forgetting import Forgetting, Look, forgettable
from objstore.register.proposer import Done, ReadRound, Retry, Target, WriteRound
from objstore.wire.messages import RegAccept, RegAccepted, RegState

A, B, C = map(NodeId, "abc")
NODES = (A, B, C)
TARGET = Target(b"k" * 17, 0, 2, (NODES,))
OP = b"o" * 16


def at(time: int, proposer: int = 7) -> Ballot:
    return Ballot(time, proposer)


# --- the acceptor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [acceptor.prepare, acceptor.accept, acceptor.install])
def test_an_absent_register_refuses_up_to_the_floor(rule: object) -> None:
    assert callable(rule)
    for state in (EMPTY, AcceptorState(at(4), ZERO)):
        assert not rule(state, at(9), at(10))[1]
        assert not rule(state, at(10), at(10))[1]
        assert rule(state, at(11), at(10))[1]


@pytest.mark.parametrize("rule", [acceptor.prepare, acceptor.accept, acceptor.install])
def test_a_register_that_is_there_knows_no_floor(rule: object) -> None:
    assert callable(rule)
    state = AcceptorState(at(5), at(5))
    assert rule(state, at(9), at(10)) == rule(state, at(9))
    assert acceptor.refusal(state, at(10)) == at(5)


def test_a_refusal_names_what_to_get_above() -> None:
    assert acceptor.refusal(EMPTY, at(10)) == at(10)
    assert acceptor.refusal(AcceptorState(at(12), ZERO), at(10)) == at(12)


def test_what_may_be_forgotten() -> None:
    held = AcceptorState(at(8), at(5))
    assert acceptor.may_forget(held, at(5), at(8))
    assert not acceptor.may_forget(held, at(5), at(7)), "the promise would be lost"
    assert not acceptor.may_forget(held, at(4), at(9)), "another value"
    assert acceptor.may_forget(AcceptorState(at(8), ZERO), ZERO, at(8)), "only promised"
    assert not acceptor.may_forget(held, ZERO, at(9))


# --- rounds ------------------------------------------------------------------------------------------------------


def absent(floor: int) -> RegState:
    return RegState(ZERO.pack(), b"", b"", at(floor).pack() if floor else ZERO.pack())


def put(body: bytes) -> Outcome:
    return Outcome(b"done", b"new", b"l")


def written(round_: WriteRound, floors: tuple[int, int]) -> Register | None:
    """What the round sends for acceptance after two answers; None: nothing."""
    round_.start()
    sends = round_.receive(A, absent(floors[0]), b"") + round_.receive(B, absent(floors[1]), b"")
    if not sends:
        return None
    request = sends[0].request
    assert isinstance(request, RegAccept)
    return decode(request.state, Register)


def test_an_operation_that_may_have_been_forgotten_is_not_applied_again() -> None:
    def decide(value: Value) -> Decision:
        return apply(value, put, OP, at(30), 20)

    known = WriteRound(TARGET, at(30), decide, first=False)
    assert written(known, (0, 20)) is None and known.outcome is Retry.UNKNOWN
    unheard = WriteRound(TARGET, at(30), decide, first=False)
    register = written(unheard, (0, 19))
    assert register is not None and (register.body, register.ops_floor) == (b"new", 19)


def test_a_new_operation_begins_anew_and_remembers_the_floor() -> None:
    register = written(WriteRound(TARGET, at(30), lambda v: apply(v, put, OP, at(30), None), first=True), (10, 20))
    assert register == Register(b"new", (OpRecord(OP, 30, b"done"),), 20, 20)


@pytest.mark.parametrize("keep", [True, False])
def test_writing_back_an_absent_register_keeps_the_floor(keep: bool) -> None:
    """Else it would come back as a tombstone that claims to know all operations."""

    def decide(value: Value) -> Decision:
        return Decision(value, keep_data=True) if keep else Decision(None)

    register = written(WriteRound(TARGET, at(30), decide, first=False), (0, 20))
    assert register is not None and (register.body, register.ops, register.ops_floor) == (b"", (), 20)


def test_without_a_floor_an_absent_register_is_plainly_absent() -> None:
    seen: list[Value] = []

    def decide(value: Value) -> Decision:
        seen.append(value)
        return Decision(None)

    round_ = WriteRound(TARGET, at(30), decide, first=True)
    assert written(round_, (0, 0)) is None
    assert seen == [ABSENT] and round_.outcome == Done(ABSENT)


def test_a_read_tells_forgotten_from_never_written() -> None:
    """Garbage collection takes the one for a proof, and the other not."""
    round_ = ReadRound(TARGET, with_data=True, preferred=(True, True, True))
    round_.start()
    assert round_.receive(A, absent(20), b"") == [] and round_.receive(B, absent(0), b"") == []
    assert round_.outcome == Done(Value(b"", encode(Register(b"", (), 20)), b""))
    never = ReadRound(TARGET, with_data=True, preferred=(True, True, True))
    never.start()
    assert never.receive(A, absent(0), b"") == [] and never.receive(B, absent(0), b"") == []
    assert never.outcome == Done(ABSENT)


def test_a_read_that_meets_a_tombstone_on_its_way_out_settles_it() -> None:
    round_ = ReadRound(TARGET, with_data=False, preferred=(True, True, True))
    round_.start()
    tombstone = RegState(at(5).pack(), b"", encode(Register(b"")))
    round_.receive(A, absent(20), b"")
    fetched = round_.receive(B, tombstone, b"")
    assert [send.node for send in fetched] == [B]
    assert {send.node for send in round_.receive(B, tombstone, b"")} == set(NODES)
    round_.receive(B, RegAccepted(), b"")
    round_.receive(C, RegAccepted(), b"")
    assert isinstance(round_.outcome, Done) and body_of(round_.outcome.value) == b""


# --- what may go -------------------------------------------------------------------------------------------------

FAR = at(1000).pack()


def look(held: dict[bytes, tuple[int, int]], floor: int = 0) -> Look:
    """held: key -> times of (accepted, promised)."""

    def packed(time: int) -> bytes:
        return at(time).pack() if time else ZERO.pack()

    return Look({k: (packed(a), packed(p)) for k, (a, p) in held.items()}, 2, packed(floor))


def choose(*looks: Look, dead: dict[bytes, int], before: bytes = FAR, limit: int = 10) -> Forgetting | None:
    return forgettable(looks, {k: at(t).pack() for k, t in dead.items()}, before=before, limit=limit)


def test_a_tombstone_that_all_hold_goes_and_the_floor_covers_every_promise() -> None:
    found = choose(look({b"k": (5, 5)}), look({b"k": (5, 9)}), look({b"k": (5, 5)}), dead={b"k": 5})
    assert found == Forgetting(at(9).pack(), [(b"k", at(5).pack())])


@pytest.mark.parametrize("other", [{}, {b"k": (0, 9)}, {b"k": (4, 4)}, {b"k": (6, 6)}])
def test_one_owner_that_holds_something_else_stops_it(other: dict[bytes, tuple[int, int]]) -> None:
    """An older value there would come back to life."""
    assert choose(look({b"k": (5, 5)}), look({b"k": (5, 5)}), look(other), dead={b"k": 5}) is None


def test_a_live_value_stays() -> None:
    same = look({b"k": (5, 5)})
    assert choose(same, same, same, dead={}) is None
    assert choose(same, same, same, dead={b"k": 4}) is None


def test_what_some_have_forgotten_is_forgotten_by_all() -> None:
    found = choose(look({b"k": (5, 5)}), look({}, floor=5), look({b"k": (0, 3)}, floor=8), dead={b"k": 5})
    assert found is not None and found.registers == [(b"k", at(5).pack())]
    assert choose(look({b"k": (5, 5)}), look({}, floor=4), look({}, floor=8), dead={b"k": 5}) is None


def test_registers_that_were_only_promised_go_too() -> None:
    found = choose(look({b"k": (0, 7)}), look({}), look({b"k": (0, 5)}), dead={})
    assert found == Forgetting(at(7).pack(), [(b"k", ZERO.pack())])
    assert choose(look({b"k": (0, 7)}), look({}), look({b"k": (5, 5)}), dead={}) is None


def test_the_floor_stays_below_a_register_that_some_owner_lacks() -> None:
    whole = look({b"k": (5, 5), b"live": (7, 7), b"late": (9, 9)})
    lacks = look({b"k": (5, 5), b"late": (9, 9)})
    dead = {b"k": 5, b"late": 9}
    assert choose(whole, whole, lacks, dead=dead) == Forgetting(at(5).pack(), [(b"k", at(5).pack())])
    found = choose(whole, whole, whole, dead=dead)
    assert found is not None and len(found.registers) == 2


def test_what_is_young_by_ballot_or_promise_stays() -> None:
    looks = [look({b"old": (5, 5), b"young": (20, 20), b"wanted": (6, 21)})] * 3
    found = choose(*looks, dead={b"old": 5, b"young": 20, b"wanted": 6}, before=at(20).pack())
    assert found == Forgetting(at(5).pack(), [(b"old", at(5).pack())])


def test_a_round_takes_the_oldest_first_and_no_more_than_its_limit() -> None:
    looks = [look({b"%d" % i: (10 - i, 10 - i) for i in range(5)})] * 3
    found = choose(*looks, dead={b"%d" % i: 10 - i for i in range(5)}, limit=2)
    assert found == Forgetting(at(7).pack(), [(b"4", at(6).pack()), (b"3", at(7).pack())])
