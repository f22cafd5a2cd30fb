"""One request on its way through the gateway: what is known of it, and what has become of it so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateway.handlers.access import Access
from gateway.port import Engine
from gateway.s3.operations import Operation
from gateway.s3.sigv4 import Auth
from gateway.s3.target import Target
from gateway.settings import GatewaySettings


@dataclass(slots=True)
class Trace:
    """What error handling and the access log need; filled in as the request proceeds."""

    request_id: str  # 16 hex digits, upper case
    started: float  # monotonic seconds
    is_last: Callable[[], bool]  # asked when headers leave: whether this connection is to take no other request
    first_byte: float = 0.0  # when headers left, in monotonic seconds
    awaits_continue: bool = False  # the client holds its body back until it is told to go on
    operation: str = ""
    access_key: str = ""
    error: str = ""  # S3 code
    cors: Mapping[str, str] = field(default_factory=dict)  # headers for a browser, on whatever is answered
    bytes_in: int = 0
    stream: web.StreamResponse | None = None  # a response whose headers have left: no other can follow


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated, routed request."""

    engine: Engine
    settings: GatewaySettings
    request: web.BaseRequest
    trace: Trace
    target: Target
    headers: dict[str, str]  # lower-case names
    auth: Auth
    operation: Operation
    access: Access

    @property
    def bucket(self) -> str:
        assert self.target.bucket is not None, "the router lets no operation on a bucket pass without its name"
        return self.target.bucket

    @property
    def key(self) -> str:
        assert self.target.key is not None, "the router lets no operation on an object pass without its key"
        return self.target.key
