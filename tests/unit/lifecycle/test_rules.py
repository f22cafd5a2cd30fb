"""What is due: held against a model that reads the rules one by one, in days."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from objstore.engine.keystate import listing_of
from objstore.lifecycle.rules import Action, Deed, due, due_of, may_be_due
from objstore.model.lifecycle import LifecycleRule, abortion, due_ms, expiry
from objstore.model.records import NO_LOCK, KeyState, ListEntry, Lock, ObjectVersion, decode

DAY = 1000
KEYS = ("a", "logs/a", "logs/b/c")


def rule(**changes: object) -> LifecycleRule:
    return msgspec.structs.replace(LifecycleRule("r", True), **changes)


def version(at_ms: int, number: int = 1, **changes: object) -> ObjectVersion:
    plain = ObjectVersion(bytes([number]) * 16, 10, "e", at_ms, {}, (), null=False)
    return msgspec.structs.replace(plain, **changes)


def ids(actions: list[Action]) -> list[tuple[str, int]]:
    return [(action.deed.value, action.version.version_id[0]) for action in actions]


def test_a_version_is_due_at_the_midnight_after_its_days() -> None:
    assert due_ms(0, 1, DAY) == due_ms(999, 1, DAY) == 2 * DAY
    assert due_ms(1000, 1, DAY) == 3 * DAY
    state = KeyState((version(1500, null=True),))
    rules = [rule(days=3)]
    assert due("k", state, rules, 4999, DAY, versioned=False) == []
    assert ids(due("k", state, rules, 5000, DAY, versioned=False)) == [("remove", 1)]
    assert ids(due("k", state, rules, 5000, DAY, versioned=True)) == [("mark", 1)]


def test_of_a_bucket_that_looks_unversioned_a_version_with_an_id_goes_under_a_marker() -> None:
    state = KeyState((version(0, 2, null=True), version(0, 1)))
    assert ids(due("k", state, [rule(days=1)], 9000, DAY, versioned=False)) == [("mark", 2)]


def test_a_noncurrent_version_is_as_old_as_the_one_that_took_its_place() -> None:
    state = KeyState(tuple(version(at, number) for number, at in ((4, 9500), (3, 3000), (2, 2000), (1, 0))))
    assert ids(due("k", state, [rule(noncurrent_days=2)], 6000, DAY, versioned=True)) == [("remove", 2), ("remove", 1)]
    kept = [rule(noncurrent_days=2, newer_noncurrent=2)]
    assert ids(due("k", state, kept, 6000, DAY, versioned=True)) == [("remove", 1)]
    assert ids(due("k", state, kept, 99_000, DAY, versioned=True)) == [("remove", 1)]


def test_what_is_locked_stays_and_may_yet_be_hidden() -> None:
    for lock in (Lock(hold=True), Lock("GOVERNANCE", 100_000), Lock("COMPLIANCE", 100_000)):
        state = KeyState((version(0, 2, lock=lock), version(0, 1, lock=lock)))
        rules = [rule(days=1, noncurrent_days=1)]
        assert ids(due("k", state, rules, 50_000, DAY, versioned=True)) == [("mark", 2)]
        assert due("k", KeyState((version(0, lock=lock, null=True),)), rules, 50_000, DAY, versioned=False) == []
    over = KeyState((version(0, 2), version(0, 1, lock=Lock("COMPLIANCE", 10_000))))
    assert ids(due("k", over, [rule(noncurrent_days=1)], 10_000, DAY, versioned=True)) == [("remove", 1)]


def test_a_lone_marker_goes_by_its_own_rule_or_with_the_age_of_others() -> None:
    lone = KeyState((version(0, 1, marker=True, size=0),))
    assert ids(due("k", lone, [rule(lone_marker=True)], 0, DAY, versioned=True)) == [("remove", 1)]
    assert due("k", lone, [rule(lone_marker=False)], 99_000, DAY, versioned=True) == []
    assert due("k", lone, [rule(days=2)], 2999, DAY, versioned=True) == []
    assert ids(due("k", lone, [rule(days=2)], 3000, DAY, versioned=True)) == [("remove", 1)]
    assert due("k", lone, [rule(days=2, size_below=5)], 3000, DAY, versioned=True) == []
    above = KeyState((version(0, 2, marker=True, size=0), version(0, 1)))
    assert due("k", above, [rule(lone_marker=True, days=1)], 99_000, DAY, versioned=True) == []


def test_only_what_was_seen_is_done() -> None:
    seen = due("k", KeyState((version(0, 1),)), [rule(days=1)], 9000, DAY, versioned=True)
    later = due("k", KeyState((version(0, 2), version(0, 1))), [rule(days=1)], 9000, DAY, versioned=True)
    assert ids(later) == [("mark", 2)]
    assert due_of(seen, later) == []


def test_the_rule_that_ends_an_object_first_is_told() -> None:
    rules = [
        rule(id="a", days=5),
        rule(id="b", days=2),
        rule(id="c", date_ms=2500),
        rule(id="d", enabled=False, days=1),
    ]
    assert expiry(rules, "k", 1, {}, 0, DAY) == (2500, "c")
    assert expiry(rules[:2], "k", 1, {}, 0, DAY) == (3000, "b")
    assert expiry(rules[3:], "k", 1, {}, 0, DAY) is None
    assert abortion([rule(abort_days=1, prefix="x"), rule(abort_days=3)], "k", 0, DAY) == (4000, "r")


# --- held against a model

tags = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)
rules = st.builds(
    LifecycleRule,
    st.just("r"),
    st.booleans() | st.just(True),
    prefix=st.none() | st.sampled_from(("", "logs/", "logs/b")),
    tags=st.just({}) | tags,
    size_above=st.none() | st.integers(0, 5),
    size_below=st.none() | st.integers(1, 8),
    days=st.integers(0, 3),
    date_ms=st.none() | st.integers(0, 8).map(lambda day: day * DAY),
    lone_marker=st.none() | st.booleans(),
    noncurrent_days=st.integers(0, 3),
    newer_noncurrent=st.integers(0, 2),
)
locks = st.just(NO_LOCK) | st.builds(Lock, st.just("COMPLIANCE"), st.integers(0, 9000), st.booleans())


@st.composite
def states(draw: st.DrawFn) -> KeyState:
    times = sorted(draw(st.lists(st.integers(0, 8 * DAY), max_size=5)), reverse=True)
    null = draw(st.integers(0, 5))
    made = []
    for index, at in enumerate(times):
        marker = draw(st.booleans())
        one = version(at, index + 1, marker=marker, null=index == null)
        if marker:
            one = msgspec.structs.replace(one, size=0)
        else:
            one = msgspec.structs.replace(one, size=draw(st.integers(0, 8)), tags=draw(tags), lock=draw(locks))
        made.append(one)
    return KeyState(tuple(made))


def expected(
    key: str, state: KeyState, all_rules: list[LifecycleRule], now_ms: int, versioned: bool
) -> set[tuple[str, int]]:
    """Rule by rule, and by whole days: what began on day 3 and lives two days is due on day 6."""
    found = set()
    today = now_ms // DAY
    versioned = versioned or any(not one.null for one in state.versions)
    for one in all_rules:
        if not one.enabled or not key.startswith(one.prefix or ""):
            continue
        for index, held in enumerate(state.versions):
            plain = not one.tags and one.size_above is None and one.size_below is None
            fits = (
                plain
                if held.marker
                else (
                    one.tags.items() <= held.tags.items()
                    and (one.size_above is None or held.size > one.size_above)
                    and (one.size_below is None or held.size < one.size_below)
                )
            )
            free = not held.lock.hold and held.lock.until_ms <= now_ms
            if one.date_ms is not None:
                over = now_ms >= one.date_ms
            else:
                over = one.days > 0 and today > held.modified_ms // DAY + one.days
            if not fits:
                continue
            if index > 0:
                since = state.versions[index - 1].modified_ms // DAY
                if (
                    one.noncurrent_days
                    and index > one.newer_noncurrent
                    and today > since + one.noncurrent_days
                    and free
                ):
                    found.add(("remove", index))
            elif held.marker:
                if len(state.versions) == 1 and (one.lone_marker or over):
                    found.add(("remove", index))
            elif over and versioned:
                found.add(("mark", index))
            elif over and free:
                found.add(("remove", index))
    return found


@given(st.sampled_from(KEYS), states(), st.lists(rules, max_size=4), st.integers(0, 12 * DAY), st.booleans())
def test_what_is_due_is_what_the_rules_say(
    key: str, state: KeyState, all_rules: list[LifecycleRule], now_ms: int, versioned: bool
) -> None:
    actions = due(key, state, all_rules, now_ms, DAY, versioned=versioned)
    got = {(action.deed.value, state.versions.index(action.version)) for action in actions}
    assert len(got) == len(actions)
    assert got == expected(key, state, all_rules, now_ms, versioned)
    assert all(action.version is state.versions[0] for action in actions if action.deed is Deed.MARK)


@given(st.sampled_from(KEYS), states(), st.lists(rules, max_size=4), st.integers(0, 12 * DAY), st.booleans())
def test_a_key_whose_register_is_not_read_has_nothing_due(
    key: str, state: KeyState, all_rules: list[LifecycleRule], now_ms: int, versioned: bool
) -> None:
    if state.versions:
        entry = decode(listing_of(state), ListEntry)
        if not may_be_due(key, entry, all_rules, now_ms, DAY):
            assert due(key, state, all_rules, now_ms, DAY, versioned=versioned) == []
