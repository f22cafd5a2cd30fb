"""Messages to and from the coordinator (objstore/cluster)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, field

from objstore.wire.fields import Count, Message, Path


class CoGet(Message, frozen=True):
    key: Path


class CoRange(Message, frozen=True):
    prefix: Path


class CoPut(Message, frozen=True):
    """expected: None = any, 0 = must be absent, else the key's revision. lease 0 = persistent."""

    key: Path
    value: bytes
    lease: Count = 0
    expected: Count | None = None


class CoDelete(Message, frozen=True):
    key: Path
    expected: Count | None = None


class CoGrant(Message, frozen=True):
    ttl_s: Annotated[float, Meta(gt=0, le=86400)]


class CoKeepAlive(Message, frozen=True):
    lease: Count


class CoRevoke(Message, frozen=True):
    lease: Count


class CoWatch(Message, frozen=True):
    """Answers as soon as a key under `prefix` changes after revision `after`, at the latest after timeout_s."""

    prefix: Path
    after: Count
    timeout_s: Annotated[float, Meta(ge=0, le=60)]


class CoEntries(Message, frozen=True):
    """Parallel lists of entries; `revision` of the store."""

    keys: list[str]
    values: list[bytes]
    revisions: list[int]
    revision: Count
    leases: list[int] = field(default_factory=list)


class CoResult(Message, frozen=True):
    """done=False: the comparison failed, or the lease is gone. `number`: revision, or lease id."""

    done: bool
    number: Count = 0


CoordinatorRequest: TypeAlias = CoGet | CoRange | CoPut | CoDelete | CoGrant | CoKeepAlive | CoRevoke | CoWatch

CoordinatorReply: TypeAlias = CoEntries | CoResult
