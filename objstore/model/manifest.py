"""Blobs and manifests: which immutable bytes make up an object, and how they are cut.

A blob is one run of bytes under one id (an object body, or one part of a multipart upload). It is cut into
segments of at most `segment_size`; each segment is erasure coded by itself into k+m shards. Everything here
is arithmetic: the layout of a blob follows from the few numbers of its BlobRef.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from objstore.model.ids import BlobId


class BlobRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one run of bytes is. Immutable once committed."""

    id: BlobId
    size: int  # bytes, > 0
    codec: str  # "zfec" | "isal"
    k: int
    m: int
    cell_size: int
    segment_size: int
    absent: tuple[tuple[int, int], ...] = ()  # repair debt at commit: (segment, shard) not yet durable

    @property
    def segments(self) -> int:
        return -(-self.size // self.segment_size)

    def segment_length(self, segment: int) -> int:
        assert 0 <= segment < self.segments
        return min(self.segment_size, self.size - segment * self.segment_size)


class FragmentId(NamedTuple):
    """One shard of one segment. `pack` sorts by blob, then segment, then shard."""

    blob: BlobId
    segment: int
    shard: int

    def pack(self) -> bytes:
        return self.blob + self.segment.to_bytes(4, "big") + self.shard.to_bytes(1, "big")

    @classmethod
    def unpack(cls, raw: bytes) -> FragmentId:
        assert len(raw) == 21
        return cls(BlobId(bytes(raw[:16])), int.from_bytes(raw[16:20], "big"), raw[20])


class SegmentRange(NamedTuple):
    blob: BlobRef
    segment: int
    offset: int  # within the segment
    length: int


def segment_ranges(blobs: tuple[BlobRef, ...], offset: int, length: int) -> Iterator[SegmentRange]:
    """The pieces of segments that hold bytes [offset, offset+length) of the concatenated blobs, in order."""
    for blob in blobs:
        if length <= 0:
            return
        if offset >= blob.size:
            offset -= blob.size
            continue
        while length > 0 and offset < blob.size:
            segment, inner = divmod(offset, blob.segment_size)
            take = min(length, blob.segment_length(segment) - inner)
            yield SegmentRange(blob, segment, inner, take)
            offset += take
            length -= take
        offset = 0
