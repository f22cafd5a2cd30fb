"""The envelope: one shard of one segment, as it is stored and as it travels.

    header | sealed cell of stripe 0 | sealed cell of stripe 1 | ...
    header = "OBJF", version u16, reserved u16, header length u32, msgpack(EnvelopeHeader), xxh3_64 of all before
    sealed cell = cell, xxh3_64 of it seeded with (fragment id, stripe)

All integers are big endian. The header says where the shard belongs, so that an index lost can be rebuilt from the
fragments alone; the seed binds a cell to its place, so that a good cell in a wrong place never verifies. Nothing
here reads or writes files. Every damage is reported as Corrupt, with words that tell one kind from another.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
import xxhash
from msgspec import Meta

from objstore.codec.stripes import CHECKSUM, SegmentShape
from objstore.model.errors import Corrupt
from objstore.model.ids import BlobId
from objstore.model.manifest import FragmentId
from objstore.ports import Buffer

__all__ = [
    "CHECKSUM",
    "HEADER_BYTES_MAX",
    "MAGIC",
    "VERSION",
    "BodyVerifier",
    "EnvelopeHeader",
    "decode_header",
    "encode_header",
    "envelope_length",
    "fragment_of",
    "open_cell",
    "seal",
    "shape_of",
    "verify_body",
]

MAGIC = b"OBJF"
VERSION = 1
HEADER_BYTES_MAX = 64 * 1024  # key 1 KiB, object headers 8 KiB at the gateway; generous, yet bounds what is read
_PREFIX = struct.Struct(">4sHHI")  # magic, version, reserved (written 0, ignored when read), header length

_Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Positive = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class EnvelopeHeader(msgspec.Struct, frozen=True, array_like=True):
    """Fields may be added at the end with a default, never reordered."""

    cluster_id: str
    bucket: _Id  # BucketId
    bucket_name: str
    key: bytes
    blob: _Id  # BlobId
    blob_size: _Positive
    segment: Annotated[int, Meta(ge=0, lt=1 << 32)]
    shard: Annotated[int, Meta(ge=0, lt=256)]
    epoch: _Count  # of the view under which it was placed
    codec: str
    k: Annotated[int, Meta(ge=1, le=255)]
    m: Annotated[int, Meta(ge=0, le=255)]
    cell_size: _Positive
    segment_length: _Positive
    created_ms: _Count
    about: dict[str, str]  # object headers, upload id, part number: what a rebuilt index needs


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(EnvelopeHeader).decode


def encode_header(header: EnvelopeHeader) -> bytes:
    fields = _encode(header)
    length = _PREFIX.size + len(fields) + CHECKSUM
    assert length <= HEADER_BYTES_MAX
    raw = _PREFIX.pack(MAGIC, VERSION, 0, length) + fields
    return raw + xxhash.xxh3_64_digest(raw)


def decode_header(buffer: Buffer) -> tuple[EnvelopeHeader, int]:
    """The header at the start of `buffer`, and its length: the offset of the first cell. Raises Corrupt."""
    view = memoryview(buffer)
    if view.nbytes < _PREFIX.size:
        raise Corrupt(f"fragment header is cut short: {view.nbytes} bytes, its fixed part alone has {_PREFIX.size}")
    magic, version, _, length = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise Corrupt(f"not a fragment: it begins with {magic!r}, not with {MAGIC!r}")
    if version != VERSION:
        raise Corrupt(f"fragment format version {version} is not known to this release, which reads version {VERSION}")
    if not _PREFIX.size + CHECKSUM < length <= HEADER_BYTES_MAX:
        raise Corrupt(f"fragment header claims an impossible length of {length} bytes")
    if view.nbytes < length:
        raise Corrupt(f"fragment header is cut short: {view.nbytes} of {length} bytes")
    end = length - CHECKSUM
    if xxhash.xxh3_64_digest(view[:end]) != view[end:length]:
        raise Corrupt("fragment header does not match its checksum")
    try:
        header = _decode(view[_PREFIX.size : end])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"fragment header has a valid checksum but wrong fields: {error}") from error
    if header.shard >= header.k + header.m:
        raise Corrupt(f"fragment header has wrong fields: shard {header.shard} of a {header.k}+{header.m} code")
    if header.segment_length > header.blob_size:
        raise Corrupt("fragment header has wrong fields: its segment is longer than its blob")
    return header, length


def shape_of(header: EnvelopeHeader) -> SegmentShape:
    return SegmentShape(header.segment_length, header.k, header.m, header.cell_size)


def fragment_of(header: EnvelopeHeader) -> FragmentId:
    return FragmentId(BlobId(header.blob), header.segment, header.shard)


def envelope_length(header: EnvelopeHeader) -> int:
    """Bytes of the whole envelope."""
    return len(encode_header(header)) + shape_of(header).body_length(header.shard)


def seal(fragment: FragmentId, stripe: int, cell: Buffer) -> bytes:
    """The checksum to store right after the cell."""
    seed = xxhash.xxh3_64_intdigest(fragment.pack() + stripe.to_bytes(4, "big"))
    return xxhash.xxh3_64_digest(cell, seed)


def open_cell(fragment: FragmentId, stripe: int, sealed: Buffer) -> memoryview:
    """The verified cell, as a view without its checksum. Raises Corrupt.

    Says nothing of the cell's length: who knows the shape compares it (a shortened cell fails its checksum).
    """
    view = memoryview(sealed)
    if view.nbytes < CHECKSUM:
        raise Corrupt(f"{_place(fragment, stripe)} is cut short: {view.nbytes} bytes, less than its checksum")
    cell = view[:-CHECKSUM]
    if seal(fragment, stripe, cell) != view[-CHECKSUM:]:
        raise Corrupt(f"{_place(fragment, stripe)} does not match its checksum")
    return cell


class BodyVerifier:
    """Checks the sealed cells of one shard as they arrive, in order, whole cells at a time."""

    def __init__(self, header: EnvelopeHeader, first_stripe: int = 0) -> None:
        self._fragment = fragment_of(header)
        self._shape = shape_of(header)
        self._stripe = first_stripe

    def update(self, cells: Buffer) -> None:
        view = memoryview(cells)
        while view.nbytes:
            if self._stripe >= self._shape.stripes:
                raise Corrupt(f"{_name(self._fragment)} has {view.nbytes} bytes behind its last cell")
            length = self._shape.sealed_length(self._fragment.shard, self._stripe)
            if view.nbytes < length:
                place = _place(self._fragment, self._stripe)
                raise Corrupt(f"{place} is cut short: {view.nbytes} of {length} bytes")
            open_cell(self._fragment, self._stripe, view[:length])
            view = view[length:]
            self._stripe += 1

    def finish(self) -> None:
        """Raises Corrupt unless the last cell has been seen."""
        if self._stripe < self._shape.stripes:
            raise Corrupt(f"{_name(self._fragment)} ends after {self._stripe} of {self._shape.stripes} cells")


def verify_body(header: EnvelopeHeader, body: Buffer, first_stripe: int = 0) -> None:
    """Check that `body` is exactly the sealed cells from `first_stripe` to the last. Raises Corrupt."""
    verifier = BodyVerifier(header, first_stripe)
    verifier.update(body)
    verifier.finish()


def _name(fragment: FragmentId) -> str:
    return f"fragment {fragment.blob.hex()} segment {fragment.segment} shard {fragment.shard}"


def _place(fragment: FragmentId, stripe: int) -> str:
    return f"cell {stripe} of {_name(fragment)}"
