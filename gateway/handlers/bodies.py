"""Request bodies: from the socket, through `gateway.s3.payload`, to the engine, with nothing kept in between.

A client that sent `Expect: 100-continue` is told to go on when its body is first wanted, so never before
authentication and the checks of headers. Nothing may be committed unless `Payload.finish` has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.handlers.call import Call, Trace
from gateway.s3.errors import S3Error
from gateway.s3.payload import Payload, read_small_body
from gateway.settings import GatewaySettings
from objstore.ports import Buffer

_BYTES_PER_S_MIN = 256  # of a body, while the gateway waits for it: a byte now and then holds no connection
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def upload(call: Call, payload: Payload) -> AsyncIterator[Buffer]:
    """The bytes of one object or part. `payload.finish` then vouches for them, or raises."""
    async for data in received(call):
        for piece in payload.feed(data):
            yield piece
    if payload.is_whole:  # else the engine says that it is not
        payload.check_hash()


async def read_document(call: Call, *, has_checksum: bool = True) -> bytes:
    """A whole (XML) body of bounded size, verified. `has_checksum`: that of the headers, if any, is of this body."""
    headers = call.headers
    if not has_checksum:
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
    if not call.request.body_exists:
        headers = {"content-length": "0", **headers}  # a request without body may leave the length out
    payload = read_small_body(headers, call.auth)
    body = bytearray()
    async for data in received(call):
        for piece in payload.feed(data):
            body += piece
    payload.finish()
    return bytes(body)


def received(call: Call) -> AsyncIterator[bytes]:
    return incoming(call.request, call.trace, call.settings)


async def incoming(request: web.BaseRequest, trace: Trace, settings: GatewaySettings) -> AsyncIterator[bytes]:
    """Network buffers as they come. Waiting for too long, or a lost connection, is an S3Error.

    Every wait takes from `patience`, every byte gives a little back. What the engine takes to write does not count.
    """
    content = request.content
    now = settings.clock.monotonic
    patience = settings.body_idle_s
    _tell_to_continue(request, trace)
    while True:
        try:
            if content.total_bytes > trace.bytes_in or content.is_eof():
                data = await content.readany()  # does not wait: a timer would be wasted
            else:
                began = now()
                async with asyncio.timeout(patience):
                    data = await content.readany()
                patience = min(patience - (now() - began) + len(data) / _BYTES_PER_S_MIN, settings.body_idle_s)
        except TimeoutError:
            raise S3Error("RequestTimeout") from None
        except (ConnectionError, web.RequestPayloadError, web.PayloadAccessError) as error:
            raise S3Error("IncompleteBody") from error
        if not data:
            return
        trace.bytes_in += len(data)
        yield data


def _tell_to_continue(request: web.BaseRequest, trace: Trace) -> None:
    transport = request.transport
    if trace.awaits_continue and transport is not None:
        trace.awaits_continue = False
        transport.write(_CONTINUE)
