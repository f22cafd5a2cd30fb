"""What a bucket says of the encryption of new objects."""

from __future__ import annotations

import msgspec


class BucketEncryption(msgspec.Struct, frozen=True, array_like=True):
    algorithm: str = "AES256"  # for objects that come without saying anything; "": as they come
    bucket_key: bool = False  # kept to be shown again; without an effect
    client_keys: bool = True  # False: uploads with keys of the client are refused
