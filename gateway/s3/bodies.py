"""XML request bodies, bounded and read strictly: CompleteMultipartUpload, Delete, CreateBucketConfiguration.

An element that this gateway does not know is refused (MalformedXML, or NotImplemented where S3 gives it a meaning):
skipping a condition would delete what should have stayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.s3 import tags, xml
from gateway.s3.checksums import ALGORITHMS, decode
from gateway.s3.errors import S3Error
from objstore.model.limits import LIST_PAGE_MAX, PARTS_MAX, XML_BODY_BYTES_MAX

_CHECKSUM_ELEMENTS = {"Checksum" + algorithm.upper(): algorithm for algorithm in ALGORITHMS}


class DeleteEntry(NamedTuple):
    key: str  # unchecked: a key that cannot be is an error of this entry alone
    version_id: str | None = None
    etag: str | None = None  # as sent; delete only while this is the ETag (* for any),
    size: str | None = None  # ... the size in bytes,
    modified: str | None = None  # ... and the time of the last change


class DeleteRequest(NamedTuple):
    entries: tuple[DeleteEntry, ...]  # 1 to 1000
    quiet: bool


class CompletePart(NamedTuple):
    number: int
    etag: str  # without quotes
    checksums: dict[str, str]  # {"crc32": base64}


def parse_delete(body: bytes) -> DeleteRequest:
    """S3Error MalformedXML. What the conditions say is read by `conditions.entry_condition`."""
    root = _parse(body, "Delete")
    _only_known(root, "Object", "Quiet")
    objects = root.all("Object")
    if not 1 <= len(objects) <= LIST_PAGE_MAX:
        raise _malformed(f"Delete must name 1 to {LIST_PAGE_MAX} objects, not {len(objects)}")
    return DeleteRequest(tuple(map(_delete_entry, objects)), _boolean("Quiet", _text(root, "Quiet")))


def _delete_entry(node: xml.Node) -> DeleteEntry:
    _only_known(node, "Key", "VersionId", "ETag", "Size", "LastModifiedTime")
    key = _text(node, "Key")
    if not key:
        raise _malformed("an Object has no Key")
    conditions = (_text(node, name) for name in ("ETag", "Size", "LastModifiedTime"))
    return DeleteEntry(key, _text(node, "VersionId"), *conditions)


def parse_complete(body: bytes) -> tuple[CompletePart, ...]:
    """In the order given (the engine answers InvalidPartOrder). S3Error MalformedXML, InvalidArgument (number)."""
    root = _parse(body, "CompleteMultipartUpload")
    _only_known(root, "Part")
    parts = root.all("Part")
    if not 1 <= len(parts) <= PARTS_MAX:
        raise _malformed(f"CompleteMultipartUpload must name 1 to {PARTS_MAX} parts, not {len(parts)}")
    return tuple(map(_complete_part, parts))


def _complete_part(node: xml.Node) -> CompletePart:
    _only_known(node, "PartNumber", "ETag", *_CHECKSUM_ELEMENTS)
    number, etag = _text(node, "PartNumber"), _text(node, "ETag")
    if number is None or etag is None:
        raise _malformed("a Part lacks its PartNumber or its ETag")
    number = number.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= PARTS_MAX):
        message = f"PartNumber must be an integer between 1 and {PARTS_MAX}, not {number}."
        raise S3Error("InvalidArgument", message, extra={"ArgumentName": "PartNumber", "ArgumentValue": number})
    checksums = {}
    for element, algorithm in _CHECKSUM_ELEMENTS.items():
        value = _text(node, element)
        if value:
            decode(algorithm, value.strip())
            checksums[algorithm] = value.strip()
    return CompletePart(int(number), _unquoted(etag), checksums)


class NewBucket(NamedTuple):
    location: str = ""  # the LocationConstraint
    tags: Mapping[str, str] = {}


def parse_create_bucket(body: bytes) -> NewBucket:
    """An empty body is no configuration."""
    if not body.strip():
        return NewBucket()
    root = _parse(body, "CreateBucketConfiguration")
    for name in ("Location", "Bucket"):
        if root.all(name):
            raise S3Error("NotImplemented", f"The element {name} of CreateBucketConfiguration is not implemented.")
    _only_known(root, "LocationConstraint", "Tags")
    tag_sets = root.all("Tags")
    if len(tag_sets) > 1:
        raise _malformed("there are several Tags")
    found = tags.of_nodes(tag_sets[0], tags.BUCKET_TAGS_MAX) if tag_sets else {}
    return NewBucket((_text(root, "LocationConstraint") or "").strip(), found)


def parse_versioning(body: bytes) -> str:
    """ "Enabled" or "Suspended". MFA delete is not implemented."""
    root = _parse(body, "VersioningConfiguration")
    _only_known(root, "Status", "MfaDelete")
    if (_text(root, "MfaDelete") or "Disabled").strip() != "Disabled":
        raise S3Error("NotImplemented", "MFA delete is not implemented.")
    status = (_text(root, "Status") or "").strip()
    if not status:
        raise S3Error("IllegalVersioningConfigurationException", "The Status element must be specified.")
    if status not in ("Enabled", "Suspended"):
        raise _malformed(f"Status must be Enabled or Suspended, not {status!r}")
    return status


def _parse(body: bytes, root: str) -> xml.Node:
    try:
        return xml.parse(body, root, size_max=XML_BODY_BYTES_MAX)
    except xml.XMLError as error:
        raise _malformed(str(error)) from error


def _text(node: xml.Node, name: str) -> str | None:
    try:
        return node.only(name)
    except xml.XMLError as error:
        raise _malformed(str(error)) from error


def _only_known(node: xml.Node, *names: str) -> None:
    for child in node.children:
        if child.name not in names:
            raise _malformed(f"{node.name} has an unknown element {child.name}")


def _boolean(name: str, text: str | None) -> bool:
    value = (text or "false").strip().lower()
    if value not in ("true", "false", "1", "0"):
        raise _malformed(f"{name} must be true or false, not {value}")
    return value in ("true", "1")


def _unquoted(etag: str) -> str:
    return etag.strip().strip('"')


def _malformed(reason: str) -> S3Error:
    return S3Error("MalformedXML", f"The XML you provided was not well-formed or not as expected: {reason}.")
