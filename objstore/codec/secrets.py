"""Secrets of access keys at rest: AES-256-GCM under a key derived from the secret of the cluster. Pure.

A sealed secret is bound to its access key and user, so that it opens nowhere else. Whoever reads the disks of nodes
learns none; whoever has the configuration of the cluster can.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE = 12
_INFO = b"objstore secrets of access keys 1"


def derive(cluster_secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=_INFO).derive(cluster_secret)


def seal(under: bytes, secret: str, about: str, nonce: bytes) -> bytes:
    """`nonce`: random, NONCE bytes."""
    return nonce + AESGCM(under).encrypt(nonce, secret.encode(), about.encode())


def unseal(under: bytes, sealed: bytes, about: str) -> str | None:
    """None: it was sealed under another key, or is of something else."""
    try:
        return AESGCM(under).decrypt(sealed[:NONCE], sealed[NONCE:], about.encode()).decode()
    except InvalidTag:
        return None
