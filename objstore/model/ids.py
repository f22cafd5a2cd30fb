"""Identifiers: what they look like and how they are made (from given time and random bytes)."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", str)  # 16 hex digits, made once per data folder; a lost disk means a new one
BlobId = NewType("BlobId", bytes)  # 16 bytes, UUIDv7: one immutable run of bytes (an object body or a part)
BucketId = NewType("BucketId", bytes)  # 16 bytes, UUIDv7: a re-created bucket is another one
OpId = NewType("OpId", bytes)  # 16 random bytes: one client operation, the same over all its retries

SYSTEM_BUCKET = BucketId(bytes(16))  # holds one register per bucket name


def uuid7(now_ms: int, random_bytes: bytes) -> bytes:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random. `random_bytes`: 10 bytes."""
    assert len(random_bytes) == 10 and 0 <= now_ms < 1 << 48
    raw = bytearray(now_ms.to_bytes(6, "big") + random_bytes)
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)


def uuid7_ms(value: bytes) -> int:
    """The Unix milliseconds inside a UUIDv7."""
    return int.from_bytes(value[:6], "big")
