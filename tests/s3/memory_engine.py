"""An engine in a dictionary: the gateway's tests run against it without a cluster.

It keeps the contract of `gateway.port.Engine` exactly (conditions, listing order, multipart answers) and
nothing else: no durability, no concurrency beyond one event loop. What it returns is what a correct cluster
must return, so that a test that passes here is a claim about both.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from objstore.engine.types import (
    ALWAYS,
    BucketInfo,
    ObjectEntry,
    ObjectInfo,
    ObjectPage,
    PartInfo,
    PartPage,
    Reach,
    UploadEntry,
    UploadPage,
    WriteCondition,
)
from objstore.model import errors, limits
from objstore.model.ids import BucketId, uuid7
from objstore.ports import Buffer

READ_CHUNK = 64 * limits.KIB

Finish = Callable[[], dict[str, str]]


@dataclass
class _Upload:
    key: str
    created_ms: int
    headers: dict[str, str]
    parts: dict[int, tuple[PartInfo, bytes]] = field(default_factory=dict)
    completed: ObjectInfo | None = None


@dataclass
class _Bucket:
    info: BucketInfo
    objects: dict[str, ObjectInfo] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)  # by id


class MemoryEngine:
    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    async def reach(self) -> Reach:
        return Reach()

    # --- buckets

    async def create_bucket(self, name: str) -> BucketInfo:
        if name in self._buckets:
            raise errors.BucketAlreadyExists(f"bucket {name!r} exists already")
        info = BucketInfo(name, BucketId(_new_id()), _now_ms())
        self._buckets[name] = _Bucket(info)
        return info

    async def get_bucket(self, name: str) -> BucketInfo:
        return self._bucket(name).info

    async def delete_bucket(self, name: str) -> None:
        if self._bucket(name).objects:
            raise errors.BucketNotEmpty(f"bucket {name!r} still holds objects")
        del self._buckets[name]

    async def list_buckets(self) -> list[BucketInfo]:
        return [self._buckets[name].info for name in sorted(self._buckets)]

    # --- objects

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        *,
        condition: WriteCondition = ALWAYS,
        content_md5: bytes | None = None,
        finish: Finish | None = None,
    ) -> ObjectInfo:
        self._bucket(bucket)
        data = await _collect(body, size)
        etag = _verified_md5(data, content_md5)
        added = finish() if finish else {}
        info = ObjectInfo(bucket, key, _new_id().hex(), size, etag, _now_ms(), {**headers, **added}, data=data)
        return self._publish(info, condition)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        info = self._bucket(bucket).objects.get(key)
        if info is None:
            raise errors.NoSuchKey(f"no object {key!r} in bucket {bucket!r}")
        return info

    async def read(self, info: ObjectInfo, offset: int, length: int) -> AsyncIterator[Buffer]:
        view = memoryview(info.data)[offset : offset + length]
        for start in range(0, length, READ_CHUNK):
            yield view[start : start + READ_CHUNK]

    async def delete_object(self, bucket: str, key: str, *, condition: WriteCondition = ALWAYS) -> bool:
        objects = self._bucket(bucket).objects
        _check(objects.get(key), condition, key)
        return objects.pop(key, None) is not None

    async def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> ObjectPage:
        entries: list[ObjectEntry] = []
        prefixes: list[str] = []
        last = after
        objects = self._bucket(bucket).objects
        for key in sorted(objects, key=str.encode):
            if not key.startswith(prefix) or not _beyond(key, after, prefix, delimiter):
                continue
            group = _common_prefix(key, prefix, delimiter)
            if group and prefixes and prefixes[-1] == group:
                continue
            if len(entries) + len(prefixes) >= limit:
                return ObjectPage(entries, prefixes, limit > 0, last if limit > 0 else "")
            if group:
                prefixes.append(group)
            else:
                info = objects[key]
                entries.append(ObjectEntry(key, info.size, info.etag, info.modified_ms))
            last = group or key
        return ObjectPage(entries, prefixes, False, "")

    # --- multipart

    async def create_upload(self, bucket: str, key: str, headers: dict[str, str]) -> str:
        upload_id = _new_id().hex()
        self._bucket(bucket).uploads[upload_id] = _Upload(key, _now_ms(), dict(headers))
        return upload_id

    async def put_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: AsyncIterator[Buffer],
        size: int,
        *,
        content_md5: bytes | None = None,
        finish: Finish | None = None,
    ) -> PartInfo:
        self._open_upload(bucket, key, upload_id)
        data = await _collect(body, size)
        etag = _verified_md5(data, content_md5)
        part = PartInfo(number, size, etag, _now_ms(), finish() if finish else {})
        self._open_upload(bucket, key, upload_id).parts[number] = (part, data)
        return part

    async def list_parts(self, bucket: str, key: str, upload_id: str, *, after: int = 0, limit: int = 1000) -> PartPage:
        upload = self._open_upload(bucket, key, upload_id)
        rest = [upload.parts[number][0] for number in sorted(upload.parts) if number > after]
        page = rest[:limit]
        truncated = limit > 0 and len(rest) > limit
        return PartPage(dict(upload.headers), page, truncated, page[-1].number if truncated else 0)

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadPage:
        uploads: list[UploadEntry] = []
        prefixes: list[str] = []
        last = ("", "")
        found = self._bucket(bucket).uploads
        for upload_id in sorted(found, key=lambda i: (found[i].key.encode(), i)):
            upload = found[upload_id]
            same_key = bool(after_upload) and upload.key == after_key
            after = (same_key and upload_id > after_upload) or _beyond(upload.key, after_key, prefix, delimiter)
            if upload.completed or not upload.key.startswith(prefix) or not after:
                continue
            group = _common_prefix(upload.key, prefix, delimiter)
            if group and prefixes and prefixes[-1] == group:
                continue
            if len(uploads) + len(prefixes) >= limit:
                return UploadPage(uploads, prefixes, limit > 0, *last)
            if group:
                prefixes.append(group)
                last = (group, "")
            else:
                uploads.append(UploadEntry(upload.key, upload_id, upload.created_ms))
                last = (upload.key, upload_id)
        return UploadPage(uploads, prefixes, False, "", "")

    async def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        condition: WriteCondition = ALWAYS,
        headers: dict[str, str] | None = None,
    ) -> ObjectInfo:
        upload = self._bucket(bucket).uploads.get(upload_id)
        if upload is not None and upload.key == key and upload.completed is not None:
            return upload.completed
        upload = self._open_upload(bucket, key, upload_id)
        chosen = _choose_parts(upload, parts)
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part, _ in chosen)).hexdigest()
        data = b"".join(body for _, body in chosen)
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            version_id=_new_id().hex(),
            size=len(data),
            etag=f"{digest}-{len(chosen)}",
            modified_ms=_now_ms(),
            headers={**upload.headers, **(headers or {})},
            parts=tuple(part.size for part, _ in chosen),
            data=data,
        )
        self._publish(info, condition)
        upload.completed = replace(info, data=b"")
        upload.parts.clear()
        return info

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        self._open_upload(bucket, key, upload_id)
        del self._bucket(bucket).uploads[upload_id]

    # --- inside

    def _bucket(self, name: str) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            raise errors.NoSuchBucket(f"no bucket {name!r}")
        return bucket

    def _open_upload(self, bucket: str, key: str, upload_id: str) -> _Upload:
        upload = self._bucket(bucket).uploads.get(upload_id)
        if upload is None or upload.key != key or upload.completed:
            raise errors.NoSuchUpload(f"no upload {upload_id!r} of {key!r}; it was completed, aborted or never begun")
        return upload

    def _publish(self, info: ObjectInfo, condition: WriteCondition) -> ObjectInfo:
        objects = self._bucket(info.bucket).objects
        _check(objects.get(info.key), condition, info.key)
        objects[info.key] = info
        return info


async def _collect(body: AsyncIterator[Buffer], size: int) -> bytes:
    data = bytearray()
    async for chunk in body:
        data += chunk
    if len(data) != size:
        raise errors.IncompleteBody(f"{len(data)} bytes arrived, {size} were announced")
    return bytes(data)


def _verified_md5(data: bytes, expected: bytes | None) -> str:
    digest = hashlib.md5(data)
    if expected is not None and digest.digest() != expected:
        raise errors.BadDigest("the body does not match its Content-MD5")
    return digest.hexdigest()


def _check(current: ObjectInfo | None, condition: WriteCondition, key: str) -> None:
    if condition.if_match is not None:
        if current is None:
            raise errors.NoSuchKey(f"no object {key!r} to match")
        if condition.if_match != "*" and current.etag not in condition.if_match.split(","):
            raise errors.PreconditionFailed(f"object {key!r} has another ETag")
    if condition.if_none_match is not None and current is not None:
        refused = condition.if_none_match.split(",")
        if "*" in refused or current.etag in refused:
            raise errors.PreconditionFailed(f"object {key!r} exists")
    if current is not None and condition.if_size not in (None, current.size):
        raise errors.PreconditionFailed(f"object {key!r} has another size")
    if current is not None and condition.if_modified_s not in (None, current.modified_ms // 1000):
        raise errors.PreconditionFailed(f"object {key!r} was modified at another time")


def _choose_parts(upload: _Upload, parts: Sequence[tuple[int, str]]) -> list[tuple[PartInfo, bytes]]:
    numbers = [number for number, _ in parts]
    if any(b <= a for a, b in itertools.pairwise(numbers)):
        raise errors.InvalidPartOrder("the parts are not in ascending order")
    chosen = []
    for number, etag in parts:
        stored = upload.parts.get(number)
        if stored is None or stored[0].etag != etag:
            raise errors.InvalidPart(f"part {number} with ETag {etag!r} was not uploaded")
        chosen.append(stored)
    if any(part.size < limits.PART_SIZE_MIN for part, _ in chosen[:-1]):
        raise errors.PartTooSmall("every part but the last must have at least 5 MiB")
    return chosen


def _common_prefix(key: str, prefix: str, delimiter: str) -> str:
    """The group that `key` is rolled up into, or ""."""
    if not delimiter:
        return ""
    end = key.find(delimiter, len(prefix))
    return "" if end < 0 else key[: end + len(delimiter)]


def _beyond(key: str, after: str, prefix: str, delimiter: str) -> bool:
    """Is `key` past `after`? When `after` is a common prefix, its whole group counts as returned."""
    if after and after == _common_prefix(key, prefix, delimiter):
        return False
    return key.encode() > after.encode()


def _new_id() -> bytes:
    return uuid7(_now_ms(), os.urandom(10))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
