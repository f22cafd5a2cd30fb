"""The checker itself: it accepts what can be explained and refuses what cannot."""

from math import inf

from tests.sim.linearize import Op, check


def write(start: float, end: float, value: object, condition: str = "", ok: bool = True) -> Op:
    return Op("write", start, end, value, condition, ok)


def read(start: float, end: float, value: object) -> Op:
    return Op("read", start, end, value)


def test_sequential_history_is_accepted() -> None:
    assert check([write(0, 1, "a"), read(2, 3, "a"), write(4, 5, None), read(6, 7, None)])


def test_stale_read_is_refused() -> None:
    assert not check([write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")])


def test_concurrent_read_may_see_either_value() -> None:
    assert check([write(0, 1, "a"), write(2, 6, "b"), read(3, 4, "a")])
    assert check([write(0, 1, "a"), write(2, 6, "b"), read(3, 4, "b")])


def test_reads_must_not_go_back() -> None:
    assert not check([write(0, 1, "a"), write(2, 9, "b"), read(3, 4, "b"), read(5, 6, "a")])


def test_unknown_write_may_take_effect_late_or_never() -> None:
    assert check([write(0, inf, "a"), read(5, 6, None), read(7, 8, "a")])
    assert check([write(0, inf, "a"), read(5, 6, None)])
    assert not check([write(0, inf, "a"), read(5, 6, "a"), read(7, 8, None)])


def test_only_one_creator_wins() -> None:
    assert check([write(0, 5, "a", "absent"), write(0, 5, "b", "absent", ok=False)])
    assert not check([write(0, 5, "a", "absent"), write(0, 5, "b", "absent")])


def test_refused_write_must_have_a_reason() -> None:
    assert not check([write(0, 1, "a", "absent", ok=False)])


def test_lost_acknowledged_write_is_refused() -> None:
    assert not check([write(0, 1, "a"), read(2, 3, None)])


def test_a_write_that_would_change_nothing_now_may_be_the_one_that_changes_something_later() -> None:
    assert check([write(0, 10, None), write(1, 2, "a"), read(3, 4, "a"), read(5, 6, None)])
    assert check([write(0, 1, "a"), write(2, 10, "a"), write(3, 4, "b"), read(5, 6, "b"), read(7, 8, "a")])


def test_a_delete_that_told_what_it_found_must_have_found_it() -> None:
    def delete(start: float, end: float, found: bool) -> Op:
        return Op("write", start, end, None, found=found)

    assert check([write(0, 1, "a"), delete(2, 3, True), delete(4, 5, False)])
    assert not check([write(0, 1, "a"), delete(2, 3, False)])
    assert not check([write(0, 1, "a"), delete(2, 3, True), delete(4, 5, True)])


def test_swap_demands_the_value_that_is_there() -> None:
    assert check([write(0, 1, "a"), write(2, 3, "b", "a"), write(2, 3, "c", "a", ok=False)])
    assert not check([write(0, 1, "a"), write(2, 3, "b", "a"), write(4, 5, "c", "a")])


def test_a_write_that_changes_nothing_now_may_be_needed_later() -> None:
    history = [write(0, 1, "a"), write(2, 9, "a"), write(2, 9, "b"), read(3, 4, "b"), read(5, 6, "a")]
    assert check(history)
