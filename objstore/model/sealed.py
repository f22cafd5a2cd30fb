"""How an object is encrypted: the record of it, and the keys of the cluster that data keys are wrapped under."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

BY_CLUSTER = "S3"  # under a key of the cluster
BY_CLIENT = "C"  # under a key that the client brings with every request

_KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """Of one object, or of one multipart upload and all its parts. What the parts mean: codec/sealing.py."""

    kind: str  # BY_CLUSTER | BY_CLIENT
    key_id: str  # of the cluster's key; "" for a client's, which is not kept
    salt: bytes
    wrapped: bytes  # the data key


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The cluster's keys by id: `current` wraps new data keys, all of them open old ones."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


def parse_keys(text: str) -> KeyRing:
    """`id:base64` of 32 bytes each, separated by white space or commas; the first is the current one. ValueError."""
    keys: dict[str, bytes] = {}
    for entry in text.replace(",", " ").split():
        id, colon, value = entry.partition(":")
        try:
            key = base64.b64decode(value, validate=True)
        except binascii.Error:
            key = b""
        if not (_ID.fullmatch(id) and colon and len(key) == _KEY_BYTES) or id in keys:
            raise ValueError
        keys[id] = key
    if not keys:
        raise ValueError
    return KeyRing(next(iter(keys)), keys)


def show_key(id: str, key: bytes) -> str:
    """As `parse_keys` reads it."""
    return f"{id}:{base64.b64encode(key).decode()}"
