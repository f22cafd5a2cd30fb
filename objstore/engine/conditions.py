"""Write conditions, evaluated on the state inside a register's change function. Pure."""

from __future__ import annotations

from objstore.engine.types import WriteCondition
from objstore.model.errors import NoSuchKey, PreconditionFailed


def check(condition: WriteCondition, etag: str | None) -> None:
    """Raise unless the current object (its ETag, or None if there is none) allows the write.

    As S3: If-Match on a missing key is NoSuchKey, every other refusal PreconditionFailed.
    """
    if condition.if_match is not None:
        if etag is None:
            raise NoSuchKey("If-Match was given, but there is no object under this key")
        if not _matches(condition.if_match, etag):
            raise PreconditionFailed(f"If-Match: the current ETag is {etag}")
    if condition.if_none_match is not None and etag is not None and _matches(condition.if_none_match, etag):
        raise PreconditionFailed(f"If-None-Match: an object with ETag {etag} exists")


def _matches(pattern: str, etag: str) -> bool:
    return any(one.strip().strip('"') in ("*", etag) for one in pattern.split(","))
