"""Responses: XML documents, empty ones, streamed bodies, and answers that take long.

Once the first byte of a streamed response has left, a failure can only be shown by breaking the connection
(or, for long answers, by an Error document in a 200, as AWS does). `Trace.stream` says that this point is past.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from gateway.handlers.call import Call, Trace
from gateway.s3.answers import XML_DECLARATION
from gateway.s3.errors import S3Error, from_model, render_error
from objstore.model.errors import ObjstoreError
from objstore.ports import Buffer

_log = logging.getLogger("gateway")

XML_TYPE = "application/xml"
SEND_BYTES = 256 << 10  # per write and per `send_idle_s`; a cell, so that a chunk of the engine is rarely cut
AHEAD_BYTES = 1 << 20  # that wait for the client, so that several pieces leave in one system call
WHOLE_BYTES_MAX = 64 << 10  # of a body that is handed over at once: what a connection buffers anyway
_SHOWN = "%/:!$&'()*+,;=@~"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~%/-]*")
UNREAD_MAX = 1 << 20  # a longer rest of a refused body is not worth reading: the connection closes


def xml(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, headers={**(headers or {}), "Content-Type": XML_TYPE})


def empty(status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers=headers)


def stamp(response: web.StreamResponse, trace: Trace) -> None:
    """The headers that every response has."""
    headers = response.headers
    headers["x-amz-request-id"] = trace.request_id
    headers["Server"] = "objstore"
    headers.update(trace.cors)


async def begin(call: Call, response: web.StreamResponse) -> None:
    """Send the headers; from here on the response is committed."""
    stamp(response, call.trace)
    if call.trace.is_last():
        response.force_close()
    await response.prepare(call.request)
    call.trace.first_byte = call.settings.clock.monotonic()
    call.trace.stream = response


def failure(request: web.BaseRequest, trace: Trace, error: S3Error) -> web.StreamResponse:
    """The error as a whole response; HEAD has no body, so there only the status tells."""
    trace.error = error.code
    if request.method == "HEAD" or error.status == 304:
        return web.StreamResponse(status=error.status, headers={**error.headers, "Content-Type": XML_TYPE})
    body = render_error(error, resource=resource(request), request_id=trace.request_id)
    return web.Response(status=error.status, body=body, headers={**error.headers, "Content-Type": XML_TYPE})


def resource(request: web.BaseRequest) -> str:
    """The path as it was sent, always printable; without the query, which may hold a presigned signature."""
    path = request.raw_path.partition("?")[0]
    return path if _PLAIN_PATH.fullmatch(path) else quote(path, safe=_SHOWN, errors="surrogateescape")


def close_if_unread(request: web.BaseRequest, trace: Trace, response: web.StreamResponse) -> None:
    """A body that nobody will read must not be taken for the next request: read a short rest, else close."""
    if request.content.is_eof():
        return
    length = request.content_length
    if trace.awaits_continue or length is None or length - trace.bytes_in > UNREAD_MAX:
        response.force_close()


def as_s3_error(error: Exception, trace: Trace) -> S3Error:
    """Every exception has an S3 form; one that nobody foresaw is a bug, and logged."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, ObjstoreError):
        mapped = from_model(error)
        if mapped.status >= 500:
            _log.warning("%s: %s", type(error).__name__, error, extra={"request_id": trace.request_id})
        return mapped
    _log.error("unexpected %s", type(error).__name__, exc_info=error, extra={"request_id": trace.request_id})
    return S3Error("InternalError")


async def stream(
    call: Call, status: int, headers: Mapping[str, str], body: AsyncIterator[Buffer], length: int
) -> web.StreamResponse:
    """Send `length` bytes as fast as the client takes them. The first are fetched before the headers leave,
    so that an object that cannot be read at all is a clean error. A short body leaves together with its headers."""
    try:
        chunk: Buffer | None = await anext(body, None)
        if chunk is not None and len(chunk) == length <= WHOLE_BYTES_MAX:
            return web.Response(status=status, headers=headers, body=bytes(chunk))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        await begin(call, response)
        left = length
        transport = call.request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=AHEAD_BYTES)
        async with asyncio.timeout(None) as limit:
            progress = _Progress(limit, call.settings.send_idle_s)
            while chunk is not None:
                left -= len(chunk)
                if not left and transport is not None:
                    transport.set_write_buffer_limits()  # what is left over waits with nobody looking: let it be little
                for piece in _pieces(chunk):
                    progress.made()
                    await response.write(piece)
                chunk = await anext(body, None)
        if left:
            raise RuntimeError(f"the engine returned {length - left} bytes of an object's {length}")
        await response.write_eof()
        return response
    finally:
        await close_iterator(body)


class _Progress:
    """Moves the limit of a response that goes on, so that it ends when the client takes nearly nothing for `idle_s`.

    Not with each piece: a timer set anew costs as much as all else there is to do for a piece."""

    def __init__(self, limit: asyncio.Timeout, idle_s: float) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._now = asyncio.get_running_loop().time
        self._next = 0.0

    def made(self) -> None:
        now = self._now()
        if now >= self._next:
            slack = self._idle_s / 8
            self._next = now + slack
            self._limit.reschedule(now + self._idle_s + slack)


def _pieces(chunk: Buffer) -> Iterator[Buffer]:
    if len(chunk) <= SEND_BYTES:
        yield chunk
        return
    view = memoryview(chunk)
    for start in range(0, len(view), SEND_BYTES):
        yield view[start : start + SEND_BYTES]


async def close_iterator(body: AsyncIterator[Buffer]) -> None:
    """Let an abandoned generator release what it holds now, not when it is collected."""
    if isinstance(body, AsyncGenerator):
        await body.aclose()


class Document(NamedTuple):
    """An XML document, and headers for it if they have not left yet."""

    body: bytes
    headers: Mapping[str, str]


async def answer_in_time(call: Call, work: Coroutine[Any, Any, Document]) -> web.StreamResponse:
    """The XML document that `work` returns. When it takes long: 200 at once, white space while it lasts, then the
    document or an Error document, because clients and proxies give up on a silent connection."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=call.settings.patience_s)
        if task.done():
            return xml(*task.result())
        response = web.StreamResponse(headers={"Content-Type": XML_TYPE})
        await begin(call, response)
        await response.write(XML_DECLARATION)
        while not task.done():
            await response.write(b" ")
            await asyncio.wait((task,), timeout=call.settings.patience_s)
        await response.write(_late_document(call, task))
        await response.write_eof()
        return response
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


def _late_document(call: Call, task: asyncio.Task[Document]) -> bytes:
    error = task.exception()
    if error is None:
        return task.result().body.removeprefix(XML_DECLARATION)
    if not isinstance(error, Exception):
        raise error
    mapped = as_s3_error(error, call.trace)
    call.trace.error = mapped.code
    document = render_error(mapped, resource=resource(call.request), request_id=call.trace.request_id)
    return document.removeprefix(XML_DECLARATION)
