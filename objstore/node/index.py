"""The fragment index: rows of the key-value store that say which fragment lies in which extent.

    frag        fragment id                -> partition, extent, header length, creation time
    part        partition, fragment id     -> length: the fragments of a partition in order
    extent      volume, offset             -> length: what lives in the volumes, in the order of the medium
    quarantine  fragment id, time          -> the frag row, then the reason: kept for people to look at

Rows and ranges only; who writes them when is `objstore.node.fragments`. A quarantined fragment has no frag and
no part row, and keeps its extent row. One whose bytes the medium lost has no extent row either, and length 0 in its
quarantine row: its place may belong to another by now.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import xxhash

from objstore.model.errors import Corrupt
from objstore.node.volumes import Extent
from objstore.ports import KV, Scans, Write

FRAG = "frag"
PART = "part"
EXTENT = "extent"
QUARANTINE = "quarantine"
TABLES = (FRAG, PART, EXTENT, QUARANTINE)

FRAGMENT_BYTES = 21
_FORMAT = 1
_ROW = struct.Struct(">BHIQQIQ")  # format, partition, volume, offset, length, header length, created
_PLACE = struct.Struct(">IQ")
_NUMBER = struct.Struct(">Q")
_PARTITION = struct.Struct(">H")
PAGE = 1024  # rows read at a time


class Held(NamedTuple):
    """One stored envelope."""

    partition: int
    extent: Extent
    header_length: int
    created_ms: int


class Stray(NamedTuple):
    """A row of FRAG or QUARANTINE whose extent is lost."""

    table: str
    key: bytes
    row: bytes
    held: Held

    @property
    def fragment(self) -> bytes:
        return self.key[:FRAGMENT_BYTES]


def pack(held: Held) -> bytes:
    return _ROW.pack(_FORMAT, held.partition, *held.extent, held.header_length, held.created_ms)


def unpack(row: bytes) -> Held:
    if len(row) < _ROW.size or row[0] != _FORMAT:
        raise Corrupt(f"a row of the fragment index has format {row[:1].hex()}, which this release does not know")
    _, partition, volume, offset, length, header_length, created_ms = _ROW.unpack_from(row)
    return Held(partition, Extent(volume, offset, length), header_length, created_ms)


def partition_of(fragment: bytes, partitions: int) -> int:
    """The data partition of a fragment, as `placement.topology` counts it: all shards of a segment share one."""
    return xxhash.xxh3_64_intdigest(fragment[:20]) * partitions >> 64


def find(kv: KV, fragment: bytes) -> Held | None:
    row = kv.get(FRAG, fragment)
    return None if row is None else unpack(row)


def adding(fragment: bytes, held: Held) -> list[Write]:
    length = _NUMBER.pack(held.extent.length)
    return [
        (FRAG, fragment, pack(held)),
        (PART, _PARTITION.pack(held.partition) + fragment, length),
        (EXTENT, _PLACE.pack(held.extent.volume, held.extent.offset), length),
    ]


def removing(fragment: bytes, held: Held) -> list[Write]:
    return [*_forgetting(fragment, held), _freeing(held.extent)]


def quarantining(fragment: bytes, held: Held, reason: str, now_ms: int) -> list[Write]:
    row = pack(held) + reason.encode()[:1024]
    return [*_forgetting(fragment, held), (QUARANTINE, fragment + _NUMBER.pack(now_ms), row)]


def losing(stray: Stray, reason: str, now_ms: int) -> list[Write]:
    """Its extent is no more. To quarantine without it; what lay in quarantine stays there."""
    held = stray.held
    bare = held._replace(extent=held.extent._replace(length=0))
    if stray.table == FRAG:
        return [*quarantining(stray.key, bare, reason, now_ms), _freeing(held.extent)]
    return [(QUARANTINE, stray.key, pack(bare) + stray.row[_ROW.size :]), _freeing(held.extent)]


def purging(row_key: bytes, held: Held) -> list[Write]:
    return [(QUARANTINE, row_key, None), *([_freeing(held.extent)] if held.extent.length else [])]


def quarantined(kv: KV, fragment: bytes) -> list[tuple[bytes, Held, str]]:
    """(row key, what lies there, reason) of every quarantined copy of one fragment, oldest first."""
    rows = kv.scan(QUARANTINE, fragment, successor(fragment))
    return [(key, unpack(row), row[_ROW.size :].decode(errors="replace")) for key, row in rows]


def shards_of(kv: KV, blob: bytes, segment: int) -> list[int]:
    prefix = blob + segment.to_bytes(4, "big")
    return [key[20] for key, _ in kv.scan(FRAG, prefix, successor(prefix))]


def list_partition(kv: KV, partition: int, after: bytes, limit: int) -> tuple[list[bytes], list[int], bool]:
    """Fragments of a partition after one, with their lengths; and whether there are more."""
    prefix = _PARTITION.pack(partition)
    rows = kv.scan(PART, prefix + after + b"\x00" if after else prefix, successor(prefix), limit=limit + 1)
    page = rows[:limit]
    return [key[2:] for key, _ in page], [_NUMBER.unpack(value)[0] for _, value in page], len(rows) > limit


def extents(kv: KV) -> Iterator[Extent]:
    """Everything that lives in the volumes, in the order of the medium."""
    for key, value in rows_of(kv, EXTENT):
        volume, offset = _PLACE.unpack(key)
        yield Extent(volume, offset, _NUMBER.unpack(value)[0])


def strays(kv: KV, is_lost: Callable[[Extent], bool]) -> Iterator[Stray]:
    """Everything that lies, in quarantine too, where nothing is left. Looks at every fragment. May be changed while
    it runs."""
    for table in (QUARANTINE, FRAG):  # in this order: what is lost goes from FRAG to QUARANTINE
        for key, row in rows_of(kv, table):
            held = unpack(row)
            if held.extent.length and is_lost(held.extent):
                yield Stray(table, key, row, held)


def rows_of(
    kv: Scans, table: str, start: bytes = b"", end: bytes | None = None, *, page: int = PAGE
) -> Iterator[tuple[bytes, bytes]]:
    """A range in pages: each page is one moment, the whole is not."""
    while rows := kv.scan(table, start, end, limit=page):
        yield from rows
        if len(rows) < page:
            return
        start = rows[-1][0] + b"\x00"


def successor(prefix: bytes) -> bytes | None:
    """The first byte string after all that begin with `prefix`; None: there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def _forgetting(fragment: bytes, held: Held) -> list[Write]:
    return [(FRAG, fragment, None), (PART, _PARTITION.pack(held.partition) + fragment, None)]


def _freeing(extent: Extent) -> Write:
    return EXTENT, _PLACE.pack(extent.volume, extent.offset), None
