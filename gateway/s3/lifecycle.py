"""Lifecycle: the rules of a bucket as a document, and what headers say of them. Pure.

There is one storage class, so rules that move objects to another are refused, not ignored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec

from gateway.s3 import documents, tags, xml
from gateway.s3.errors import S3Error
from gateway.s3.target import percent_encode
from objstore.model.lifecycle import ANY_SIZE, DAY_MS, BucketLifecycle, Expiry, LifecycleRule

RULES_MAX = 1000
ID_CHARS_MAX = 255
DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
MINIMUM_HEADER = "x-amz-transition-default-minimum-object-size"

_MINIMUMS = (ANY_SIZE, "varies_by_storage_class")
_TRANSITIONS = ("Transition", "NoncurrentVersionTransition")
_ACTIONS = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
_SIZES = ("ObjectSizeGreaterThan", "ObjectSizeLessThan")
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DAYS_MAX = 2**31 - 1
_NEWER_MAX = 100


# --- documents


def parse(body: bytes, headers: Mapping[str, str]) -> BucketLifecycle:
    """S3Error MalformedXML, InvalidArgument, InvalidRequest, NotImplemented."""
    minimum = headers.get(MINIMUM_HEADER, ANY_SIZE)
    if minimum not in _MINIMUMS:
        raise _argument(f"{MINIMUM_HEADER} is one of {', '.join(_MINIMUMS)}", MINIMUM_HEADER, minimum)
    root = documents.read(body, "LifecycleConfiguration", "Rule", size_max=DOCUMENT_BYTES_MAX)
    nodes = root.all("Rule")
    if not 1 <= len(nodes) <= RULES_MAX:
        raise documents.malformed(f"LifecycleConfiguration has 1 to {RULES_MAX} rules")
    rules = [_rule(node, number) for number, node in enumerate(nodes, 1)]
    if len({rule.id for rule in rules}) < len(rules):
        raise _argument("Rule ID must be unique. Found same ID for more than one rule")
    return BucketLifecycle(tuple(rules), minimum)


def _rule(node: xml.Node, number: int) -> LifecycleRule:
    documents.only(node, "ID", "Status", "Filter", "Prefix", *_ACTIONS, *_TRANSITIONS)
    if any(node.all(name) for name in _TRANSITIONS):
        text = "Transitions are not implemented: there is one storage class here, STANDARD."
        raise S3Error("NotImplemented", text)
    id = documents.text(node, "ID") or ""
    if len(id) > ID_CHARS_MAX:
        raise _argument(f"ID length should not exceed allowed limit of {ID_CHARS_MAX}")
    status = documents.text(node, "Status")
    if status not in ("Enabled", "Disabled"):
        raise documents.malformed("Status of a Rule is Enabled or Disabled")
    rule = _filtered(node, LifecycleRule(id, status == "Enabled"))
    rule = _aborting(documents.child(node, _ACTIONS[2]), _superseding(documents.child(node, _ACTIONS[1]), rule))
    rule = _expiring(documents.child(node, _ACTIONS[0]), rule)
    if not any(node.all(name) for name in _ACTIONS):
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    _check_together(rule)
    return rule if rule.id else msgspec.structs.replace(rule, id=_made_id(rule, number))


def _made_id(rule: LifecycleRule, number: int) -> str:
    """For a rule that was given none: the same for the same rule in the same place."""
    content = msgspec.msgpack.encode((number, rule))
    return hashlib.sha256(content).hexdigest()[:48]


def _filtered(node: xml.Node, rule: LifecycleRule) -> LifecycleRule:
    legacy, found = documents.child(node, "Prefix"), documents.child(node, "Filter")
    if (legacy is None) == (found is None):
        raise documents.malformed("a Rule has either a Filter or a Prefix")
    if legacy is not None:
        return msgspec.structs.replace(rule, prefix=_prefix(legacy), form="legacy")
    assert found is not None
    documents.only(found, "Prefix", "Tag", *_SIZES, "And")
    if len(found.children) > 1:
        raise documents.malformed("a Filter has one of Prefix, Tag, ObjectSizeGreaterThan, ObjectSizeLessThan, And")
    joint = documents.child(found, "And")
    if joint is None:
        return _predicates(found, rule)
    documents.only(joint, "Prefix", "Tag", *_SIZES)
    if not joint.children:
        raise documents.malformed("And is empty")
    return _predicates(joint, msgspec.structs.replace(rule, form="and"))


def _predicates(node: xml.Node, rule: LifecycleRule) -> LifecycleRule:
    prefix = documents.child(node, "Prefix")
    above, below = (_size(node, name) for name in _SIZES)
    if above is not None and below is not None and below <= above:
        raise S3Error("InvalidRequest", "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
    keys = [documents.text(tag, "Key") for tag in node.all("Tag")]
    if len(set(keys)) < len(keys):
        raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    return msgspec.structs.replace(
        rule,
        prefix=_prefix(prefix) if prefix is not None else None,
        tags=tags.of_nodes(xml.Node("And", "", node.all("Tag")), tags.OBJECT_TAGS_MAX),
        size_above=above,
        size_below=below,
    )


def _prefix(node: xml.Node) -> str:
    if len(node.text.encode()) > 1024:
        raise S3Error("InvalidRequest", "The maximum size of a prefix is 1024.")
    return node.text


def _size(node: xml.Node, name: str) -> int | None:
    found = _integer(node, name)
    if found is not None and (found < 0 or (found == 0 and name == _SIZES[1])):
        raise _argument(f"'{name}' should be a {'positive' if name == _SIZES[1] else 'non-negative'} integer")
    return found


def _expiring(node: xml.Node | None, rule: LifecycleRule) -> LifecycleRule:
    if node is None:
        return rule
    documents.only(node, "Days", "Date", "ExpiredObjectDeleteMarker")
    if len(node.children) != 1:
        raise documents.malformed("Expiration has one of Days, Date, ExpiredObjectDeleteMarker")
    date, lone = documents.text(node, "Date"), documents.text(node, "ExpiredObjectDeleteMarker")
    if date is not None:
        return msgspec.structs.replace(rule, date_ms=_date(date))
    if lone is not None:
        if lone not in ("true", "false"):
            raise documents.malformed("ExpiredObjectDeleteMarker is true or false")
        return msgspec.structs.replace(rule, lone_marker=lone == "true")
    return msgspec.structs.replace(rule, days=_days(node, "Days"))


def _superseding(node: xml.Node | None, rule: LifecycleRule) -> LifecycleRule:
    if node is None:
        return rule
    documents.only(node, "NoncurrentDays", "NewerNoncurrentVersions")
    newer = _integer(node, "NewerNoncurrentVersions")
    if newer is not None:
        if newer <= 0:
            text = f"'NewerNoncurrentVersions' for {node.name} action must be a positive integer"
            raise _argument(text)
        if newer > _NEWER_MAX:
            raise _argument(f"'NewerNoncurrentVersions' for {node.name} action must be at most {_NEWER_MAX}")
        if rule.form == "legacy":
            raise S3Error("InvalidRequest", "NewerNoncurrentVersions can only be specified in a rule with a Filter.")
    return msgspec.structs.replace(rule, noncurrent_days=_days(node, "NoncurrentDays"), newer_noncurrent=newer or 0)


def _aborting(node: xml.Node | None, rule: LifecycleRule) -> LifecycleRule:
    if node is None:
        return rule
    documents.only(node, "DaysAfterInitiation")
    return msgspec.structs.replace(rule, abort_days=_days(node, "DaysAfterInitiation"))


def _check_together(rule: LifecycleRule) -> None:
    """What asks for tags or sizes says nothing of uploads and delete markers."""
    for name, there in (
        ("AbortIncompleteMultipartUpload", rule.abort_days),
        ("ExpiredObjectDeleteMarker", rule.lone_marker),
    ):
        if there and rule.tags:
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Tags.")
        if there and (rule.size_above is not None or rule.size_below is not None):
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Object Size.")


def _days(node: xml.Node, name: str) -> int:
    found = _integer(node, name)
    if found is None:
        raise documents.malformed(f"{node.name} has {name}")
    if found <= 0:
        raise _argument(f"'{name}' for {node.name} action must be a positive integer")
    if found > _DAYS_MAX:
        raise _argument(f"'{name}' for {node.name} action must be at most {_DAYS_MAX}")
    return found


def _integer(node: xml.Node, name: str) -> int | None:
    text = documents.text(node, name)
    if text is None:
        return None
    if not _INTEGER.fullmatch(text):
        raise documents.malformed(f"{name} is an integer")
    return int(text)


def _date(text: str) -> int:
    """ISO 8601, at midnight; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _argument("'Date' must be at midnight GMT", "Date", text) from None
    if not ("-" in text[:8] and text.isascii()):
        raise documents.malformed("Date is written as 2026-01-31T00:00:00Z")
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    at_ms = round(found.timestamp() * 1000)
    if at_ms % DAY_MS:
        raise _argument("'Date' must be at midnight GMT", "Date", text)
    return at_ms


def _argument(text: str, name: str = "", value: str = "") -> S3Error:
    extra = {"ArgumentName": name, "ArgumentValue": value} if name else {}
    return S3Error("InvalidArgument", text, extra=extra)


def document(found: BucketLifecycle) -> bytes:
    return xml.document("LifecycleConfiguration", "".join(map(_shown, found.rules)))


def _shown(rule: LifecycleRule) -> str:
    content = xml.element("ID", rule.id)
    if rule.form == "legacy":
        content += xml.element("Prefix", rule.prefix or "")
    else:
        content += f"<Filter>{_shown_filter(rule)}</Filter>"
    content += xml.element("Status", "Enabled" if rule.enabled else "Disabled")
    expiration = ""
    if rule.days:
        expiration = xml.element("Days", rule.days)
    elif rule.date_ms is not None:
        expiration = xml.element("Date", _iso(rule.date_ms))
    elif rule.lone_marker is not None:
        expiration = xml.element("ExpiredObjectDeleteMarker", rule.lone_marker)
    if expiration:
        content += f"<Expiration>{expiration}</Expiration>"
    if rule.noncurrent_days:
        noncurrent = xml.element("NoncurrentDays", rule.noncurrent_days)
        if rule.newer_noncurrent:
            noncurrent += xml.element("NewerNoncurrentVersions", rule.newer_noncurrent)
        content += f"<NoncurrentVersionExpiration>{noncurrent}</NoncurrentVersionExpiration>"
    if rule.abort_days:
        abort = xml.element("DaysAfterInitiation", rule.abort_days)
        content += f"<AbortIncompleteMultipartUpload>{abort}</AbortIncompleteMultipartUpload>"
    return f"<Rule>{content}</Rule>"


def _shown_filter(rule: LifecycleRule) -> str:
    content = xml.element("Prefix", rule.prefix) if rule.prefix is not None else ""
    for key, value in rule.tags.items():
        content += f"<Tag>{xml.element('Key', key)}{xml.element('Value', value)}</Tag>"
    for name, size in zip(_SIZES, (rule.size_above, rule.size_below), strict=True):
        content += xml.element(name, size) if size is not None else ""
    return f"<And>{content}</And>" if rule.form == "and" else content


def _iso(ms: int) -> str:
    return _utc(ms).isoformat()[:19] + ".000Z"


# --- headers of other answers


def expiration_header(found: Expiry | None) -> dict[str, str]:
    """Of what writes or shows a current version."""
    if found is None:
        return {}
    return {"x-amz-expiration": f'expiry-date="{_http(found.at_ms)}", rule-id="{percent_encode(found.rule)}"'}


def abort_headers(found: Expiry | None) -> dict[str, str]:
    """Of what begins or shows a multipart upload."""
    if found is None:
        return {}
    return {"x-amz-abort-date": _http(found.at_ms), "x-amz-abort-rule-id": percent_encode(found.rule)}


def _http(ms: int) -> str:
    return format_datetime(_utc(ms), usegmt=True)


def _utc(ms: int) -> datetime:
    """What lies behind the last day that can be written is that day."""
    return datetime.fromtimestamp(min(ms // 1000, 253_402_214_400), UTC)
