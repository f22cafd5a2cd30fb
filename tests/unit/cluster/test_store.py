"""The coordinator's pure state: what `tests/contract/test_coordinator.py` cannot see from outside."""

from __future__ import annotations

import pytest

from objstore.cluster.port import Entry
from objstore.cluster.store import HISTORY_MAX, CoordinatorStore


def put(
    store: CoordinatorStore, key: str, *, lease: int = 0, expected: int | None = None, now: float = 0.0
) -> int | None:
    change = store.plan_put(key, b"", lease=lease, expected=expected, now=now)
    if change is None:
        return None
    store.apply(change)
    return change.revision


def test_a_plan_changes_nothing_before_it_is_applied() -> None:
    store = CoordinatorStore()
    change = store.plan_put("a", b"1", lease=0, expected=0, now=0.0)
    assert change is not None
    assert store.get("a") is None and store.revision == 0
    store.apply(change)
    assert store.get("a") == Entry("a", b"1", 1)


def test_a_plan_for_another_state_is_not_applied() -> None:
    store = CoordinatorStore()
    change = store.plan_put("a", b"1", lease=0, expected=0, now=0.0)
    put(store, "b")
    assert change is not None
    with pytest.raises(AssertionError):
        store.apply(change)


def test_only_changes_of_lasting_keys_are_persistent() -> None:
    store = CoordinatorStore()
    lease = store.grant(10, 0.0)
    volatile = store.plan_put("v", b"", lease=lease, expected=None, now=0.0)
    lasting = store.plan_put("p", b"", lease=0, expected=None, now=0.0)
    assert volatile is not None and not volatile.persistent
    assert lasting is not None and lasting.persistent
    put(store, "p")
    becomes_volatile = store.plan_put("p", b"", lease=lease, expected=None, now=0.0)
    removed = store.plan_delete("p", expected=None)
    assert becomes_volatile is not None and becomes_volatile.persistent, "its record on disk must go"
    assert removed is not None and removed.persistent


def test_a_lease_that_is_over_but_not_yet_ended_serves_nobody() -> None:
    store = CoordinatorStore()
    lease = store.grant(10, 0.0)
    assert not store.keep_alive(lease, 10.0)
    assert store.plan_put("a", b"", lease=lease, expected=None, now=10.0) is None


def test_leases_end_in_the_order_of_their_time() -> None:
    store = CoordinatorStore()
    late, early = store.grant(20, 0.0), store.grant(10, 0.0)
    put(store, "late", lease=late)
    put(store, "early", lease=early)
    before = store.revision
    assert store.next_expiry() == 10.0
    assert store.keys_due(30.0) == 2
    assert store.expire(30.0)
    assert store.newest("early", before) < store.newest("late", before) == store.revision
    assert store.next_expiry() is None


def test_a_watcher_from_before_the_history_is_told_to_look() -> None:
    store = CoordinatorStore()
    put(store, "watched")
    for _ in range(HISTORY_MAX):
        put(store, "noise")
    assert store.newest("watched", 1) == 1, "the history still reaches back to the revision after 1"
    assert store.newest("watched", 0) == store.revision
    put(store, "noise")
    assert store.newest("watched", 1) == store.revision


def test_a_watcher_from_another_life_of_the_store_is_told_to_look() -> None:
    store = CoordinatorStore(revision=100, entries=[Entry("a", b"", 7)])
    assert store.newest("a", 7) == 100
    assert store.newest("a", 100) == 100
    assert store.newest("a", 101) == 100


def test_after_a_restart_nobody_takes_what_a_forgotten_lease_may_still_hold() -> None:
    store = CoordinatorStore(revision=100, claims_from=10.0)
    lease = store.grant(5, 0.0)
    assert put(store, "leader", lease=lease, expected=0, now=0.0) is None
    assert put(store, "nodes/a", lease=lease, now=0.0) is not None, "a plain registration does not wait"
    assert put(store, "map", expected=0, now=0.0) is not None, "nor does a persistent key"
    assert store.keep_alive(lease, 4.9) and store.keep_alive(lease, 9.8)
    assert put(store, "leader", lease=lease, expected=0, now=9.9) is None
    assert put(store, "leader", lease=lease, expected=0, now=10.0) is not None
