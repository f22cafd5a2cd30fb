"""Rebuilds the fragment index from the volumes alone, when the key-value store was lost (P9).

Envelopes begin on block borders, name themselves and carry checksums of every byte, so a scan finds each whole one
and steps over holes, torn writes and rot. What it cannot know: which fragments had been deleted without their space
being punched yet (garbage collection asks about those again) and what lay in quarantine (it does not verify, or is
found sound). Registers are not rebuilt: an acceptor that forgot must not answer under its old name, which is why
`objstore.node.identity` gives the node a new one; `objstore.node.lost` reads the journal of the old one.

Interrupted, it simply starts over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from objstore.codec.envelope import HEADER_BYTES_MAX, MAGIC, EnvelopeHeader, decode_header, fragment_of, shape_of
from objstore.model import limits
from objstore.model.errors import Corrupt, Fatal
from objstore.node import index
from objstore.node.index import Held
from objstore.node.stored import check_body
from objstore.node.volumes import BLOCK, FOLDER, Extent, padded, volume_numbers, volume_path
from objstore.ports import KV, Disk, File, Write

logger = logging.getLogger(__name__)

_READ = limits.MIB
_BATCH = 256

assert HEADER_BYTES_MAX < _READ and _READ % BLOCK == 0


@dataclass(slots=True)
class Rebuilt:
    volumes: int = 0
    fragments: int = 0
    bytes: int = 0
    damaged: int = 0  # places that begin like an envelope and do not verify


def rebuild_index(disk: Disk, kv: KV, cluster_id: str, partitions: int) -> Rebuilt:
    """Blocking. Fatal when the volumes belong to another cluster."""
    result = Rebuilt()
    if not disk.exists(FOLDER):
        return result
    batch: dict[bytes, Held] = {}
    for number in volume_numbers(disk):
        result.volumes += 1
        file = disk.open(volume_path(number))
        for held, header in _envelopes(file, number, result):
            if header.cluster_id != cluster_id:
                raise Fatal(
                    f"The volumes in this data folder belong to cluster {header.cluster_id}, not to {cluster_id}; "
                    "give the node another folder."
                )
            fragment = fragment_of(header).pack()
            batch[fragment] = held._replace(partition=index.partition_of(fragment, partitions))
            if len(batch) == _BATCH:
                _store(kv, batch, result)
        file.close()
        logger.info("Volume %d is scanned; %d fragments found so far", number, result.fragments + len(batch))
    _store(kv, batch, result)
    return result


def _store(kv: KV, batch: dict[bytes, Held], result: Rebuilt) -> None:
    writes: list[Write] = []
    for fragment, held in batch.items():
        older = index.find(kv, fragment)  # the later copy wins: it replaced the other
        if older is not None:
            writes += index.removing(fragment, older)
        else:
            result.fragments += 1
            result.bytes += held.extent.length
        writes += index.adding(fragment, held)
    if writes:
        kv.commit(writes)
    batch.clear()


def _envelopes(file: File, number: int, result: Rebuilt) -> Iterator[tuple[Held, EnvelopeHeader]]:
    """Every whole envelope of a volume, in order."""
    size = file.size()
    offset = 0
    while (start := _next_magic(file, offset, size)) is not None:
        try:
            header, header_length = decode_header(file.pread(HEADER_BYTES_MAX, start))
            length = header_length + shape_of(header).body_length(header.shard)
            if start + length > size:
                raise Corrupt("it goes beyond the end of the volume")
            check_body(file, start + header_length, header)
        except Corrupt as error:
            result.damaged += 1
            logger.warning("Volume %d at %d: %s; skipped", number, start, error)
            offset = start + BLOCK
            continue
        yield Held(0, Extent(number, start, length), header_length, header.created_ms), header
        offset = start + padded(length)


def _next_magic(file: File, offset: int, size: int) -> int | None:
    """The first block at or after `offset` that begins like an envelope."""
    while offset < size:
        chunk = file.pread(_READ, offset)
        for at in range(0, len(chunk), BLOCK):
            if chunk.startswith(MAGIC, at):
                return offset + at
        offset += _READ
    return None
