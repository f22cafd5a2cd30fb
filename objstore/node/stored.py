"""Checking an envelope where it lies: read in whole cells, compared with its checksums and with its name.

Blocking; run in an executor. What it reads may come from the page cache: that finds what was written wrongly or
rotted before it was cached, and the scrub comes back.
"""

from __future__ import annotations

from objstore.codec.envelope import CHECKSUM, BodyVerifier, EnvelopeHeader, decode_header, fragment_of, shape_of
from objstore.model import limits
from objstore.model.errors import Corrupt
from objstore.node.volumes import Extent
from objstore.ports import File

READ_BYTES = limits.MIB  # at a time, in whole cells


def check_stored(file: File, extent: Extent, header_length: int, fragment: bytes, cluster_id: str) -> None:
    """Raises Corrupt, or OSError when the medium does not even answer."""
    header, length = decode_header(file.pread(header_length, extent.offset))
    if header.cluster_id != cluster_id or fragment_of(header).pack() != fragment:
        raise Corrupt("another envelope lies in its place")
    if length != header_length or length + shape_of(header).body_length(header.shard) != extent.length:
        raise Corrupt("its length is not the one in the index")
    check_body(file, extent.offset + length, header)


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
