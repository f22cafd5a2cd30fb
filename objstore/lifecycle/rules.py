"""The state of a key and rules -> what is due. Pure.

Versions are newest first. A noncurrent version is as old as the version that took its place. What is locked stays: it
is looked at again in the next round. A key of which only a delete marker is left is rid of it by a rule that says so,
or by one that ends current versions once the marker is as old; rules that ask for tags or sizes say nothing of markers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple

from objstore.model.lifecycle import LifecycleRule, due_ms, expires_ms, expiry, is_selective, names, selects
from objstore.model.records import KeyState, ListEntry, Lock, ObjectVersion


class Deed(Enum):
    REMOVE = "remove"  # this version, for good
    MARK = "mark"  # hide the current version under a delete marker


class Action(NamedTuple):
    deed: Deed
    version: ObjectVersion


def due(
    key: str, state: KeyState, rules: Sequence[LifecycleRule], now_ms: int, day_ms: int, *, versioned: bool
) -> list[Action]:
    """In the order in which it is to be done. `versioned`: the bucket is or was."""
    if not state.versions:
        return []
    versioned = versioned or any(not one.null for one in state.versions)
    actions = [
        Action(Deed.REMOVE, version)
        for index, version in enumerate(state.versions)
        if index
        and not _is_locked(version.lock, now_ms)
        and _noncurrent_is_due(key, state, index, rules, now_ms, day_ms)
    ]
    newest = state.versions[0]
    if newest.marker:
        if len(state.versions) == 1 and _marker_is_due(key, newest.modified_ms, rules, now_ms, day_ms):
            actions.append(Action(Deed.REMOVE, newest))
        return actions
    end = expiry(rules, key, newest.size, newest.tags, newest.modified_ms, day_ms)
    if end is not None and end.at_ms <= now_ms:
        if versioned:
            actions.append(Action(Deed.MARK, newest))
        elif not _is_locked(newest.lock, now_ms):
            actions.append(Action(Deed.REMOVE, newest))
    return actions


def due_of(seen: Collection[Action], actions: Sequence[Action]) -> list[Action]:
    """Those of `actions` that were due already when the key was looked at."""
    known = {(action.deed, action.version.version_id) for action in seen}
    return [action for action in actions if (action.deed, action.version.version_id) in known]


def may_be_due(key: str, entry: ListEntry, rules: Sequence[LifecycleRule], now_ms: int, day_ms: int) -> bool:
    """By what a list shows of the key. False: `due` is empty, so its register need not be read."""
    if entry.versions > 1 and any(rule.noncurrent_days and names(rule, key) for rule in rules):
        return True
    if entry.hidden:
        return entry.versions == 1 and _marker_is_due(key, entry.modified_ms, rules, now_ms, day_ms)
    return any(
        selects(rule, key, entry.size, rule.tags)
        and (at := expires_ms(rule, entry.modified_ms, day_ms)) is not None
        and at <= now_ms
        for rule in rules
    )


def _noncurrent_is_due(
    key: str, state: KeyState, index: int, rules: Sequence[LifecycleRule], now_ms: int, day_ms: int
) -> bool:
    version, since = state.versions[index], state.versions[index - 1].modified_ms
    return any(
        rule.noncurrent_days
        and index > rule.newer_noncurrent
        and (
            names(rule, key) and not is_selective(rule)
            if version.marker
            else selects(rule, key, version.size, version.tags)
        )
        and due_ms(since, rule.noncurrent_days, day_ms) <= now_ms
        for rule in rules
    )


def _marker_is_due(key: str, modified_ms: int, rules: Sequence[LifecycleRule], now_ms: int, day_ms: int) -> bool:
    for rule in rules:
        if names(rule, key) and not is_selective(rule):
            at = expires_ms(rule, modified_ms, day_ms)
            if rule.lone_marker or (at is not None and at <= now_ms):
                return True
    return False


def _is_locked(lock: Lock, now_ms: int) -> bool:
    return lock.hold or lock.until_ms > now_ms
