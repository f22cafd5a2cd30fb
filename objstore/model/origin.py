"""Where a bucket is read through to while it is migrated from another S3 service, and how far that is."""

from __future__ import annotations

from typing import Literal

import msgspec

FAILURES_SHOWN = 20


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Configured of a bucket while it is migrated."""

    id: bytes  # 16 random bytes; what is deleted here during this migration names it
    endpoint: str  # "https://host:port"
    bucket: str
    prefix: str  # only keys that begin so are there
    region: str
    access_key: str
    sealed: bytes  # the secret; see codec/secrets.py
    began_ms: int
    paused: bool = False  # nothing is copied ahead; reads go through all the same
    bytes_per_s: int = 0  # that are copied ahead at most; 0: the default


class Failure(msgspec.Struct, frozen=True):
    key: str
    reason: str


class MigrationProgress(msgspec.Struct, frozen=True):
    """How far the leading repairer has walked through the listing of the origin. What is copied is of all walks, the
    other counts are of the present one."""

    migration: str  # id, in hex
    state: Literal["walking", "paused", "waiting", "done"] = "walking"
    walk: int = 1
    cursor: str = ""  # the last key that is done
    seen: int = 0  # keys of the origin
    seen_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    verified: int = 0  # ... whose bytes have the MD5 that the ETag says
    here: int = 0  # keys that were written, copied or deleted here before
    failed: int = 0
    failures: tuple[Failure, ...] = ()  # the first ones
    reason: str = ""  # why it waits
    at_ms: int = 0


decode_progress = msgspec.json.Decoder(MigrationProgress).decode


def about(bucket: str) -> str:
    """What the sealed secret of an origin is bound to."""
    return f"origin/{bucket}"
