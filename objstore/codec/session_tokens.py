"""Tokens of temporary credentials: a session, sealed (AES-256-GCM) under a key derived from the secret of the cluster.

Pure. Every gateway can open every token, and nobody else can make or read one; nothing of a session is stored. A token
is bound to its access key id, so that it opens with no other.
"""

from __future__ import annotations

import base64
import binascii
import hmac

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from objstore.model.identity import Session
from objstore.model.records import encode

NONCE = 12
TEXT_MAX = 8192  # a longer one is none of ours, and is not looked at
PROOF = 16
_FORMAT = b"\x01"
_INFO = b"objstore session tokens 1"
_PROOF_INFO = b"objstore proof of a parent 1 "


def derive(cluster_secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=_INFO).derive(cluster_secret)


def seal(under: bytes, session: Session, nonce: bytes) -> str:
    """`nonce`: random, NONCE bytes."""
    sealed = AESGCM(under).encrypt(nonce, encode(session), _FORMAT + session.access_key.encode())
    return base64.b64encode(_FORMAT + nonce + sealed).decode()


def unseal(under: bytes, access_key: str, token: str) -> Session | None:
    """None: it was not sealed here, was changed, or is of another access key."""
    if len(token) > TEXT_MAX:
        return None
    try:
        raw = base64.b64decode(token, validate=True)
        if raw[:1] != _FORMAT or len(raw) <= 1 + NONCE:
            return None
        plain = AESGCM(under).decrypt(raw[1 : 1 + NONCE], raw[1 + NONCE :], _FORMAT + access_key.encode())
        return msgspec.msgpack.decode(plain, type=Session)
    except (ValueError, binascii.Error, InvalidTag, msgspec.DecodeError):
        return None


def proof_of(under: bytes, access_key: str, secret: str) -> bytes:
    """What a session keeps of the key behind it: it tells whether that key has the same secret, and nothing else."""
    return hmac.digest(under, _PROOF_INFO + f"{access_key}\n{secret}".encode(), "sha256")[:PROOF]
