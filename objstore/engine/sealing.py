"""Encrypting bodies on their way to the blobs, and decrypting them on their way back: codec/sealing.py as streams.

The engine is handed an open `Sealing` by whoever has the keys; it keeps nothing of it but the record.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from objstore.codec import sealing as codec
from objstore.codec.sealing import CHUNK, INLINE, KEY, SALT, TAG, Unit, plain_size, sealed_range
from objstore.engine.exact import ExactReader
from objstore.engine.reading import BlobReader
from objstore.model.manifest import BlobRef
from objstore.model.sealed import Sealed
from objstore.ports import Buffer, Random

BATCH = 16 * CHUNK  # sealed or opened at once
THREAD_BYTES_MIN = 4 * CHUNK  # below this a thread costs more than the cipher itself

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sealing:
    """How an object is encrypted, and its data key."""

    record: Sealed
    data_key: bytes = field(repr=False)


Unseal: TypeAlias = Callable[[Sealed | None], Sealing | None]
"""From the record of an upload to its data key; raises what is to be answered when the key is not the right one."""


def new_sealing(kind: str, key_id: str, under: bytes, bucket: str, random: Random) -> Sealing:
    """For a new object: a fresh data key, wrapped under the key `under`."""
    data_key, salt = random.bytes(KEY), random.bytes(SALT)
    return Sealing(Sealed(kind, key_id, salt, codec.wrap(data_key, under, salt, bucket)), data_key)


def open_sealing(record: Sealed, under: bytes, bucket: str) -> Sealing | None:
    """None: it is the wrong key."""
    try:
        return Sealing(record, codec.unwrap(record, under, bucket))
    except codec.WrongKey:
        return None


def rewrapped(sealing: Sealing, key_id: str, under: bytes, bucket: str, random: Random) -> Sealed:
    """The record with the same data key under another key of the cluster: no byte of the body changes."""
    salt = random.bytes(SALT)
    return Sealed(sealing.record.kind, key_id, salt, codec.wrap(sealing.data_key, under, salt, bucket))


class SealedBody:
    """A body of `size` plain bytes, sealed as it is read; at its end `md5` is that of the plain bytes, if it was asked
    for (`hashed`)."""

    def __init__(self, body: AsyncIterator[Buffer], size: int, sealing: Sealing, unit: bytes, *, hashed: bool) -> None:
        self._plain = ExactReader(body)
        self._size = size
        self._unit = Unit(sealing.data_key, unit, size)
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._hashed = hashed

    async def chunks(self) -> AsyncIterator[Buffer]:
        for offset in range(0, self._size, BATCH):
            plain = await self._plain.read(min(BATCH, self._size - offset))
            yield await _off_loop(len(plain), self._seal, offset // CHUNK, plain)
        await self._plain.expect_end()

    def _seal(self, first: int, plain: Buffer) -> bytes:
        if self._hashed:
            self.md5.update(plain)
        return self._unit.seal(first, plain)


async def unsealed(
    reader: BlobReader, blobs: tuple[BlobRef, ...], sealing: Sealing, offset: int, length: int
) -> AsyncIterator[Buffer]:
    """Plain bytes [offset, offset + length) of sealed blobs, none before it is verified. Corrupt."""
    for blob in blobs:
        size = plain_size(blob.size)
        here = min(length, size - offset)
        if here <= 0:
            offset -= size
            continue
        unit = Unit(sealing.data_key, blob.id, size)
        first, start, count = sealed_range(size, offset, here)
        skip, left = offset - first * CHUNK, here
        stream = reader.read((blob,), start, count)
        source = ExactReader(stream)
        try:
            while count:
                batch = await source.read(min(count, BATCH // CHUNK * (CHUNK + TAG)))
                count -= len(batch)
                for piece in await _off_loop(len(batch), unit.open, first, batch):
                    shown = memoryview(piece)[skip : skip + left]
                    skip = 0
                    left -= len(shown)
                    yield shown
                first += BATCH // CHUNK
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        offset, length = 0, length - here


def unsealed_inline(data: bytes, size: int, sealing: Sealing) -> bytes:
    """The plain bytes of an inline body. Corrupt."""
    return b"".join(Unit(sealing.data_key, INLINE, size).open(0, data))


async def _off_loop(size: int, work: Callable[[int, Buffer], T], first: int, data: Buffer) -> T:
    if size < THREAD_BYTES_MIN:
        return work(first, data)
    return await asyncio.get_running_loop().run_in_executor(None, work, first, data)
