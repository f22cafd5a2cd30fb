"""The canonical form of a request, which is what Signature Version 4 signs, and the keys that sign it.

Its fields are those of "Authenticating Requests (AWS Signature Version 4)", in that order. As S3 does it, the path is
decoded and encoded once and never normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.s3.target import percent_encode

ALGORITHM = "AWS4-HMAC-SHA256"
_SPACE = re.compile("[ \t\r\n\v\f]+")  # not U+00A0 and its like: to HTTP they are letters


class Canonical(NamedTuple):
    method: str
    path: str  # encoded
    query: tuple[tuple[str, str], ...]  # decoded, in any order
    headers: Mapping[str, str]  # all that came; names in lower case
    signed: tuple[str, ...]  # names of those that count
    payload: str  # its hash, or what stands for it

    def text(self) -> str:
        """Method, path, query, signed headers, their names and the payload hash, each on its line."""
        query = canonical_query(self.query)
        lines = "".join([f"{name}:{_SPACE.sub(' ', self.headers.get(name, '')).strip(' ')}\n" for name in self.signed])
        return f"{self.method}\n{self.path}\n{query}\n{lines}\n{';'.join(self.signed)}\n{self.payload}"


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    encoded = sorted([(percent_encode(name), percent_encode(value)) for name, value in pairs])
    return "&".join([f"{name}={value}" for name, value in encoded])


def string_to_sign(date: str, scope: str, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{date}\n{scope}\n{digest}"


def signing_key(secret: str, date: str, region: str, service: str = "s3") -> bytes:
    key = ("AWS4" + secret).encode("utf-8", "surrogateescape")
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "surrogateescape"), "sha256")
    return key


def signed_by(key: bytes, text: str, signature: str) -> bool:
    """Whether `signature` (lower-case hex, or anything a client may send) is that of `text`; in constant time."""
    expected = hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))
