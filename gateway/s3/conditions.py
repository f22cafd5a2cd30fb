"""Conditional requests: If-Match and its kin, for reads, copy sources and writes.

Reads and copy sources are judged here, against what was read. Conditions of writes are only parsed here: the
engine decides them at the moment of the commit (`WriteCondition`), where nothing can come between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from gateway.s3.errors import S3Error
from objstore.engine.types import ALWAYS, WriteCondition

_TAGS = re.compile(r'\s*(W/)?(?:"([^"]*)"|([^",\s]+))\s*(?:,|$)')


class Verdict(Enum):
    PROCEED = 200
    NOT_MODIFIED = 304
    PRECONDITION_FAILED = 412


def check_read(headers: Mapping[str, str], etag: str, modified_ms: int) -> Verdict:
    """GET and HEAD, in the order of RFC 9110 section 13.2.2. `etag` without quotes."""
    if not _if_match(headers.get("if-match"), headers.get("if-unmodified-since"), etag, modified_ms):
        return Verdict.PRECONDITION_FAILED
    if not _if_none_match(headers.get("if-none-match"), headers.get("if-modified-since"), etag, modified_ms):
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def check_source(headers: Mapping[str, str], name: str, etag: str, modified_ms: int) -> None:
    """Conditions of the source of a copy or a rename, in the same order. `name`: what their headers begin with.
    S3Error PreconditionFailed."""
    match, unmodified = headers.get(name + "match"), headers.get(name + "unmodified-since")
    none_match, modified = headers.get(name + "none-match"), headers.get(name + "modified-since")
    if not _if_match(match, unmodified, etag, modified_ms):
        raise S3Error("PreconditionFailed", extra={"Condition": name + ("match" if match else "unmodified-since")})
    if not _if_none_match(none_match, modified, etag, modified_ms):
        raise S3Error(
            "PreconditionFailed", extra={"Condition": name + ("none-match" if none_match else "modified-since")}
        )


def range_applies(headers: Mapping[str, str], etag: str, modified_ms: int) -> bool:
    """If-Range: whether the Range header counts (RFC 9110 section 13.1.5)."""
    value = headers.get("if-range")
    if value is None:
        return True
    if (date := _date(value)) is not None:
        return date == modified_ms // 1000
    return _matches(value, etag, weak=False)


def write_condition(headers: Mapping[str, str]) -> WriteCondition:
    """If-Match and If-None-Match of a write. S3Error InvalidArgument when one holds no ETag."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return ALWAYS
    return WriteCondition(_tags_of("If-Match", match), _tags_of("If-None-Match", none_match))


def delete_condition(headers: Mapping[str, str]) -> WriteCondition:
    """Those of DeleteObject: If-Match, and size and time of the object that is meant."""
    size, modified = headers.get("x-amz-if-match-size"), headers.get("x-amz-if-match-last-modified-time")
    found = write_condition(headers)
    return WriteCondition(found.if_match, found.if_none_match, _size(size), _second("the time to match", modified))


def entry_condition(etag: str | None, size: str | None, modified: str | None) -> WriteCondition:
    """Those of one object of DeleteObjects. S3Error InvalidArgument when one says nothing."""
    return WriteCondition(_tags_of("ETag", etag), None, _size(size), _second("LastModifiedTime", modified))


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise S3Error("InvalidArgument", f"The size to match must be a number of bytes, not {text!r}.")
    return int(text)


def _second(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if (found := _date(text)) is None:
        raise S3Error("InvalidArgument", f"{name} must be an HTTP date, not {text!r}.")
    return found


def _tags_of(name: str, header: str | None) -> str | None:
    if header is None:
        return None
    keep_weak = name != "If-None-Match"  # else compared strongly, so that a weak tag must not turn into a strong one
    tags = [("W/" if weak and keep_weak else "") + tag for weak, tag in _parse_tags(header)]
    if not tags:
        raise S3Error("InvalidArgument", f"{name} must hold an ETag or *.", extra={"ArgumentName": name})
    return "*" if "*" in tags else ",".join(tags)


def _if_match(match: str | None, unmodified_since: str | None, etag: str, modified_ms: int) -> bool:
    if match is not None:
        return _matches(match, etag, weak=False)
    since = _date(unmodified_since)
    return since is None or modified_ms // 1000 <= since


def _if_none_match(none_match: str | None, modified_since: str | None, etag: str, modified_ms: int) -> bool:
    if none_match is not None:
        return not _matches(none_match, etag, weak=True)
    since = _date(modified_since)
    return since is None or modified_ms // 1000 > since


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether one of the tags is `etag`; a weak tag counts only in a weak comparison (RFC 9110 section 8.8.3.2)."""
    return any(tag == "*" or (tag == etag and (weak or not is_weak)) for is_weak, tag in _parse_tags(header))


def _parse_tags(header: str) -> list[tuple[bool, str]]:
    """(weak, tag) of each entry; quotes are optional, since many clients of S3 leave them out."""
    return [(bool(found[1]), found[2] if found[2] is not None else found[3]) for found in _TAGS.finditer(header)]


def _date(header: str | None) -> int | None:
    """Unix seconds of an HTTP date (or ISO 8601, which some SDKs send); None when absent or unreadable."""
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        try:
            date = datetime.fromisoformat(header)
        except ValueError:
            return None
    return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() // 1)
