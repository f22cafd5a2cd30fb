"""Object lock in requests and answers: headers, and the documents of a bucket, a retention and a legal hold.

Not here: whether a lock may be changed (`objstore.model.locking`), whether a version may go (`engine.keystate`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from objstore.model.locking import COMPLIANCE, GOVERNANCE, BucketLock
from objstore.model.records import NO_LOCK, Lock

MODE_HEADER = "x-amz-object-lock-mode"
UNTIL_HEADER = "x-amz-object-lock-retain-until-date"
HOLD_HEADER = "x-amz-object-lock-legal-hold"
BUCKET_HEADER = "x-amz-bucket-object-lock-enabled"
BYPASS_HEADER = "x-amz-bypass-governance-retention"
WRITE_HEADERS = f"{MODE_HEADER} {UNTIL_HEADER} {HOLD_HEADER}"
NOT_LOCKABLE = "Bucket is missing Object Lock Configuration"

_MODES = (GOVERNANCE, COMPLIANCE)
_NUMBER = re.compile("-?[0-9]{1,9}")
_DAYS_MAX, _YEARS_MAX = 36_500, 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_headers(headers: Mapping[str, str], now_ms: int) -> Lock:
    """Of PutObject, CopyObject, CreateMultipartUpload. S3Error InvalidArgument."""
    mode, until, hold = headers.get(MODE_HEADER), headers.get(UNTIL_HEADER), headers.get(HOLD_HEADER)
    if (mode is None) != (until is None):
        raise S3Error("InvalidArgument", f"{UNTIL_HEADER} and {MODE_HEADER} must both be supplied")
    if mode is not None and mode not in _MODES:
        raise _bad_argument(MODE_HEADER, mode, "Unknown wormMode directive.")
    until_ms = 0
    if until is not None:
        until_ms = _in_future(UNTIL_HEADER, until, now_ms)
    if hold not in (None, "ON", "OFF"):
        raise _bad_argument(HOLD_HEADER, hold or "", "Legal Hold must be either of 'ON' or 'OFF'")
    if mode is None and hold is None:
        return NO_LOCK
    return Lock(mode or "", until_ms, hold == "ON", hold == "OFF")


def shown_headers(lock: Lock) -> dict[str, str]:
    """Of GET and HEAD."""
    shown = {MODE_HEADER: lock.mode, UNTIL_HEADER: _iso(lock.until_ms)} if lock.mode else {}
    if lock.hold or lock.released:
        shown[HOLD_HEADER] = "ON" if lock.hold else "OFF"
    return shown


def bypasses(headers: Mapping[str, str]) -> bool:
    """Whether governance retention shall not count."""
    return headers.get(BYPASS_HEADER, "").lower() == "true"


def enabled_at_creation(headers: Mapping[str, str]) -> bool:
    value = headers.get(BUCKET_HEADER, "false")
    if value.lower() not in ("true", "false"):
        raise _bad_argument(BUCKET_HEADER, value, f"{BUCKET_HEADER} must be true or false.")
    return value.lower() == "true"


# --- documents


def parse_bucket_lock(body: bytes) -> BucketLock:
    """S3Error MalformedXML, InvalidArgument."""
    root = documents.read(body, "ObjectLockConfiguration", "ObjectLockEnabled", "Rule")
    if documents.text(root, "ObjectLockEnabled") != "Enabled":
        raise documents.malformed("ObjectLockEnabled must be Enabled")
    rule = documents.child(root, "Rule")
    if rule is None:
        return BucketLock()
    documents.only(rule, "DefaultRetention")
    default = documents.child(rule, "DefaultRetention")
    if default is None:
        raise documents.malformed("a Rule has a DefaultRetention")
    documents.only(default, "Mode", "Days", "Years")
    mode, days, years = (documents.text(default, name) for name in ("Mode", "Days", "Years"))
    if mode not in _MODES:
        raise documents.malformed(f"Mode is {GOVERNANCE} or {COMPLIANCE}")
    if (days is None) == (years is None):
        raise documents.malformed("DefaultRetention has either Days or Years")
    return BucketLock(mode, _period(days, _DAYS_MAX), _period(years, _YEARS_MAX))


def _period(number: str | None, at_most: int) -> int:
    if number is None:
        return 0
    if not _NUMBER.fullmatch(number):
        raise documents.malformed(f"a period is an integer, not {number}")
    if int(number) <= 0:
        raise S3Error("InvalidArgument", "Default retention period must be a positive integer value.")
    if int(number) > at_most:
        text = f"Default retention period too large! (maximum {_DAYS_MAX} days or {_YEARS_MAX} years)"
        raise S3Error("InvalidArgument", text)
    return int(number)


def bucket_lock(found: BucketLock) -> bytes:
    content = xml.element("ObjectLockEnabled", "Enabled")
    if found.mode:
        period = xml.element("Days", found.days) if found.days else xml.element("Years", found.years)
        default = f"<DefaultRetention>{xml.element('Mode', found.mode)}{period}</DefaultRetention>"
        content += f"<Rule>{default}</Rule>"
    return xml.document("ObjectLockConfiguration", content)


class Retention(NamedTuple):
    mode: str = ""  # "": none
    until_ms: int = 0


def parse_retention(body: bytes, now_ms: int) -> Retention:
    """An empty Retention takes one away. S3Error MalformedXML, InvalidArgument (a time that is past)."""
    root = documents.read(body, "Retention", "Mode", "RetainUntilDate")
    mode, until = documents.text(root, "Mode"), documents.text(root, "RetainUntilDate")
    if not mode and not until:
        return Retention()
    if mode not in _MODES or not until:
        raise documents.malformed(f"a Retention has a Mode ({GOVERNANCE} or {COMPLIANCE}) and a RetainUntilDate")
    if _moment(until) is None:
        raise documents.malformed("RetainUntilDate is not a date of ISO 8601")
    return Retention(mode, _in_future("RetainUntilDate", until, now_ms))


def retention(lock: Lock) -> bytes:
    content = xml.element("Mode", lock.mode) + xml.element("RetainUntilDate", _iso(lock.until_ms))
    return xml.document("Retention", content)


def parse_hold(body: bytes) -> bool:
    status = documents.text(documents.read(body, "LegalHold", "Status"), "Status")
    if status not in ("ON", "OFF"):
        raise documents.malformed("Status is ON or OFF")
    return status == "ON"


def hold(lock: Lock) -> bytes:
    return xml.document("LegalHold", xml.element("Status", "ON" if lock.hold else "OFF"))


# --- times


def _in_future(name: str, value: str, now_ms: int) -> int:
    until_ms = _moment(value)
    if until_ms is None:
        raise _bad_argument(name, value, "The retain until date must be provided in ISO 8601 format")
    if until_ms <= now_ms:
        raise _bad_argument(name, value, "The retain until date must be in the future!")
    return until_ms


def _moment(value: str) -> int | None:
    """Milliseconds; part of one counts as a whole, so that nothing is kept for less than was asked."""
    try:
        parsed = datetime.fromisoformat(value)
        at = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        ms = -((_EPOCH - at) // timedelta(milliseconds=1))
        _iso(ms)  # in UTC it may be a year beyond 9999, which could never be shown
        return ms
    except (ValueError, OverflowError):
        return None


def _iso(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _bad_argument(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, extra={"ArgumentName": name, "ArgumentValue": value})
