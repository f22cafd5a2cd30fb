"""What the engine takes and gives: plain values, no behaviour. Sizes in bytes, times in Unix milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from objstore.model.ids import BucketId, NodeId
from objstore.model.manifest import BlobRef
from objstore.model.records import NO_LOCK, Lock
from objstore.model.sealed import Sealed


@dataclass(frozen=True, slots=True)
class WriteCondition:
    """Decided inside the register's change function, never before it.

    if_match: "*" (must exist) or one or more ETags without quotes, separated by ",".
    if_none_match: "*" (must not exist) or ETags that must not be the current one.
    if_size, if_modified_s: of the current object, if there is one; the time in whole seconds, as S3 shows it.
    """

    if_match: str | None = None
    if_none_match: str | None = None
    if_size: int | None = None
    if_modified_s: int | None = None


ALWAYS = WriteCondition()


@dataclass(frozen=True, slots=True)
class Reach:
    """Why what a gateway does would fail now, or "": reads, writes; `serve`: most of either."""

    read: str = ""
    write: str = ""
    serve: str = ""


@dataclass(frozen=True, slots=True)
class BucketInfo:
    name: str
    id: BucketId
    created_ms: int
    versioning: str = ""  # "Enabled" | "Suspended" | "": never was
    owner: str = ""
    config: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # see model/bucketconfig.py


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One version of an object, with what is needed to read it."""

    bucket: str
    key: str
    version_id: str  # as shown: 32 hex digits, or "null"
    size: int
    etag: str  # without quotes
    modified_ms: int
    headers: dict[str, str]  # lower case names
    parts: tuple[int, ...] = ()  # sizes of the parts of a multipart object, else ()
    blobs: tuple[BlobRef, ...] = field(default=(), repr=False)
    data: bytes = field(default=b"", repr=False)  # the body of an inline object
    tags: Mapping[str, str] = field(default_factory=dict)
    lock: Lock = NO_LOCK
    latest: bool = True  # the newest version of its key
    versioned: bool = False  # the bucket is or was versioned: answers name the version
    sealed: Sealed | None = None  # encrypted: `size` and `parts` are of the plain bytes, `blobs` and `data` are not
    part_checksums: bytes = field(default=b"", repr=False)  # digests of the parts one after the other, if known
    id: bytes = field(default=b"", repr=False)  # of the version, also of one that is shown as "null"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did. `version_id`: of the delete marker that it made (`marker`), or of the version that it took
    away for good; "" when there was nothing to do. `was_marker`: that version was itself a delete marker."""

    version_id: str = ""
    marker: bool = False
    was_marker: bool = False


@dataclass(frozen=True, slots=True)
class VersionEntry:
    key: str
    version_id: str
    latest: bool
    marker: bool
    size: int
    etag: str
    modified_ms: int
    extra: str = ""


@dataclass(frozen=True, slots=True)
class VersionPage:
    """`next_key`, `next_version`: where the following page goes on; "" for the latter after a common prefix."""

    entries: list[VersionEntry]
    prefixes: list[str]
    truncated: bool
    next_key: str = ""
    next_version: str = ""


class ObjectEntry(msgspec.Struct, frozen=True):
    """A struct of msgspec, as lists make a thousand of them."""

    key: str
    size: int
    etag: str
    modified_ms: int
    extra: str = ""


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """`next_after`: the `after` of the following page (a key, or a common prefix); "" when not truncated."""

    entries: list[ObjectEntry]
    prefixes: list[str]
    truncated: bool
    next_after: str


@dataclass(frozen=True, slots=True)
class PartInfo:
    number: int
    size: int
    etag: str
    modified_ms: int
    headers: dict[str, str]
    sealed: Sealed | None = None  # of the upload, in the answer to a write


@dataclass(frozen=True, slots=True)
class PartPage:
    headers: dict[str, str]  # of the upload
    parts: list[PartInfo]
    truncated: bool
    next_after: int
    sealed: Sealed | None = None  # of the upload


@dataclass(frozen=True, slots=True)
class UploadEntry:
    key: str
    upload_id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class UploadPage:
    uploads: list[UploadEntry]
    prefixes: list[str]
    truncated: bool
    next_key: str
    next_upload: str


class Placed(NamedTuple):
    """A shard to be made on a node."""

    shard: int
    target: NodeId


class Moved(NamedTuple):
    """A shard to be copied from node to node."""

    shard: int
    source: NodeId
    target: NodeId


class Trimmed(NamedTuple):
    """A second copy to be deleted: the one at home is the one that stays."""

    shard: int
    home: NodeId
    extra: NodeId
