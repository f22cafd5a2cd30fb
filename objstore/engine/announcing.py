"""The event of a write: which of the bucket's rules want it, and what it says. Pure.

The rules are those of the bucket as it was read for this write, at some moment after the write was asked for: a
configuration that was acknowledged before is obeyed, one that changes meanwhile holds for this write or does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from objstore.engine.keystate import announced, shown_id
from objstore.model import bucketconfig
from objstore.model.notification import BucketNotification, Event, Origin, Rule, wanted
from objstore.model.records import KeyState, ObjectVersion


@dataclass(frozen=True, slots=True)
class Announcement:
    """What there is to know of an event before its write: to be put into the state by the change that writes."""

    bucket: str
    key: str
    rules: tuple[Rule, ...]
    origin: Origin
    versioned: bool

    def of(self, state: KeyState, name: str, version: ObjectVersion, at_ms: int) -> KeyState:
        """`state` with the event that this happened to `version`, if a rule wants it."""
        deliveries = wanted(self.rules, name, self.key) if self.rules else ()
        if not deliveries:
            return state
        shown = shown_id(version) if self.versioned or not version.null else ""
        return announced(
            state,
            Event(name, at_ms, self.bucket, deliveries, shown, version.size, version.etag, *self.origin),
        )

    def may_want(self, name: str) -> bool:
        return bool(self.rules) and bool(wanted(self.rules, name, self.key))


def announcement(config: Mapping[str, bytes], bucket: str, key: str, origin: Origin, versioning: str) -> Announcement:
    found = bucketconfig.get(config, BucketNotification)
    return Announcement(bucket, key, found.rules if found is not None else (), origin, bool(versioning))
