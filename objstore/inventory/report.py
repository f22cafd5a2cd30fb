"""A report as S3 writes it: lines of CSV, the manifest that names its files, and where all of it goes. Pure."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from objstore.inventory.rows import Row
from objstore.model.inventory import InventoryRule

VERSION = "2016-11-30"
_COLUMNS = {
    "Bucket": "bucket",
    "Key": "key",
    "VersionId": "version_id",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
    "Size": "size",
    "LastModifiedDate": "last_modified",
    "StorageClass": "storage_class",
    "ETag": "etag",
    "IsMultipartUploaded": "is_multipart_uploaded",
    "EncryptionStatus": "encryption_status",
    "ObjectLockRetainUntilDate": "object_lock_retain_until_date",
    "ObjectLockMode": "object_lock_mode",
    "ObjectLockLegalHoldStatus": "object_lock_legal_hold_status",
    "ChecksumAlgorithm": "checksum_algorithm",
}
_SAME_FOR_ALL = {"ReplicationStatus": "", "IntelligentTieringAccessTier": "", "BucketKeyStatus": "DISABLED"}
_NOT_OF_MARKERS = frozenset(("Size", "ETag", "StorageClass", "IsMultipartUploaded", "EncryptionStatus"))


class ReportFile(NamedTuple):
    key: str
    size: int
    md5: str  # in hex


def schema(rule: InventoryRule) -> tuple[str, ...]:
    versions = ("VersionId", "IsLatest", "IsDeleteMarker") if rule.all_versions else ()
    return ("Bucket", "Key", *versions, *rule.fields)


def lines(rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """Every field in quotes, keys as in URLs, no line of headings."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[_cell(row, name) for name in columns] for row in rows])
    return text.getvalue().encode()


def _cell(row: Row, name: str) -> str:
    if name in _SAME_FOR_ALL:
        return _SAME_FOR_ALL[name]
    if row.is_delete_marker and name in _NOT_OF_MARKERS:
        return ""
    value = getattr(row, _COLUMNS[name])
    if value is None:
        return ""
    if name == "Key":
        return quote(str(value), safe="/")
    if name == "VersionId" and value == "null":
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def folder(rule: InventoryRule, bucket: str) -> str:
    """Where all reports of a configuration are."""
    lead = f"{rule.destination_prefix}/" if rule.destination_prefix else ""
    return f"{lead}{bucket}/{rule.id}"


def manifest_key(rule: InventoryRule, bucket: str, at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{folder(rule, bucket)}/{at:%Y-%m-%dT%H-%MZ}/manifest.json"


def checksum_key(manifest: str) -> str:
    return manifest.removesuffix("manifest.json") + "manifest.checksum"


def manifest(rule: InventoryRule, bucket: str, at_ms: int, files: Sequence[ReportFile]) -> bytes:
    about = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{rule.destination}",
        "version": VERSION,
        "creationTimestamp": str(at_ms),
        "fileFormat": "CSV",
        "fileSchema": ", ".join(schema(rule)),
        "files": [{"key": one.key, "size": one.size, "MD5checksum": one.md5} for one in files],
    }
    return json.dumps(about, indent=2).encode()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
