"""What objects of a bench consist of: bytes that do not compress, different in each, known without keeping them.

An object is its own name's hash followed by one pattern of the run, so that a mixed-up, cut or damaged answer has
another digest than the object that was asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import xxhash

PATTERN_BYTES = 4 << 20
WRITE_BYTES = 1 << 20  # given to the connection at a time
_OWN_BYTES = 16


class Content:
    """Of all objects of one run. `seed`: equal in all its processes."""

    def __init__(self, seed: int) -> None:
        self._pattern = memoryview(random.Random(seed).randbytes(PATTERN_BYTES))

    def pieces(self, key: str, size: int, *, step: int = WRITE_BYTES) -> Iterator[memoryview]:
        own = memoryview(xxhash.xxh3_128_digest(key.encode()))[:size]
        yield own
        at = len(own)
        while at < size:
            place = at % PATTERN_BYTES
            piece = self._pattern[place : min(place + step, place + size - at, PATTERN_BYTES)]
            yield piece
            at += len(piece)

    def digest(self, key: str, size: int) -> bytes:
        """16 bytes: XXH3-128 of the object."""
        found = xxhash.xxh3_128()
        for piece in self.pieces(key, size, step=PATTERN_BYTES):
            found.update(piece)
        return found.digest()
