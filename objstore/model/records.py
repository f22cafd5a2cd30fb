"""What the registers hold: object keys, buckets, uploads, parts; and the short entry that a list shows.

Each register value has three parts (`Value`): `listing`, the entry for ordered scans (absent when the key is
not visible); `state`, the encoded `Register`; `data`, the inline bytes of a small object. Acceptors keep them
as opaque bytes. Spaces keep the kinds of registers of a bucket apart, each in byte order of its names.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

import msgspec

from objstore.model.ids import BucketId
from objstore.model.manifest import BlobRef
from objstore.model.notification import Event
from objstore.model.sealed import Sealed


class Space(IntEnum):
    OBJECT = 1  # name = object key
    UPLOAD = 2  # name = object key + NUL + upload id (16 bytes)
    PART = 3  # name = upload id (16 bytes) + part number (2 bytes, big endian)
    BUCKET = 4  # in the system bucket only; name = bucket name
    IDENTITY = 5  # in the system bucket only; name = kind of record + "/" + its name: see engine/identities.py


class RegisterKey(NamedTuple):
    """`shard_by` is hashed to choose the metadata shard; `name` orders the register within it."""

    bucket: BucketId
    space: Space
    name: bytes

    def pack(self) -> bytes:
        """bucket (16 bytes), space (1 byte), name: sorts by bucket, space, name."""
        return self.bucket + bytes((self.space,)) + self.name

    @classmethod
    def unpack(cls, raw: bytes) -> RegisterKey:
        return cls(BucketId(bytes(raw[:16])), Space(raw[16]), bytes(raw[17:]))


def upload_name(key: bytes, upload_id: bytes) -> bytes:
    """Uploads of one key follow each other by creation time (upload ids are UUIDv7).

    NUL cannot be told from a key's own NUL bytes by looking from the left; from the right it can: the id
    has 16 bytes. Keys that contain NUL sort slightly out of place among uploads, and nowhere else.
    """
    return key + b"\x00" + upload_id


def split_upload_name(name: bytes) -> tuple[bytes, bytes]:
    return name[:-17], name[-16:]


def part_name(upload_id: bytes, number: int) -> bytes:
    return upload_id + number.to_bytes(2, "big")


class Value(NamedTuple):
    """The value of a register, as acceptors keep it. `state == b""` means: never written."""

    listing: bytes  # b"" = not visible in scans
    state: bytes
    data: bytes


ABSENT = Value(b"", b"", b"")


class OpRecord(msgspec.Struct, frozen=True, array_like=True):
    """A retry of the same operation finds its result here instead of applying twice."""

    op: bytes  # OpId
    ballot_time: int  # of the round that applied it
    result: bytes  # msgpack of the operation's result


class Register(msgspec.Struct, frozen=True, array_like=True):
    """Encoded into Value.state. `body` is the msgpack of one of the records below, or b"" (tombstone)."""

    body: bytes
    ops: tuple[OpRecord, ...] = ()
    ops_floor: int = 0  # highest ballot time among operations no longer in `ops`
    ids_floor: int = 0  # (ballot time) operations with ids born up to here are refused: what they name was given up


class Lock(msgspec.Struct, frozen=True, array_like=True):
    """What keeps a version from being deleted: until a time, or for as long as a hold is on it."""

    mode: str = ""  # "GOVERNANCE" | "COMPLIANCE" | "": no retention
    until_ms: int = 0
    hold: bool = False
    released: bool = False  # a hold was taken off, or denied: that is shown, unlike one of which nothing was said


NO_LOCK = Lock()


class Borrowed(msgspec.Struct, frozen=True, array_like=True):
    """A run of blobs of a version, and the key under which they were stored; b"": the version's own."""

    home: bytes
    blobs: int


class ObjectVersion(msgspec.Struct, frozen=True, array_like=True):
    version_id: bytes  # UUIDv7
    size: int
    etag: str  # as shown, without quotes
    modified_ms: int
    headers: dict[str, str]  # lower case: content-type, cache-control, x-amz-meta-*, x-amz-checksum-*, ...
    blobs: tuple[BlobRef, ...]  # () = the bytes are in Value.data
    parts: tuple[int, ...] = ()  # sizes of the parts of a multipart object, else ()
    upload_id: bytes = b""  # the multipart upload that made it: Complete answers a repeat from this
    null: bool = True  # written while the bucket was not versioned: shown as version "null"; a key has at most one
    marker: bool = False  # a delete marker: no bytes, and as the newest version it hides the key
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    lock: Lock = NO_LOCK
    inline: int = 0  # bytes of an inline body as they are kept, where that is not `size`
    sealed: Sealed | None = None  # encrypted; sizes here are of the plain bytes, those of blobs of the sealed ones
    part_checksums: bytes = b""  # digests of the parts one after the other, of the algorithm of `headers`; or b""
    borrowed: tuple[Borrowed, ...] = ()  # of all its blobs, once it was renamed; (): they are its own


class Retired(msgspec.Struct, frozen=True, array_like=True):
    """A blob that this register no longer refers to: positive proof that its fragments are garbage."""

    blob: BlobRef
    at_ms: int


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """A completion of a multipart upload that may make the object of this key, or has made it."""

    id: bytes  # UUIDv7, also the id of the operation that commits it
    upload: bytes
    made: bool = False


class Lent(msgspec.Struct, frozen=True, array_like=True):
    """Blobs that were stored under this key and that a version of another key may name, by a rename."""

    id: bytes  # UUIDv7 of the rename
    to: bytes  # the other key
    blobs: tuple[BlobRef, ...]
    made: bool = False  # the rename was made: it cannot be made again


class Leaving(msgspec.Struct, frozen=True, array_like=True):
    """The version of this key that a rename takes away, as soon as it is there under the other key."""

    id: bytes
    to: bytes
    version: bytes  # its version_id
    events: tuple[Event, ...] = ()  # of its removal
    migration: bytes = b""  # as `KeyState.gone`, once nothing is left


class Arrived(msgspec.Struct, frozen=True, array_like=True):
    """A rename that was made here, and whose source has still to let go."""

    id: bytes
    source: bytes


class Moves(msgspec.Struct, frozen=True, array_like=True):
    """Renames from and to a key: see engine/movestate.py."""

    lent: tuple[Lent, ...] = ()
    leaving: Leaving | None = None
    arrived: tuple[Arrived, ...] = ()


NO_MOVES = Moves()


class KeyState(msgspec.Struct, frozen=True, array_like=True):
    """An object key: versions newest first, and what may be collected. The inline bodies of all versions follow each
    other in the register's data, in the order of the versions.

    What `attempts` are for is said in engine/keystate.py."""

    versions: tuple[ObjectVersion, ...] = ()
    retired: tuple[Retired, ...] = ()
    attempts: tuple[Attempt, ...] = ()  # completions of uploads that are not settled yet
    events: tuple[Event, ...] = ()  # writes of which somebody has still to be told, oldest first
    gone: bytes = b""  # id of the migration during which all versions were deleted: its origin is not asked
    moves: Moves | None = None  # None: none


class BucketState(msgspec.Struct, frozen=True, array_like=True):
    """A bucket name: the bucket that has it now, and those that had it."""

    id: BucketId  # b"": none has it now
    created_ms: int
    shards: int
    deleting: bytes = b""  # token of a DeleteBucket that is looking whether it is empty; see engine/buckets.py
    ended: tuple[BucketId, ...] = ()  # deleted buckets of this name that still have something to be collected
    versioning: str = ""  # "Enabled" | "Suspended" | "": never was
    owner: str = ""  # who made it; "": the cluster's own keys
    config: dict[str, bytes] = msgspec.field(default_factory=dict)  # by name: see model/bucketconfig.py


class UploadState(msgspec.Struct, frozen=True, array_like=True):
    """open -> completing (an attempt has fixed its parts) -> completed; or aborted, from either.

    completing -> completing with another attempt and other parts, once the attempt before is given up."""

    key: bytes
    created_ms: int
    headers: dict[str, str]
    status: str = "open"  # open | completing | completed | aborted
    blobs: tuple[BlobRef, ...] = ()  # the chosen parts, once completing
    parts: tuple[int, ...] = ()
    etag: str = ""
    attempt: bytes = b""  # UUIDv7: the operation id under which the object is committed
    ended_ms: int = 0
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    lock: Lock = NO_LOCK
    sealed: Sealed | None = None  # of all its parts
    part_checksums: bytes = b""  # as of the object; once completing


class PartState(msgspec.Struct, frozen=True, array_like=True):
    number: int
    size: int
    etag: str
    modified_ms: int
    headers: dict[str, str]  # checksums
    blobs: tuple[BlobRef, ...]
    retired: tuple[Retired, ...] = ()  # collected only once the upload has ended
    key: bytes = b""  # of the object: the register of the upload is found by it


class ListEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a list shows of a visible key; small, kept apart from the state."""

    size: int
    etag: str
    modified_ms: int
    extra: str = ""  # checksum algorithm of an object; unused elsewhere
    version: bytes = b""  # id of the newest version; b"": it is "null", or this is no object
    hidden: bool = False  # the newest version is a delete marker: only a list of versions shows it
    versions: int = 1  # how many the key has; 0: it is `KeyState.gone`, and `version` is that


T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[object]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Register, KeyState, BucketState, UploadState, PartState, ListEntry)
}
_entries_decoder = msgspec.msgpack.Decoder(list[ListEntry])


def encode(record: msgspec.Struct) -> bytes:
    return _encoder.encode(record)


def decode(raw: bytes, kind: type[T]) -> T:
    """The inverse of `encode`; raises msgspec.DecodeError on bytes that are not of that kind."""
    return _decoders[kind].decode(raw)  # type: ignore[return-value]


def decode_entries(raws: Sequence[bytes]) -> list[ListEntry]:
    """`decode` of many ListEntry in one step; each of `raws` is exactly one."""
    return _entries_decoder.decode(b"".join((b"\xdd", len(raws).to_bytes(4, "big"), *raws)))  # a MessagePack array 32
