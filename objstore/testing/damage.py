"""Damages stored shards on purpose, behind the back of the node that has them, as a dying disk would."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from objstore.codec.envelope import HEADER_BYTES_MAX, MAGIC, EnvelopeHeader, decode_header
from objstore.model.errors import Corrupt, NotFound


class Place(NamedTuple):
    """Of an envelope."""

    node: str
    path: Path
    body: int  # offset of the first cell in the file
    header: EnvelopeHeader


def flip_bit(folders: Mapping[str, Path], bucket: str, key: str, segment: int, shard: int) -> str:
    """Flip one bit in the first cell of that shard of the newest version of the object.

    `folders`: data folder by node name. Returns the name of the node that had it. NotFound if no node has: small
    objects live in the metadata and have no shards."""
    wanted = [
        place
        for place in _envelopes(folders)
        if (place.header.bucket_name, place.header.key) == (bucket, key.encode())
        and (place.header.segment, place.header.shard) == (segment, shard)
    ]
    if not wanted:
        raise NotFound(f"no node stores shard {shard} of segment {segment} of {bucket}/{key}")
    newest = max(wanted, key=lambda place: place.header.blob)  # blob ids are UUIDv7: later ones are greater
    with newest.path.open("r+b") as file:
        file.seek(newest.body)
        byte = file.read(1)[0]
        file.seek(newest.body)
        file.write(bytes((byte ^ 1,)))
    return newest.node


def _envelopes(folders: Mapping[str, Path]) -> Iterator[Place]:
    for node, folder in folders.items():
        for path in sorted(folder.rglob("*.vol")):
            if path.stat().st_size:
                yield from envelopes_of(node, path)


def envelopes_of(node: str, path: Path) -> Iterator[Place]:
    """All in one volume file, those deleted moments ago among them."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as volume:
        at = volume.find(MAGIC)
        while at >= 0:
            try:
                header, length = decode_header(volume[at : at + HEADER_BYTES_MAX])
                yield Place(node, path, at + length, header)
            except Corrupt:
                length = len(MAGIC)  # those four bytes by chance, or an old, punched one
            at = volume.find(MAGIC, at + length)
