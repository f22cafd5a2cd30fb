"""A signer of requests and chunked bodies, from the documentation of AWS; it shares no code with the gateway."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DATE = "20130524T000000Z"
NOW = 1369353600.0  # the same
EMPTY = hashlib.sha256(b"").hexdigest()


def secret_of(access_key: str) -> str | None:
    return SECRET_KEY if access_key == ACCESS_KEY else None


@dataclass(frozen=True)
class Signer:
    secret: str = SECRET_KEY
    region: str = "us-east-1"
    date: str = DATE

    @property
    def scope(self) -> str:
        return f"{self.date[:8]}/{self.region}/s3/aws4_request"

    @property
    def key(self) -> bytes:
        key = b"AWS4" + self.secret.encode()
        for part in self.scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key

    def sign(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()

    def signature(
        self, method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], payload: str
    ) -> str:
        """All of `headers` are signed; `path` is already encoded."""
        names = sorted(headers)
        canonical = "\n".join(
            [
                method,
                path,
                "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query)),
                *(f"{name}:{headers[name].strip()}" for name in names),
                "",
                ";".join(names),
                payload,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return self.sign(f"AWS4-HMAC-SHA256\n{self.date}\n{self.scope}\n{digest}")

    def authorization(self, method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str]) -> str:
        signature = self.signature(method, path, query, headers, headers["x-amz-content-sha256"])
        return (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{self.scope}, "
            f"SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
        )

    def chunk_signature(self, previous: str, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        return self.sign(f"AWS4-HMAC-SHA256-PAYLOAD\n{self.date}\n{self.scope}\n{previous}\n{EMPTY}\n{digest}")

    def trailer_signature(self, previous: str, trailers: dict[str, str]) -> str:
        text = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.sign(f"AWS4-HMAC-SHA256-TRAILER\n{self.date}\n{self.scope}\n{previous}\n{digest}")

    def signed_body(self, seed: str, chunks: Sequence[bytes], trailers: dict[str, str] | None = None) -> bytes:
        """The last chunk, of no bytes, is added. trailers None: the mode without them."""
        body = b""
        previous = seed
        for chunk in (*chunks, b""):
            previous = self.chunk_signature(previous, chunk)
            body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
        if trailers is not None:
            for name, value in trailers.items():
                body += f"{name}:{value}\r\n".encode()
            body += f"x-amz-trailer-signature:{self.trailer_signature(previous, trailers)}\r\n".encode()
        return body + b"\r\n"


def unsigned_body(chunks: Sequence[bytes], trailers: dict[str, str]) -> bytes:
    body = b"".join(f"{len(chunk):X}\r\n".encode() + chunk + b"\r\n" for chunk in chunks) + b"0\r\n"
    return body + b"".join(f"{name}:{value}\r\n".encode() for name, value in trailers.items()) + b"\r\n"
