"""Requests as boto3 makes them, caught before they leave; and then read as the gateway reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from gateway.s3.sigv4 import Auth, SigningKeys, verify
from gateway.s3.target import Target, collect_headers, parse_target
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, SECRET_KEY, secret_of


@dataclass(frozen=True)
class Sent:
    method: str
    target: Target
    headers: dict[str, str]
    body: bytes
    now: float

    def verify(self, *, now: float | None = None) -> Auth:
        return verify(
            self.method,
            self.target,
            self.headers,
            secret_of=secret_of,
            keys=SigningKeys(),
            now=self.now if now is None else now,
        )


def client(endpoint: str = "http://s3.example.test:9000", *, style: str = "path", region: str = "us-east-1") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}, retries={"total_max_attempts": 1}),
    )


def send(s3: Any, call: Callable[[Any], object]) -> Sent:
    """The request that `call(s3)` would put on the wire."""
    caught: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        caught.append(request)
        return AWSResponse(request.url, 200, {}, _Empty())

    s3.meta.events.register("before-send.s3", catch)
    call(s3)
    return _received(caught[0])


def presigned(s3: Any, operation: str, params: dict[str, object], *, expires: int = 900, method: str = "GET") -> Sent:
    url = s3.generate_presigned_url(operation, Params=params, ExpiresIn=expires)
    return received(method, url, {}, b"")


def received(method: str, url: str, headers: dict[str, str], body: bytes) -> Sent:
    parts = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()}
    lower.setdefault("host", parts.netloc)
    raw = parts.path + ("?" + parts.query if parts.query else "")
    target = parse_target(raw, lower["host"], "s3.example.test")
    date = lower.get("x-amz-date") or target.query.get("X-Amz-Date") or ""
    return Sent(method, target, lower, body, datetime.fromisoformat(date).timestamp())


def _received(request: AWSPreparedRequest) -> Sent:
    body = request.body
    raw = b"" if body is None else body if isinstance(body, bytes | bytearray) else body.read()
    pairs = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
    return received(request.method, request.url, collect_headers(pairs), bytes(raw))


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


class _Empty:
    """A response body without content, as botocore reads it."""

    def stream(self, **_: object) -> list[bytes]:
        return []

    def read(self, *_: object) -> bytes:
        return b""
