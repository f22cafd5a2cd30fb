"""Exactly once: a retry finds its result, a pruned result is unknown, never applied again."""

from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.errors import PreconditionFailed
from objstore.model.records import ABSENT, Register, Value, decode
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


def test_refusal_is_an_error_and_no_new_value() -> None:
    def refuse(body: bytes) -> Outcome:
        raise PreconditionFailed("no")

    decision = apply(Value(b"", b"", b""), refuse, b"op", Ballot(1, 1), None)
    assert decision.value is None and isinstance(decision.error, PreconditionFailed)
