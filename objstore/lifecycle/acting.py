"""The change that does what is due of one key. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from objstore.engine.announcing import Announcement
from objstore.engine.keystate import placed, removed, state_of, written
from objstore.lifecycle.rules import Action, Deed, due, due_of
from objstore.model.lifecycle import Done, LifecycleRule
from objstore.model.notification import EXPIRED, EXPIRED_MARKED
from objstore.model.records import ObjectVersion
from objstore.register.change import Change, Outcome

AT_ONCE = 256  # versions of a key in one change


@dataclass(frozen=True, slots=True)
class Intent:
    """What was found due of a key, and by which rules; `marker` is what a current version may go under."""

    key: str
    seen: tuple[Action, ...]
    rules: tuple[LifecycleRule, ...]
    versioned: bool
    marker: ObjectVersion
    tell: Announcement
    migration: bytes  # id of the migration that fills the bucket, or b""
    now_ms: int
    day_ms: int


def change_of(intent: Intent) -> Change:
    """Decides again on the state that it changes (INV-23); its result tells what it did. Repeat it until that is
    nothing: one change makes one event, because events go by the ballot of their change."""
    tells = intent.tell.may_want(EXPIRED) or intent.tell.may_want(EXPIRED_MARKED)
    at_once = 1 if tells else AT_ONCE

    def change(body: bytes) -> Outcome:
        state = state_of(body)
        now = due(intent.key, state, intent.rules, intent.now_ms, intent.day_ms, versioned=intent.versioned)
        new, done = state, Done()
        for action in due_of(intent.seen, now)[:at_once]:
            version = action.version
            if action.deed is Deed.MARK:
                new = placed(new, intent.marker, intent.now_ms)
                new = intent.tell.of(new, EXPIRED_MARKED, intent.marker, intent.now_ms)
                done = done.plus(Done(marked=1))
            else:
                new = intent.tell.of(
                    removed(new, version, intent.now_ms, intent.migration), EXPIRED, version, intent.now_ms
                )
                done = done.plus(Done(expired=1, expired_bytes=version.size))
        return written(state, new, result=msgspec.msgpack.encode(done)) if new is not state else Outcome()

    return change


def done_of(result: bytes) -> Done:
    """Of the change."""
    return msgspec.msgpack.decode(result, type=Done) if result else Done()
