"""A raw HTTP client that signs: for what S3 libraries never send or never show.

The signing here is written from the AWS documents and shares nothing with `gateway.s3.sigv4`.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from urllib.parse import urlsplit

REGION = "us-east-1"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True  # False: the connection ended before the announced length

    @property
    def code(self) -> str:
        """The S3 error code in the body, or ""."""
        return self.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


@dataclass
class Signature:
    """What chunk signatures continue from."""

    date: str
    scope: str
    key: bytes = field(repr=False)
    last: str

    def sign(self, *lines: str) -> str:
        self.last = _hmac(self.key, "\n".join(lines)).hex()
        return self.last

    def chunk(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        algorithm = "AWS4-HMAC-SHA256-PAYLOAD"
        signature = self.sign(algorithm, self.date, self.scope, self.last, EMPTY_SHA256, digest)
        return f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + b"\r\n"

    def trailer(self, name: str, value: str) -> bytes:
        digest = hashlib.sha256(f"{name}:{value}\n".encode()).hexdigest()
        signature = self.sign("AWS4-HMAC-SHA256-TRAILER", self.date, self.scope, self.last, digest)
        return f"{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()


class Wire:
    def __init__(self, host: str, port: int, access_key: str, secret_key: str) -> None:
        self.host, self.access_key, self._secret = f"{host}:{port}", access_key, secret_key
        self._socket = socket.create_connection((host, port), timeout=20)
        self._buffer = b""

    @classmethod
    def to(cls, url: str, access_key: str, secret_key: str) -> Wire:
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(parts.hostname, parts.port or 80, access_key, secret_key)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # --- sending

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def head(
        self, method: str, path: str, headers: dict[str, str], payload_hash: str = EMPTY_SHA256
    ) -> tuple[bytes, Signature]:
        """A signed request head. `path` is sent as it is; every header given is signed."""
        date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {"host": self.host, "x-amz-content-sha256": payload_hash, "x-amz-date": date}
        signed.update((name.lower(), value) for name, value in headers.items())
        names = ";".join(sorted(signed))
        plain, _, query = path.partition("?")
        canonical_query = "&".join(sorted(part if "=" in part else part + "=" for part in query.split("&") if part))
        lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
        canonical = "\n".join([method, plain, canonical_query, *lines, "", names, payload_hash])
        scope = f"{date[:8]}/{REGION}/s3/aws4_request"
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        signature = Signature(date, scope, key, "")
        signature.sign("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest())
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope},SignedHeaders={names},Signature={signature.last}"
        )
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in signed.items()) + "\r\n"
        return text.encode(), signature

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One signed request with its payload hash; keyword x_amz_meta_a becomes the header x-amz-meta-a."""
        chosen = {name.replace("_", "-"): value for name, value in headers.items()}
        if body or method in ("PUT", "POST"):
            chosen.setdefault("content-length", str(len(body)))
        head, _ = self.head(method, path, chosen, hashlib.sha256(body).hexdigest())
        self.send(head + body)
        return self.answer(method)

    # --- receiving

    def answer(self, method: str = "GET") -> Answer:
        """The next response. Raises ConnectionError when there is none."""
        status_line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers = {n.lower(): v.strip(" \t") for n, _, v in (line.partition(":") for line in lines if line)}
        if method == "HEAD" or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self._chunks()))
        length = int(headers["content-length"])
        while len(self._buffer) < length and self._more():
            pass
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(status, headers, body, len(body) == length)

    def wait_for(self, mark: bytes) -> None:
        """Until `mark` has arrived; nothing is taken."""
        while mark not in self._buffer:
            if not self._more():
                raise ConnectionError(f"the connection ended before {mark!r}")

    def is_closed(self) -> bool:
        """Waits for the end of the connection; False when bytes come instead."""
        return not self._buffer and not self._more()

    def _chunks(self) -> Iterable[bytes]:
        while True:
            size = int(self._until(b"\r\n").strip(), 16)
            while len(self._buffer) < size + 2 and self._more():
                pass
            data, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
            if not size:
                return
            yield data

    def _until(self, mark: bytes) -> bytes:
        self.wait_for(mark)
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
