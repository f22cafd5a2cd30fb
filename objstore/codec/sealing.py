"""Encryption at rest: data keys under wrapping keys, and bodies as chunks of AES-256-GCM. Pure.

Every object has a random *data key*. It is kept wrapped: sealed under a key that is derived from a key of the cluster
(SSE-S3) or of the client (SSE-C) and a random salt, and bound to the bucket. A wrong key is recognised because the
wrapped key does not open.

A body lies in *units*: the inline body, or one blob each. A unit has a key of its own, derived from the data key and
the unit's identity, and consists of chunks: CHUNK bytes of the body (the last may have less) and a tag. The nonce is
the chunk's number, and the last chunk is marked, so that a chunk opens only where it belongs: what is cut short, in
another order, or from another unit or object does not verify (INV-19). Nothing is ever sealed twice under one key and
nonce: a blob is written once, and a data key seals at most one inline body.

What the units of an object are, and in which order, is said by its register, not here.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from objstore.model.errors import Corrupt
from objstore.model.sealed import Sealed
from objstore.ports import Buffer

CHUNK = 64 * 1024
TAG = 16
KEY = 32
SALT = 16
INLINE = b"inline"  # the unit of an inline body; the others are named by their blob ids
_WRAPPING = b"objstore data key 1"
_UNIT = b"objstore unit 1"
_NONCE = 12


class WrongKey(Exception):
    """The wrapped key does not open under this one."""


def wrap(data_key: bytes, under: bytes, salt: bytes, bucket: str) -> bytes:
    return AESGCM(_derived(under, _WRAPPING + salt)).encrypt(bytes(_NONCE), data_key, bucket.encode())


def unwrap(sealed: Sealed, under: bytes, bucket: str) -> bytes:
    """The data key. WrongKey."""
    try:
        return AESGCM(_derived(under, _WRAPPING + sealed.salt)).decrypt(bytes(_NONCE), sealed.wrapped, bucket.encode())
    except InvalidTag:
        raise WrongKey from None


def sealed_size(size: int) -> int:
    """Bytes that `size` bytes take sealed. None stay none."""
    return size + TAG * _chunks(size, CHUNK)


def plain_size(size: int) -> int:
    """The inverse of `sealed_size`."""
    return size - TAG * _chunks(size, CHUNK + TAG)


def sealed_range(size: int, offset: int, length: int) -> tuple[int, int, int]:
    """Of a unit of `size` plain bytes: (first chunk, offset, length) of the sealed bytes that hold a range of it."""
    first, last = offset // CHUNK, (offset + length - 1) // CHUNK
    start = first * (CHUNK + TAG)
    stop = min((last + 1) * (CHUNK + TAG), sealed_size(size))
    return first, start, stop - start


class Unit:
    """Seals and opens the chunks of one unit of `size` plain bytes."""

    def __init__(self, data_key: bytes, name: bytes, size: int) -> None:
        self._aead = AESGCM(_derived(data_key, _UNIT + name))
        self._last = _chunks(size, CHUNK) - 1

    def seal(self, first: int, plain: Buffer) -> bytes:
        """Whole chunks from number `first` on."""
        view = memoryview(plain)
        pieces = (view[at : at + CHUNK] for at in range(0, len(view), CHUNK))
        return b"".join(
            self._aead.encrypt(self._nonce(number), piece, self._mark(number))
            for number, piece in enumerate(pieces, first)
        )

    def open(self, first: int, sealed: Buffer) -> Sequence[bytes]:
        """The plain bytes of whole chunks from number `first` on. Corrupt: one of them is not what was sealed."""
        view = memoryview(sealed)
        pieces = (view[at : at + CHUNK + TAG] for at in range(0, len(view), CHUNK + TAG))
        try:
            return [
                self._aead.decrypt(self._nonce(number), piece, self._mark(number))
                for number, piece in enumerate(pieces, first)
            ]
        except InvalidTag:
            raise Corrupt("an encrypted body does not verify: its bytes are not those that were sealed") from None

    def _nonce(self, number: int) -> bytes:
        return number.to_bytes(_NONCE, "big")

    def _mark(self, number: int) -> bytes:
        return b"last" if number == self._last else b"more"


def _chunks(size: int, each: int) -> int:
    return -(-size // each)


def _derived(key: bytes, about: bytes) -> bytes:
    return hmac.digest(key, about, "sha256")
