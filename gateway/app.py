"""The gateway's HTTP server: aiohttp's low-level `web.Server`, one pipeline for every request.

request id -> bound on requests in flight -> authentication -> route -> authorisation -> handler -> response, log.
Whatever goes wrong becomes an S3 error document; once the headers of a response have left, it becomes a broken
connection instead, so that no client ever takes a short body for a whole one.
Health and metrics are beside it (`gateway.pages`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from itertools import count
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway import pages
from gateway.handlers import HANDLERS, buckets, cors
from gateway.handlers.access import Access
from gateway.handlers.call import Call, Trace
from gateway.handlers.callers import authenticate
from gateway.handlers.responses import as_s3_error, close_if_unread, empty, failure, resource, stamp
from gateway.handlers.sts import answer as answer_sts
from gateway.port import Engine
from gateway.s3 import sts
from gateway.s3.errors import S3Error
from gateway.s3.owners import check_expected_owner
from gateway.s3.router import route
from gateway.s3.sigv4 import SigningKeys
from gateway.s3.target import collect_headers, effective_headers, parse_target
from gateway.settings import GatewaySettings
from objstore.model.context import FIELDS, begin_request
from objstore.model.errors import NoSuchKey
from objstore.model.traffic import Traffic

_access_log = logging.getLogger("gateway.access")

LINE_BYTES_MAX = 16 * 1024  # request line: a key of 1024 bytes, percent-encoded, and a presigned query
HEADER_BYTES_MAX = 16 * 1024  # one header
HEADERS_MAX = 256
READ_BUFFER_BYTES = 256 * 1024  # of one connection
BACKLOG = 1024
CLIENT_GONE = "ClientGone"  # in the log only


class Gateway:
    """Serves requests of one process and counts them, so that there are not too many and none is cut off at the end."""

    def __init__(self, engine: Engine, settings: GatewaySettings) -> None:
        self.engine = engine
        self.settings = settings
        self.draining = False
        self.traffic = Traffic()
        self._signing_keys = SigningKeys()
        self._request_numbers = count(int.from_bytes(settings.random.bytes(8)))
        self._busy: set[web.RequestHandler] = set()  # connections with a request in flight; one each
        self._idle = asyncio.Event()
        self._idle.set()

    def is_busy(self, connection: web.RequestHandler) -> bool:
        return connection in self._busy

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def new_trace(self) -> Trace:
        """Ids go on from a random number: unique among all gateways, and no secret."""
        number = next(self._request_numbers) & 0xFFFF_FFFF_FFFF_FFFF
        return Trace(f"{number:016X}", self.settings.clock.monotonic(), self._is_draining)

    def _is_draining(self) -> bool:
        return self.draining

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Never raises, except cancellation."""
        connection = request.protocol
        self._busy.add(connection)
        self.traffic.in_flight = len(self._busy)
        self._idle.clear()
        try:
            return await self._answer(request)
        finally:
            self._busy.discard(connection)
            self.traffic.in_flight = len(self._busy)
            if not self._busy:
                self._idle.set()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        trace = self.new_trace()
        mark = begin_request(trace.request_id, request.remote or "", lambda: trace.access_key)
        trace.awaits_continue = (
            request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue"
        )
        try:
            response = await self._serve(request, trace)
        except Exception as error:  # noqa: BLE001  the root of the request: everything unforeseen is logged there
            response = self._failed(request, trace, error)
        ended = self.settings.clock.monotonic()
        if trace.stream is None:
            trace.first_byte = ended
            stamp(response, trace)
            close_if_unread(request, trace, response)
            if self.draining:  # where the headers have left, they may have promised that the connection stays
                response.force_close()
        self._note(request, response, trace, ended)
        mark.request_id = ""
        return response

    async def _serve(self, request: web.BaseRequest, trace: Trace) -> web.StreamResponse:
        settings = self.settings
        headers = collect_headers(request.raw_headers)
        target = parse_target(request.raw_path, headers.get("host", ""), settings.domain)
        if target.bucket == pages.NAME:
            trace.operation = pages.NAME
            return await pages.answer(
                request.method, target.key or "", headers, self.engine, settings, stopping=self.draining
            )
        if len(self._busy) > settings.requests_max:
            raise S3Error("SlowDown")
        if sts.is_for_sts(request.method, target, headers):
            return await answer_sts(request, trace, target, headers, settings, self._signing_keys)
        if request.method == "OPTIONS":
            trace.operation = cors.PREFLIGHT
            return await cors.preflight(self.engine, target, headers)
        trace.cors = await cors.headers_for(self.engine, target, request.method, headers)
        now_ms = settings.clock.wall_ms()
        auth, caller = await authenticate(
            request.method,
            target,
            headers,
            root=settings.keys,
            identities=settings.identities,
            keys=self._signing_keys,
            now=now_ms / 1000,
        )
        trace.access_key = auth.access_key
        headers = effective_headers(headers, target.query)
        operation = route(request.method, target.bucket, target.key, target.query, headers)
        trace.operation = operation.value
        check_expected_owner(headers, buckets.OWNER.id)
        access = Access(self.engine, request, target, headers, auth, caller, now_ms)
        await access.check_operation(operation)
        call = Call(self.engine, settings, request, trace, target, headers, auth, operation, access)
        try:
            return await HANDLERS[operation](call)
        except NoSuchKey:
            await access.may_know(operation)
            raise

    def _failed(self, request: web.BaseRequest, trace: Trace, error: Exception) -> web.StreamResponse:
        """An error document, or a broken connection when a response is already on its way."""
        transport = request.transport
        if isinstance(error, ConnectionError) and (transport is None or transport.is_closing()):
            trace.error = CLIENT_GONE
            return trace.stream or empty(400)  # nobody will see it
        if trace.stream is None:
            return failure(request, trace, as_s3_error(error, trace))
        trace.error = CLIENT_GONE if isinstance(error, TimeoutError) else as_s3_error(error, trace).code
        if transport is not None:
            transport.abort()
        trace.stream.force_close()
        return trace.stream

    def _note(self, request: web.BaseRequest, response: web.StreamResponse, trace: Trace, ended: float) -> None:
        """Metrics and the access log. Checks of health come every second: only at level debug."""
        level = logging.INFO
        bytes_out = response.content_length or 0
        if trace.operation == pages.NAME:
            level = logging.DEBUG
        else:
            status = response.status
            if trace.error == CLIENT_GONE:
                status = 499  # nobody saw another
            elif trace.error and trace.stream is not None:
                status = 500  # it had said 200 already
            began = trace.started
            self.traffic.count(
                trace.operation, status, ended - began, trace.first_byte - began, trace.bytes_in, bytes_out
            )
        if not _access_log.isEnabledFor(level):
            return
        path = resource(request)
        fields = {
            "request_id": trace.request_id,
            "remote": request.remote,
            "access_key": trace.access_key,
            "method": request.method,
            "path": path,
            "operation": trace.operation,
            "status": response.status,
            "error": trace.error,
            "bytes_in": trace.bytes_in,
            "bytes_out": bytes_out,
            "duration_ms": round((ended - trace.started) * 1000, 3),
        }
        _access_log.log(level, "%s %s %d", request.method, path, response.status, extra={FIELDS: fields})


class _Connection(web.RequestHandler):
    """What aiohttp refuses before there is a request (a bad request line, header or length) is an S3 error too."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gateway = gateway

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("a response is already on its way")
        if isinstance(exc, LineTooLong):  # its own message repeats the line
            error = S3Error("RequestHeaderSectionTooLarge", extra={"MaxSizeAllowed": str(HEADER_BYTES_MAX)})
        elif status == 400:
            code = "InvalidArgument" if "content-length" in (message or "").lower() else "InvalidRequest"
            text = "The HTTP request is malformed: " + (message or "").strip().partition("\n")[0]
            error = S3Error(code, text)
        else:
            self.log_exception("unexpected error of a connection", exc_info=exc)
            error = S3Error("InternalError")
        trace = self._gateway.new_trace()
        response = failure(request, trace, error)
        stamp(response, trace)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(gateway.handle, **options)
        self.gateway = gateway

    def __call__(self) -> web.RequestHandler:
        return _Connection(self.gateway, self, loop=self._loop, **self._kwargs)


def make_server(engine: Engine, settings: GatewaySettings) -> _Server:
    """The protocol factory for `loop.create_server`. Call it inside a running loop."""
    return _Server(
        Gateway(engine, settings),
        access_log=None,  # `gateway.access` says more
        auto_decompress=False,  # an object may be gzip; its bytes are nobody's business here
        keepalive_timeout=settings.keep_alive_s,
        lingering_time=settings.linger_s,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
        read_bufsize=READ_BUFFER_BYTES,
    )


@dataclass(frozen=True, slots=True)
class RunningGateway:
    address: str  # host:port, the real port when 0 was asked for
    _server: _Server
    _listener: asyncio.Server

    @property
    def traffic(self) -> Traffic:
        return self._server.gateway.traffic

    async def close(self, grace_s: float = 30.0, notice_s: float = 0.0) -> None:
        """For `notice_s` all is served, but health/ready says 503 and each response is the last of its connection, so
        that balancers go elsewhere. Then: no new connections, idle ones end; requests in flight get `grace_s` to end,
        then their connections are cut."""
        gateway = self._server.gateway
        gateway.draining = True
        await asyncio.sleep(notice_s)
        self._listener.close()
        for connection in self._server.connections:
            if not gateway.is_busy(connection):
                connection.force_close()
        try:
            async with asyncio.timeout(grace_s):
                await gateway.wait_idle()
        except TimeoutError:
            logging.getLogger("gateway").warning("requests still in flight after %.0f s are cut off", grace_s)
        await self._server.shutdown(1.0)
        await self._listener.wait_closed()


async def serve_gateway(
    engine: Engine,
    settings: GatewaySettings,
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> RunningGateway:
    """Listen on host:port (0: any free one). `reuse_port` lets several worker processes share it."""
    server = make_server(engine, settings)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        server, host, port, reuse_port=reuse_port or None, backlog=BACKLOG, ssl=ssl_context
    )
    bound = listener.sockets[0].getsockname()
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return RunningGateway(f"{shown}:{bound[1]}", server, listener)
