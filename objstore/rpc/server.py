"""The server side of RPC: accepts connections, runs the service's `handle` once per request, sends its answer.

A request that needs no task of its own (`Service.begin`) has none; any other has one, so replies leave in the order in
which they are ready. A connection has at most
`in_flight_max` requests at work, and starts none while their payloads exceed `bytes_max` or while its reader is slow;
meanwhile it is not read from, and TCP tells the client to wait. A handler whose client has gone runs to its end, so
that a service need not expect to be cut short; only `Server.close` cancels. While it closes every new request is
refused at once, as if nobody listened any more, so that its caller goes to somebody else without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from objstore.model.errors import CODES, ConfigError, ObjstoreError, Unreachable
from objstore.model.limits import MIB
from objstore.ports import Later, Service
from objstore.rpc.link import Link, keep_freed_blocks
from objstore.rpc.sockets import join_address, listen_locally
from objstore.wire.connection import NONCE_BYTES, Connection, Established, Event, NotUnderstood, RequestReceived, Side
from objstore.wire.frames import Buffer
from objstore.wire.messages import ErrorReply, Reply

HANDSHAKE_TIMEOUT_S: Final = 5.0
CLOSE_GRACE_S: Final = 1.0
_ERROR_TEXT_MAX: Final = 4000
_STOPPING: Final = "this process is stopping and did nothing of the request"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shared:
    """What the connections of one server have in common."""

    service: Service
    secret: bytes
    cluster_id: str
    in_flight_max: int
    bytes_max: int
    connections_max: int
    handshake_timeout_s: float
    links: dict[_ServerLink, None] = field(default_factory=dict)
    tasks: dict[int, asyncio.Future[None]] = field(default_factory=dict)  # by number, of requests at work
    last_task: int = 0
    closing: bool = False


async def serve(
    service: Service,
    host: str,
    port: int,
    secret: bytes,
    cluster_id: str,
    *,
    in_flight_max: int = 256,
    bytes_max: int = 64 * MIB,
    connections_max: int = 1024,
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
) -> Server:
    """Listen and answer until `close`. Port 0: any free one, see `Server.address`."""
    shared = _Shared(service, secret, cluster_id, in_flight_max, bytes_max, connections_max, handshake_timeout_s)
    keep_freed_blocks()
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(lambda: _ServerLink(shared), host, port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {join_address(host, port)} ({error.strerror or error}): "
            "choose another address, or stop the process that uses this one"
        ) from error
    address = join_address(host, listener.sockets[0].getsockname()[1])
    listeners = [listener]
    if (sock := listen_locally(address)) is not None:
        listeners.append(await loop.create_unix_server(lambda: _ServerLink(shared), sock=sock))
    return Server(listeners, shared, address)


class Server:
    """A listening server. `address` is host:port with the port that was really bound."""

    def __init__(self, listeners: list[asyncio.Server], shared: _Shared, address: str) -> None:
        self._listeners = listeners
        self._shared = shared
        self.address = address

    @property
    def connections(self) -> int:
        return len(self._shared.links)

    def set_cluster_id(self, cluster_id: str) -> None:
        """For a process that joins and learns it late; new connections are checked against it."""
        self._shared.cluster_id = cluster_id

    async def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Refuse what is new, give requests at work `grace_s` to answer, then cancel them and hang up."""
        for listener in self._listeners:
            listener.close()
        self._shared.closing = True
        links = list(self._shared.links)
        for link in links:
            link.stop()
        if self._shared.tasks:
            await asyncio.wait(list(self._shared.tasks.values()), timeout=grace_s)
        cut = list(self._shared.tasks.values())
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        for link in links:
            link.hang_up()
        if links:
            await asyncio.wait([link.ended for link in links], timeout=grace_s)
        for link in links:
            link.abort("the server was closed")
        await asyncio.gather(*(link.ended for link in links))
        for listener in self._listeners:
            await listener.wait_closed()


class _ServerLink(Link):
    def __init__(self, shared: _Shared) -> None:
        super().__init__(Connection(Side.SERVER, shared.secret, shared.cluster_id, os.urandom(NONCE_BYTES)))
        self._shared = shared
        self._backlog: deque[RequestReceived] = deque()  # received before reading could be stopped
        self._running = 0
        self._running_bytes = 0  # of payloads of running requests
        self._reading = True
        self._hanging_up = False
        self._handshake_timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Start no further request; `shared.closing` is set."""
        for event in self._backlog:
            self._refuse(event)
        self._backlog.clear()
        self._throttle()

    def hang_up(self) -> None:
        """Close as soon as everything queued is sent."""
        self._hanging_up = True
        self.flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        shared = self._shared
        shared.links[self] = None
        self._handshake_timer = self.loop.call_later(
            shared.handshake_timeout_s, self.abort, "it did not introduce itself in time"
        )
        if shared.closing:
            self.abort("the server was closed")
        elif len(shared.links) > shared.connections_max:
            self.connection.refuse(f"too many connections (at most {shared.connections_max} at a time)")
            self.fail("too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.links.pop(self, None)
        super().connection_lost(exc)

    def received(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            if self._shared.closing:
                self._refuse(event)
            else:
                self._backlog.append(event)
                self._pump()
        elif isinstance(event, NotUnderstood):
            self.enqueue(self._error_frame(event.id, "InvalidRequest", f"the request is {event.reason}"))
            self._throttle()
        else:
            assert isinstance(event, Established) and self._handshake_timer is not None
            self._handshake_timer.cancel()

    def flushed(self) -> None:
        self._pump()
        if self._hanging_up and not self.queue:
            self.connection.refuse("the server is shutting down")
            super().fail("the server was closed")

    def fail(self, reason: str) -> None:
        assert self.transport is not None
        logger.warning(
            "connection from %s dropped: %s", self.transport.get_extra_info("peername") or "this machine", reason
        )
        super().fail(reason)

    def on_lost(self, reason: str) -> None:
        self._backlog.clear()
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()

    def _full(self) -> bool:
        return (
            self._running >= self._shared.in_flight_max or self._running_bytes >= self._shared.bytes_max or self.paused
        )

    def _pump(self) -> None:
        """Start what may be started, then read on only if nothing is left over."""
        while self._backlog and not self._full():
            event = self._backlog.popleft()
            self._running += 1
            self._running_bytes += len(event.payload)
            self._start(event)
        self._throttle()

    def _start(self, event: RequestReceived) -> None:
        shared = self._shared
        try:
            begun = shared.service.begin(event.request, event.payload)
            if begun is not None and not isinstance(begun, Later):
                self._reply(event, self.connection.send_reply(event.id, *begun))
                return
        except Exception as error:  # noqa: BLE001  as in `_answer`
            self._reply(event, self._failure(event, error))
            return
        shared.last_task += 1
        number = shared.last_task
        if begun is None:
            shared.tasks[number] = self.loop.create_task(self._answer(number, event))
        else:
            shared.tasks[number] = begun.done
            begun.done.add_done_callback(partial(self._settled, number, event, begun.answer))

    def _settled(
        self, number: int, event: RequestReceived, answer: tuple[Reply, Buffer], done: asyncio.Future[None]
    ) -> None:
        del self._shared.tasks[number]
        if done.cancelled():
            if self._shared.closing:
                self._ended(event)
                return
            error: BaseException | None = asyncio.CancelledError()
        else:
            error = done.exception()
        frame = self._failure(event, error) if error is not None else self.connection.send_reply(event.id, *answer)
        self._reply(event, frame)
        self._pump()

    def _throttle(self) -> None:
        wanted = not (self.paused if self._shared.closing else self._backlog or self._full())
        if wanted == self._reading or self.lost is not None:
            return
        assert self.transport is not None
        if self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _refuse(self, event: RequestReceived) -> None:
        self.enqueue(self._error_frame(event.id, Unreachable.__name__, _STOPPING))
        self._throttle()

    async def _answer(self, number: int, event: RequestReceived) -> None:
        try:
            reply, payload = await self._shared.service.handle(event.request, event.payload)
            frame = self.connection.send_reply(event.id, reply, payload)
        except asyncio.CancelledError as error:
            if self._shared.closing:
                self._ended(event)
                raise
            frame = self._failure(event, error)
        except Exception as error:  # noqa: BLE001  the root of the request: everything unforeseen is logged there
            frame = self._failure(event, error)
        finally:
            del self._shared.tasks[number]
        self._reply(event, frame)

    def _reply(self, event: RequestReceived, frame: list[Buffer]) -> None:
        self._ended(event)
        self.enqueue(frame)

    def _ended(self, event: RequestReceived) -> None:
        self._running -= 1
        self._running_bytes -= len(event.payload)

    def _failure(self, event: RequestReceived, error: BaseException) -> list[Buffer]:
        if isinstance(error, ObjstoreError):
            return self._error_frame(event.id, _code(error), str(error))
        name = type(event.request).__name__
        if isinstance(error, asyncio.CancelledError):
            text = f"{name} was cut short on the server; try again later"
            return self._error_frame(event.id, "Unavailable", text)
        logger.error("a bug: %s failed", name, exc_info=error)
        return self._error_frame(event.id, "ObjstoreError", f"{name} failed by a bug; the log of the server says more")

    def _error_frame(self, id: int, code: str, text: str) -> list[Buffer]:
        return self.connection.send_reply(id, ErrorReply(code, text[:_ERROR_TEXT_MAX]))


def _code(error: ObjstoreError) -> str:
    """The nearest class that the other side knows."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in CODES)
