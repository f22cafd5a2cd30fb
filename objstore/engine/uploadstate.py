"""Where a multipart upload and its parts are kept, and how an upload ends. Pure; shared by engine and repair."""

from __future__ import annotations

import msgspec

from objstore.model.ids import BucketId
from objstore.model.records import RegisterKey, Space, UploadState, part_name, upload_name

ENDED = ("completed", "aborted")


def upload_key(bucket: BucketId, key: bytes, upload: bytes) -> RegisterKey:
    return RegisterKey(bucket, Space.UPLOAD, upload_name(key, upload))


def part_key(bucket: BucketId, upload: bytes, number: int) -> RegisterKey:
    return RegisterKey(bucket, Space.PART, part_name(upload, number))


def ended_as(state: UploadState, becomes: str, now_ms: int) -> UploadState:
    """A completed one keeps the names of the blobs that were chosen: all others are garbage."""
    assert becomes in ENDED and state.status not in ENDED
    blobs = state.blobs if becomes == "completed" else ()
    return msgspec.structs.replace(state, status=becomes, blobs=blobs, ended_ms=now_ms)
