"""Object lock: what a bucket says of new versions, and when a version's lock may be changed. Pure.

A bucket that has a `BucketLock` has it for ever, and stays versioned: what is locked could be overwritten otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from objstore.model.errors import ObjectLocked
from objstore.model.records import Lock

GOVERNANCE, COMPLIANCE = "GOVERNANCE", "COMPLIANCE"
CONFIG_NAME = "object-lock"  # in BucketState.config

_decoder: msgspec.msgpack.Decoder[BucketLock]


class BucketLock(msgspec.Struct, frozen=True, array_like=True):
    """Locks can be put on versions; a new one that brings no retention of its own gets this one."""

    mode: str = ""  # GOVERNANCE | COMPLIANCE | "": no default
    days: int = 0  # one of both
    years: int = 0


_decoder = msgspec.msgpack.Decoder(BucketLock)


def lock_of(config: Mapping[str, bytes]) -> BucketLock | None:
    """None: this bucket knows no locks."""
    raw = config.get(CONFIG_NAME)
    return _decoder.decode(raw) if raw is not None else None


def with_default(lock: Lock, config: Mapping[str, bytes], now_ms: int) -> Lock:
    """The lock of a new version of a bucket."""
    bucket = lock_of(config)
    if lock.mode or bucket is None or not bucket.mode:
        return lock
    return msgspec.structs.replace(lock, mode=bucket.mode, until_ms=_end(bucket, now_ms))


def _end(bucket: BucketLock, now_ms: int) -> int:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    try:
        later = now.replace(year=now.year + bucket.years)
    except ValueError:  # 29 February
        later = now.replace(year=now.year + bucket.years, month=3, day=1)
    return round((later + timedelta(days=bucket.days)).timestamp() * 1000)


def retained(lock: Lock, mode: str, until_ms: int, now_ms: int, *, bypass: bool) -> Lock:
    """The lock with another retention (mode "": with none). ObjectLocked if the one before does not allow it.

    A retention may always be prolonged. Less of it needs `bypass` of governance; compliance never allows it."""
    if lock.until_ms > now_ms:
        prolonged = mode == lock.mode and until_ms >= lock.until_ms
        if not prolonged and not (bypass and lock.mode == GOVERNANCE):
            raise ObjectLocked(
                f"this version is under {lock.mode.lower()} retention, which this would shorten or change"
            )
    return msgspec.structs.replace(lock, mode=mode, until_ms=until_ms if mode else 0)
