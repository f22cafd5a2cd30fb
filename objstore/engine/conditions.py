"""Write conditions, evaluated on the state inside a register's change function. Pure."""

from __future__ import annotations

from objstore.engine.types import WriteCondition
from objstore.model.errors import NoSuchKey, PreconditionFailed
from objstore.model.records import ObjectVersion


def check(condition: WriteCondition, current: ObjectVersion | None) -> None:
    """Raise unless the current object (None: there is none) allows the write.

    As S3: If-Match on a missing key is NoSuchKey, every other refusal PreconditionFailed. Size and time of a missing
    object hold: there is nothing that they could protect.
    """
    if condition.if_match is not None:
        if current is None:
            raise NoSuchKey("If-Match was given, but there is no object under this key")
        if not _matches(condition.if_match, current.etag):
            raise PreconditionFailed(f"If-Match: the current ETag is {current.etag}")
    if current is None:
        return
    if condition.if_none_match is not None and _matches(condition.if_none_match, current.etag):
        raise PreconditionFailed(f"If-None-Match: an object with ETag {current.etag} exists")
    if condition.if_size is not None and condition.if_size != current.size:
        raise PreconditionFailed(f"the current object has {current.size} bytes, not {condition.if_size}")
    if condition.if_modified_s is not None and condition.if_modified_s != current.modified_ms // 1000:
        raise PreconditionFailed("the current object was modified at another time than the request says")


def _matches(pattern: str, etag: str) -> bool:
    return any(one.strip().strip('"') in ("*", etag) for one in pattern.split(","))
