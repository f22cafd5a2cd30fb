"""Inventory configurations as documents. Pure.

Reports are CSV (gzip) and are written into a bucket of the same cluster; what a report cannot be, ORC, Parquet or
encrypted with a key of its own, is refused.
"""

from __future__ import annotations

import re

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from gateway.s3.names import check_bucket_name
from objstore.model.inventory import PERIODS_DAYS, BucketInventory, InventoryRule

DOCUMENT_BYTES_MAX = 64 * 1024
ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PREFIX_MAX = 512
_ARN = "arn:aws:s3:::"
FIELDS = (
    "Size",
    "LastModifiedDate",
    "StorageClass",
    "ETag",
    "IsMultipartUploaded",
    "ReplicationStatus",
    "EncryptionStatus",
    "ObjectLockRetainUntilDate",
    "ObjectLockMode",
    "ObjectLockLegalHoldStatus",
    "IntelligentTieringAccessTier",
    "BucketKeyStatus",
    "ChecksumAlgorithm",
)
_NOT_HERE = ("ObjectAccessControlList", "ObjectOwner")


def parse(body: bytes, id: str) -> InventoryRule:
    """`id`: that the query names. S3Error MalformedXML, InvalidArgument, NotImplemented."""
    root = documents.read(
        body,
        "InventoryConfiguration",
        *("Destination", "IsEnabled", "Filter", "Id", "IncludedObjectVersions", "OptionalFields", "Schedule"),
        size_max=DOCUMENT_BYTES_MAX,
    )
    named = _needed(root, "Id")
    if not ID.fullmatch(named):
        raise S3Error("InvalidArgument", "The Id has 1 to 64 of the characters a-z A-Z 0-9 _ . -")
    if named != id:
        raise S3Error("InvalidArgument", "The id of the query is not that of the configuration.")
    destination = _child(_child(root, "Destination", "S3BucketDestination"), "S3BucketDestination")
    documents.only(destination, "AccountId", "Bucket", "Format", "Prefix", "Encryption")
    within = documents.child(root, "Filter")
    if within is not None:
        documents.only(within, "Prefix")
    prefix = (documents.text(within, "Prefix") or "") if within is not None else ""
    return InventoryRule(
        named,
        _bucket(destination),
        _chosen(_child(root, "Schedule", "Frequency"), "Frequency", *PERIODS_DAYS),
        _chosen(root, "IsEnabled", "true", "false") == "true",
        _prefix(documents.text(destination, "Prefix") or ""),
        _prefix(prefix),
        _chosen(root, "IncludedObjectVersions", "All", "Current") == "All",
        _fields(root),
        documents.text(destination, "AccountId") or "",
    )


def _bucket(destination: xml.Node) -> str:
    if _chosen(destination, "Format", "CSV", "ORC", "Parquet") != "CSV":
        raise S3Error("NotImplemented", "Reports are written as CSV only.")
    if destination.all("Encryption"):
        raise S3Error("NotImplemented", "Reports are not encrypted by an Encryption element.")
    arn = _needed(destination, "Bucket")
    name = arn.removeprefix(_ARN)
    if not arn.startswith(_ARN):
        raise S3Error("InvalidArgument", f"The destination is named as {_ARN}BUCKET.")
    check_bucket_name(name)
    return name


def _prefix(text: str) -> str:
    if len(text.encode()) > PREFIX_MAX:
        raise S3Error("InvalidArgument", f"A prefix has at most {PREFIX_MAX} bytes.")
    return text


def _fields(root: xml.Node) -> tuple[str, ...]:
    node = documents.child(root, "OptionalFields")
    if node is None:
        return ()
    documents.only(node, "Field")
    names = [one.text.strip() for one in node.all("Field")]
    for name in names:
        if name in _NOT_HERE:
            raise S3Error("NotImplemented", f"Reports have no field {name}: the index does not hold ACLs.")
        if name not in FIELDS:
            raise documents.malformed(f"there is no field {name}")
    return tuple(dict.fromkeys(names))


def _child(node: xml.Node, name: str, *names: str) -> xml.Node:
    found = documents.child(node, name)
    if found is None:
        raise documents.malformed(f"{node.name} needs an element {name}")
    if names:
        documents.only(found, *names)
    return found


def _needed(node: xml.Node, name: str) -> str:
    found = documents.text(node, name)
    if not found:
        raise documents.malformed(f"{node.name} needs an element {name}")
    return found


def _chosen(node: xml.Node, name: str, *values: str) -> str:
    found = _needed(node, name)
    if found not in values:
        raise documents.malformed(f"{name} is one of {', '.join(values)}")
    return found


def document(rule: InventoryRule) -> bytes:
    return xml.document("InventoryConfiguration", _content(rule))


def listing(found: BucketInventory) -> bytes:
    rules = "".join(f"<InventoryConfiguration>{_content(rule)}</InventoryConfiguration>" for rule in found.rules)
    return xml.document("ListInventoryConfigurationsResult", rules + xml.element("IsTruncated", False))


def _content(rule: InventoryRule) -> str:
    destination = xml.element("AccountId", rule.account) if rule.account else ""
    destination += xml.element("Bucket", _ARN + rule.destination) + xml.element("Format", "CSV")
    if rule.destination_prefix:
        destination += xml.element("Prefix", rule.destination_prefix)
    text = f"<Destination><S3BucketDestination>{destination}</S3BucketDestination></Destination>"
    text += xml.element("IsEnabled", rule.enabled)
    if rule.prefix:
        text += f"<Filter>{xml.element('Prefix', rule.prefix)}</Filter>"
    text += xml.element("Id", rule.id)
    text += xml.element("IncludedObjectVersions", "All" if rule.all_versions else "Current")
    if rule.fields:
        text += f"<OptionalFields>{''.join(xml.element('Field', name) for name in rule.fields)}</OptionalFields>"
    return text + f"<Schedule>{xml.element('Frequency', rule.frequency)}</Schedule>"
