"""One line of an inventory: what is known of a version without reading its bytes; as CSV and as JSON. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from objstore.engine.keystate import shown_id
from objstore.model.records import KeyState, ObjectVersion
from objstore.model.sealed import BY_CLIENT

_CHECKSUM = "x-amz-checksum-"
_TYPE = "x-amz-checksum-type"
_ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")


@dataclass(frozen=True, slots=True)
class Row:
    """`None`: it has none. `etag` without quotes; of a delete marker ""."""

    bucket: str
    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size: int
    last_modified: str
    etag: str
    storage_class: str
    is_multipart_uploaded: bool
    encryption_status: str  # NOT-SSE | SSE-S3 | SSE-C
    object_lock_retain_until_date: str | None
    object_lock_mode: str | None
    object_lock_legal_hold_status: str | None
    checksum_algorithm: str | None
    checksum: str | None  # as the client sees it
    checksum_type: str | None


COLUMNS = tuple(field.name for field in fields(Row))


def rows_of(bucket: str, key: str, state: KeyState, *, versions: bool) -> list[Row]:
    """Newest first; without `versions` the one that a client sees, if it sees any."""
    shown = state.versions if versions else state.versions[:1]
    return [
        _row(bucket, key, version, is_latest=place == 0)
        for place, version in enumerate(shown)
        if versions or not version.marker
    ]


def _row(bucket: str, key: str, version: ObjectVersion, *, is_latest: bool) -> Row:
    lock = version.lock
    algorithm = next((one for one in _ALGORITHMS if _CHECKSUM + one in version.headers), None)
    hold = "ON" if lock.hold else "OFF" if lock.released else None
    return Row(
        bucket=bucket,
        key=key,
        version_id=shown_id(version),
        is_latest=is_latest,
        is_delete_marker=version.marker,
        size=version.size,
        last_modified=moment(version.modified_ms),
        etag=version.etag,
        storage_class="STANDARD",
        is_multipart_uploaded=bool(version.parts),
        encryption_status=_encryption(version),
        object_lock_retain_until_date=moment(lock.until_ms) if lock.mode else None,
        object_lock_mode=lock.mode or None,
        object_lock_legal_hold_status=hold,
        checksum_algorithm=algorithm.upper() if algorithm else None,
        checksum=version.headers[_CHECKSUM + algorithm] if algorithm else None,
        checksum_type=version.headers.get(_TYPE) if algorithm else None,
    )


def _encryption(version: ObjectVersion) -> str:
    if version.sealed is None:
        return "NOT-SSE"
    return "SSE-C" if version.sealed.kind == BY_CLIENT else "SSE-S3"


def moment(ms: int) -> str:
    """RFC 3339, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def csv_head() -> str:
    return _csv([COLUMNS])


def as_csv(rows: Iterable[Row]) -> str:
    """Every field in quotes, as S3 writes them, so that keys may hold anything; one that is not there is empty."""
    return _csv([[_cell(getattr(row, name)) for name in COLUMNS] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)
    return text.getvalue()
