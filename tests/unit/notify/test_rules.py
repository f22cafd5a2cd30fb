"""Rules of notifications, events in the state of a key, and what a target is sent: pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.engine.keystate import announced, beside, state_of, told, turned
from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.notification import (
    NAMES,
    REMOVED,
    Delivery,
    Event,
    Rule,
    Waiting,
    matches,
    overlapping,
    waiting,
    wanted,
)
from objstore.model.records import ABSENT, KeyState, Value
from objstore.notify.messages import delivery_id, event_document
from objstore.register.change import apply, body_of

TO = (Delivery("r", "one"), Delivery("r", "two"))


def rule(prefix: str = "", suffix: str = "", *events: str) -> Rule:
    return Rule(f"{prefix}*{suffix}", "t", events or ("ObjectCreated:*",), prefix, suffix)


def event(at_ms: int = 5, name: str = "ObjectCreated:Put") -> Event:
    return Event(name, at_ms, "b", TO)


def commit(value: Value, state: KeyState, time: int, proposer: int = 1) -> Value:
    ballot = Ballot(time, proposer)
    decision = apply(value, lambda _: beside(state), b"%d %d" % ballot, ballot, None)
    assert decision.value is not None
    return decision.value


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_star_stands_for_all_of_its_group_and_no_other(name: str) -> None:
    assert matches(name, name)
    group = name.partition(":")[0]
    assert matches(f"{group}:*", f"{group}:Something") and not matches(f"{group}:*", "Other:Something")
    assert not matches(name, "")


@given(st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3),
       st.text("ab", max_size=8))  # fmt: skip
def test_two_rules_that_want_one_write_overlap(p1: str, s1: str, p2: str, s2: str, key: str) -> None:
    rules = (rule(p1, s1), rule(p2, s2, "ObjectCreated:Put"))
    if len(wanted(rules, "ObjectCreated:Put", key)) == 2:
        assert overlapping(rules) == rules
    assert overlapping((rules[0], rule(p2, s2, "ObjectRemoved:*"))) is None


def test_an_event_is_named_by_the_ballot_of_its_write_and_keeps_that_name() -> None:
    first = commit(ABSENT, announced(KeyState(), event()), 100)
    (one,) = state_of(body_of(first)).events
    assert one.sequence == Ballot(100, 1).pack()
    second = commit(first, announced(state_of(body_of(first)), event()), 100, 2)
    names = [each.sequence for each in state_of(body_of(second)).events]
    assert names == [Ballot(100, 1).pack(), Ballot(100, 2).pack()] == sorted(names)


def test_each_delivery_goes_alone_and_an_event_with_its_last_one() -> None:
    value = commit(ABSENT, announced(KeyState(), event()), 1)
    value = commit(value, announced(state_of(body_of(value)), event(6)), 2)
    state = state_of(body_of(value))
    first, second = (each.sequence for each in state.events)
    state = told(state, {first: TO[:1], b"of another life": TO})
    assert [each.open for each in state.events] == [TO[1:], TO]
    assert waiting(state.events) == (Waiting("two", 2, 5), Waiting("one", 1, 6))
    state = told(state, {first: TO, second: TO})
    assert state == KeyState() and turned(KeyState(), state).body is None
    assert beside(state).body == b"", "nothing is left to be known: a tombstone"


def test_the_newest_events_stay_and_what_was_dropped_is_counted_for_good() -> None:
    state, value = KeyState(), ABSENT
    count = limits.EVENTS_PER_KEY_MAX + 3
    for time in range(1, count + 1):
        value = commit(value, announced(state, event(time)), time)
        state = state_of(body_of(value))
    assert [each.at_ms for each in state.events] == list(range(4, count + 1))
    assert sum(each.omitted for each in state.events) == 3 and state.events[0].omitted == 3


def test_a_removal_tells_no_size_and_a_name_says_which_delivery_it_is() -> None:
    gone = Event(REMOVED, 0, "b", TO, "v1", 9, "etag", sequence=b"\x01" * 16)
    record = json.loads(event_document(gone, TO[0], "a b+c/é".encode(), "r"))["Records"][0]
    assert record["eventTime"] == "1970-01-01T00:00:00.000Z"
    assert record["s3"]["object"] == {"key": "a+b%2Bc/%C3%A9", "versionId": "v1", "sequencer": "01" * 16}
    assert len({delivery_id(gone, to, key) for to in TO for key in (b"k", b"l")}) == 4
