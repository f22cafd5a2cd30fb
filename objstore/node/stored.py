"""Checking an envelope where it lies: read in whole cells, compared with its checksums and with its name.

Blocking; run in an executor. What it reads may come from the page cache, unless `fresh` is asked for: then the range
is dropped from the cache before (`File.uncache`, which is advice), and after unless it was there, so that reading
everything once leaves in the cache what clients read, and nothing else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from objstore.codec.envelope import CHECKSUM, BodyVerifier, EnvelopeHeader, decode_header, fragment_of, shape_of
from objstore.model import limits
from objstore.model.errors import Corrupt
from objstore.node.volumes import Extent, padded
from objstore.ports import File

READ_BYTES = limits.MIB  # at a time, in whole cells

DamageKind = Literal["corrupt", "misplaced", "missing"]
"""corrupt: bytes that do not verify, or that the medium does not give; misplaced: a sound envelope, but another one
than the index says; missing: the volume is gone or cut, or there is a hole in the place."""


class Damage(NamedTuple):
    kind: DamageKind
    text: str


class How(NamedTuple):
    body: bool = True  # False: the header alone
    fresh: bool = False


AS_IT_IS = How()


def find_damage(
    file: File, extent: Extent, header_length: int, fragment: bytes, cluster_id: str, how: How
) -> Damage | None:
    """None: it is sound. OSError when the medium does not even answer."""
    if not how.fresh:
        return _find(file, extent, header_length, fragment, cluster_id, how.body)
    span_used = extent.length if how.body else header_length
    span = padded(span_used)
    was_cached = file.pread_cached(1, extent.offset + span_used - 1) is not None
    file.uncache(extent.offset, span)
    try:
        return _find(file, extent, header_length, fragment, cluster_id, how.body)
    finally:
        if not was_cached:
            file.uncache(extent.offset, span)


def _find(
    file: File, extent: Extent, header_length: int, fragment: bytes, cluster_id: str, body: bool
) -> Damage | None:
    if (size := file.size()) < extent.offset + extent.length:
        text = f"it is cut short on the disk: its volume ends at {size}, it at {extent.offset + extent.length}"
        return Damage("missing", text)
    raw = file.pread(header_length, extent.offset)
    if not any(raw):
        return Damage("missing", "there is a hole in its place")
    try:
        header, length = decode_header(raw)
        if header.cluster_id != cluster_id or fragment_of(header).pack() != fragment:
            return Damage("misplaced", "another envelope lies in its place")
        if length != header_length or length + shape_of(header).body_length(header.shard) != extent.length:
            return Damage("corrupt", "its length is not the one in the index")
        if body:
            check_body(file, extent.offset + length, header)
    except Corrupt as error:
        return Damage("corrupt", str(error))
    return None


def check_body(file: File, offset: int, header: EnvelopeHeader) -> None:
    """Verify the sealed cells that begin at `offset` of the file."""
    verifier = BodyVerifier(header)
    rest = shape_of(header).body_length(header.shard)
    sealed = header.cell_size + CHECKSUM  # every cell but the last has this size
    chunk = max(1, READ_BYTES // sealed) * sealed
    while rest:
        length = min(chunk, rest)
        verifier.update(file.pread(length, offset))
        offset += length
        rest -= length
    verifier.finish()
