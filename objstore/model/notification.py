"""Event notifications: which writes of a bucket are told to whom, and what is still to be told. Pure.

The event of a write is part of the very change that makes the write (`records.KeyState.events`): it is there when the
write is, and goes when every target has answered. Event names are those of S3 without the `s3:` in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec

ARN = "arn:objstore:webhook::"  # and the name of a target
KINDS = ("Queue", "Topic", "CloudFunction")  # how S3 calls targets; here each is a webhook

CREATED = ("Put", "Post", "Copy", "CompleteMultipartUpload")
PUT, POST, COPY, COMPLETE = (f"ObjectCreated:{name}" for name in CREATED)
REMOVED, MARKED = "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"
TAGGED, UNTAGGED = "ObjectTagging:Put", "ObjectTagging:Delete"
EXPIRED, EXPIRED_MARKED = "LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated"

_NEVER_HERE = (  # known to S3, so it can be asked for; what they tell of cannot happen in this store
    "ReducedRedundancyLostObject",
    "ObjectRestore:*",
    "ObjectRestore:Post",
    "ObjectRestore:Completed",
    "ObjectRestore:Delete",
    "Replication:*",
    "Replication:OperationFailedReplication",
    "Replication:OperationNotTracked",
    "Replication:OperationMissedThreshold",
    "Replication:OperationReplicatedAfterThreshold",
    "LifecycleTransition",
    "IntelligentTiering",
    "ObjectAcl:Put",
)
NAMES = frozenset(
    (
        *(f"{group}:*" for group in ("ObjectCreated", "ObjectRemoved", "ObjectTagging", "LifecycleExpiration")),
        *(PUT, POST, COPY, COMPLETE, REMOVED, MARKED, TAGGED, UNTAGGED, EXPIRED, EXPIRED_MARKED),
        *_NEVER_HERE,
    )
)


class Rule(msgspec.Struct, frozen=True, array_like=True):
    id: str
    target: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    kind: str = "Queue"  # of KINDS


class BucketNotification(msgspec.Struct, frozen=True, array_like=True):
    rules: tuple[Rule, ...] = ()


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """That this rule wants an event at this target."""

    rule: str
    target: str


class Event(msgspec.Struct, frozen=True, array_like=True):
    """What is still to be told of one write; whole, so that nothing else has to be there when it is told."""

    name: str
    at_ms: int
    bucket: str
    open: tuple[Delivery, ...]  # who has not answered yet
    version: str = ""  # as shown; "" in a bucket that never had versions
    size: int = 0
    etag: str = ""
    source: str = ""  # address of the client
    principal: str = ""  # access key
    request: str = ""  # request id
    sequence: bytes = b""  # ballot of the write: rises with every write of the key, and is the event's name in it
    omitted: int = 0  # events of this key before it that were dropped: see EVENTS_MAX in engine/keystate.py


class Waiting(NamedTuple):
    """Events of one register for one target."""

    target: str
    events: int
    oldest_ms: int


def waiting(events: Sequence[Event]) -> tuple[Waiting, ...]:
    found: dict[str, Waiting] = {}
    for event in events:
        for delivery in event.open:
            one = found.get(delivery.target, Waiting(delivery.target, 0, event.at_ms))
            found[delivery.target] = one._replace(events=one.events + 1, oldest_ms=min(one.oldest_ms, event.at_ms))
    return tuple(found.values())


class Origin(NamedTuple):
    """Who asked for a write."""

    source: str = ""
    principal: str = ""
    request: str = ""


def matches(asked: str, name: str) -> bool:
    """Whether a rule that asks for this (perhaps with a star) wants an event of that name."""
    return asked == name or (asked.endswith(":*") and name.startswith(asked[:-1]))


def wanted(rules: Sequence[Rule], name: str, key: str) -> tuple[Delivery, ...]:
    return tuple(
        Delivery(rule.id, rule.target)
        for rule in rules
        if key.startswith(rule.prefix)
        and key.endswith(rule.suffix)
        and any(matches(asked, name) for asked in rule.events)
    )


def overlapping(rules: Sequence[Rule]) -> tuple[Rule, Rule] | None:
    """Two rules of which one write could be meant by both: S3 refuses such a configuration."""
    return next((pair for pair in combinations(rules, 2) if _overlap(*pair)), None)


def _overlap(one: Rule, other: Rule) -> bool:
    shares = any(matches(a, b) or matches(b, a) for a in one.events for b in other.events)
    prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    return shares and prefixes and suffixes
