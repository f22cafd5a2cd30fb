"""Exactly once: a retry finds its result, a pruned result is unknown, never applied again."""

from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.errors import GivenUp, PreconditionFailed
from objstore.model.records import ABSENT, OpRecord, Register, Value, decode, encode
from objstore.register.change import Outcome, apply, body_of


def append(body: bytes) -> Outcome:
    return Outcome(b"%d" % len(body), body + b"x")


def test_retry_returns_the_first_result_and_changes_nothing() -> None:
    first = apply(ABSENT, append, b"op", Ballot(1, 1), None)
    assert first.value is not None and body_of(first.value) == b"x"
    again = apply(first.value, append, b"op", Ballot(2, 1), 1)
    assert again.value is None and again.result == b"0"


def test_pruned_operation_is_unknown() -> None:
    value = ABSENT
    for i in range(limits.OPS_KEPT_MAX + 1):
        decision = apply(value, append, b"%d" % i, Ballot(i + 1, 1), None)
        assert decision.value is not None
        value = decision.value
    assert apply(value, append, b"0", Ballot(99, 1), 1).unknown
    assert not apply(value, append, b"new", Ballot(99, 1), 50).unknown


def test_old_results_are_pruned_by_age() -> None:
    value = apply(ABSENT, append, b"a", Ballot(1, 1), None).value
    assert value is not None
    late = apply(value, append, b"b", Ballot((limits.OPS_KEPT_MS + 1) << 16, 1), None).value
    assert late is not None
    register = decode(late.state, Register)
    assert [record.op for record in register.ops] == [b"b"] and register.ops_floor == 1


def test_an_operation_that_took_effect_is_told_so_whatever_was_given_up_since() -> None:
    """Told that it was given up, a client would repeat an operation that is already done (INV-3)."""
    value = Value(b"", encode(Register(b"body", (OpRecord(b"op", 100, b"mine"),), 0, 200)), b"")
    decision = apply(value, append, b"op", Ballot(300, 1), 100, 90)
    assert decision.error is None and decision.value is None and decision.result == b"mine"


def test_refusal_is_an_error_and_no_new_value() -> None:
    def refuse(body: bytes) -> Outcome:
        raise PreconditionFailed("no")

    decision = apply(Value(b"", b"", b""), refuse, b"op", Ballot(1, 1), None)
    assert decision.value is None and isinstance(decision.error, PreconditionFailed)


def test_ids_that_were_given_up_are_refused_for_ever_and_younger_ones_are_not() -> None:
    value = apply(ABSENT, lambda _: Outcome(b"", b"", ids_floor=50), b"gc", Ballot(60, 1), None).value
    for round in range(70, 200, 10):
        assert value is not None
        old = apply(value, append, b"old", Ballot(round, 1), None, 50)
        assert old.value is None and isinstance(old.error, GivenUp)
        assert apply(value, append, b"none", Ballot(round, 1), None, None).value is not None
        value = apply(value, append, b"young%d" % round, Ballot(round, 1), None, 51).value


def test_a_forgotten_register_refuses_the_ids_that_are_older_than_its_floor() -> None:
    forgotten = Value(b"", encode(Register(b"", (), 40)), b"")
    assert isinstance(apply(forgotten, append, b"old", Ballot(60, 1), None, 40).error, GivenUp)
    written = apply(forgotten, append, b"young", Ballot(60, 1), None, 41).value
    assert written is not None
    assert isinstance(apply(written, append, b"old", Ballot(70, 1), None, 40).error, GivenUp), "also later"


def test_pruned_operations_do_not_make_younger_ids_be_refused() -> None:
    value = ABSENT
    for i in range(limits.OPS_KEPT_MAX + 9):
        decision = apply(value, append, b"%d" % i, Ballot(i + 10, 1), None)
        assert decision.value is not None
        value = decision.value
    assert decode(value.state, Register).ops_floor > 10
    assert apply(value, append, b"long", Ballot(999, 1), None, 1).value is not None
