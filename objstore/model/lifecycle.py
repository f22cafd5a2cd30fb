"""Lifecycle: what a bucket's rules say, when a version is due, and what rounds of the worker have done.

Ages count in days and end at a midnight (UTC), as in AWS: what was made at 10:30 on the 1st and lives for one day is
due on the 3rd at 00:00. The length of a day is a setting (`[lifecycle] day_s`), so that tests need not wait for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from objstore.model.formats import json_decoder

DAY_MS = 86_400_000
ANY_SIZE = "all_storage_classes_128K"  # x-amz-transition-default-minimum-object-size: of transitions, which are refused


class LifecycleRule(msgspec.Struct, frozen=True, array_like=True):
    """What it applies to, and what happens then; 0 days: that does not happen."""

    id: str
    enabled: bool
    prefix: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    size_above: int | None = None
    size_below: int | None = None
    days: int = 0
    date_ms: int | None = None
    lone_marker: bool | None = None  # ExpiredObjectDeleteMarker; None: nothing was said
    noncurrent_days: int = 0
    newer_noncurrent: int = 0  # so many noncurrent versions are kept in any case
    abort_days: int = 0
    form: str = ""  # how it was written: "legacy" (Prefix without Filter) | "and" | "": one predicate or none


class BucketLifecycle(msgspec.Struct, frozen=True, array_like=True):
    rules: tuple[LifecycleRule, ...] = ()
    minimum_size: str = ANY_SIZE


class Expiry(NamedTuple):
    """What a client is told of an object, or an upload: when it goes, and by which rule."""

    at_ms: int
    rule: str


def due_ms(since_ms: int, days: int, day_ms: int) -> int:
    """The first midnight after so many days have passed."""
    return (since_ms // day_ms + days + 1) * day_ms


def names(rule: LifecycleRule, key: str) -> bool:
    return rule.enabled and key.startswith(rule.prefix or "")


def is_selective(rule: LifecycleRule) -> bool:
    """It asks for what a delete marker or an upload does not have."""
    return bool(rule.tags) or rule.size_above is not None or rule.size_below is not None


def selects(rule: LifecycleRule, key: str, size: int, tags: Mapping[str, str]) -> bool:
    """Whether the rule is about a version that is no delete marker."""
    return (
        names(rule, key)
        and (rule.size_above is None or size > rule.size_above)
        and (rule.size_below is None or size < rule.size_below)
        and all(tags.get(name) == value for name, value in rule.tags.items())
    )


def expires_ms(rule: LifecycleRule, modified_ms: int, day_ms: int) -> int | None:
    """When the rule ends a current version, by its days or its date."""
    if rule.date_ms is not None:
        return rule.date_ms
    return due_ms(modified_ms, rule.days, day_ms) if rule.days else None


def expiry(
    rules: Iterable[LifecycleRule], key: str, size: int, tags: Mapping[str, str], modified_ms: int, day_ms: int
) -> Expiry | None:
    """Of a current version: by the rule that ends it first."""
    found = (
        Expiry(at, rule.id)
        for rule in rules
        if selects(rule, key, size, tags) and (at := expires_ms(rule, modified_ms, day_ms)) is not None
    )
    return min(found, default=None)


def abortion(rules: Iterable[LifecycleRule], key: str, created_ms: int, day_ms: int) -> Expiry | None:
    """Of a multipart upload that is not completed."""
    found = (
        Expiry(due_ms(created_ms, rule.abort_days, day_ms), rule.id)
        for rule in rules
        if rule.abort_days and names(rule, key) and not is_selective(rule)
    )
    return min(found, default=None)


class Done(msgspec.Struct, frozen=True):
    """Of one round, or of all."""

    buckets: int = 0  # with rules
    keys: int = 0  # looked at, uploads too
    expired: int = 0  # versions that were removed, delete markers too
    expired_bytes: int = 0
    marked: int = 0  # current versions that went under a delete marker
    aborted: int = 0  # multipart uploads
    errors: int = 0  # keys that wait for the next round

    def plus(self, other: Done) -> Done:
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Done(*(one + more for one, more in pairs))


class Cursor(msgspec.Struct, frozen=True):
    """Where a round is: it goes on behind this."""

    bucket: str = ""  # name; those before it are done
    uploads: bool = False  # its objects are done, its uploads not
    after: str = ""  # hex of the name of the last register that was looked at; "": none yet


class LifecycleProgress(msgspec.Struct, frozen=True):
    """What every leader of repair goes on from, and what `objstore lifecycle status` shows. JSON in the coordinator."""

    started_ms: int = 0  # of the round that goes on; 0: none does
    cursor: Cursor = Cursor()
    now: Done = Done()  # in the round that goes on
    last_started_ms: int = 0  # of the last round that ended; 0: there was none
    last_ended_ms: int = 0
    last: Done = Done()
    ever: Done = Done()  # in all rounds that ended
    next_ms: int = 0  # when the next round begins
    error: str = ""  # the last one of the last round, or of this one
    format: int = 1


encode_progress = msgspec.json.Encoder().encode
decode_progress = json_decoder(LifecycleProgress, "the progress of lifecycle", known=1)  # raises msgspec.DecodeError
