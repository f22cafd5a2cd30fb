"""The client side of RPC: one pipelined connection per address, made when it is first needed; by the local socket of a
process on this machine where it has one (`sockets`).

A call is one entry in the table of its connection: no task, no timer of its own (a connection has one timer, set
to its earliest deadline). Nothing is retried here; whoever calls knows whether a repetition is safe.

Invariants: every call ends, by its deadline at the latest; when a connection breaks all its calls end at once; a
reply that comes after its call has ended is dropped, and the connection goes on.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import Final

from objstore.model.errors import CODES, DeadlineExceeded, ObjstoreError, Overloaded, Unreachable
from objstore.model.limits import CONNECT_TIMEOUT_S
from objstore.ports import Told
from objstore.rpc.link import Link, keep_freed_blocks
from objstore.rpc.sockets import connect_locally, split_address
from objstore.wire.connection import NONCE_BYTES, Connection, Established, Event, NotUnderstood, ReplyReceived, Side
from objstore.wire.frames import Buffer
from objstore.wire.messages import ErrorReply, Reply, Request

CALLS_MAX: Final = 16_384  # waiting on one connection
_TIMER_SLACK_S: Final = 0.001  # timers of some loops fire up to a millisecond early

_Answer = tuple[Reply, bytes | memoryview]


class TcpTransport:
    """Implements ports.Transport. Belongs to one event loop.

    `cluster_id` may be "" and set later, when it is known; it takes effect with the next connection.
    """

    def __init__(
        self,
        secret: bytes,
        cluster_id: str,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        calls_max: int = CALLS_MAX,
    ) -> None:
        self.cluster_id = cluster_id
        self._secret = secret
        self._connect_timeout_s = connect_timeout_s
        self._calls_max = calls_max
        self._links: dict[str, _ClientLink] = {}  # those that can take calls
        self._attempts: dict[str, asyncio.Task[_ClientLink | Unreachable]] = {}
        self._waiting: set[asyncio.Task[None]] = set()  # requests of `send` for whom a connection is being made
        self._closed = False
        keep_freed_blocks()

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes | memoryview]:
        """See ports.Transport. The bytes of `payload` must not be changed any more, even after an error."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        link = self._links.get(address) or await self._connect(address, deadline)
        return await link.start(request, payload, deadline)

    def send(self, address: str, request: Request, payload: Buffer, *, timeout_s: float, told: Told) -> None:
        """See ports.Transport."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        link = self._links.get(address)
        if link is None:
            waiting = loop.create_task(self._send_later(address, request, payload, deadline, told))
            self._waiting.add(waiting)
            waiting.add_done_callback(self._waiting.discard)
            return
        try:
            link.send(request, payload, deadline, told)
        except ObjstoreError as error:
            loop.call_soon(told, error, b"")

    async def _send_later(self, address: str, request: Request, payload: Buffer, deadline: float, told: Told) -> None:
        """To whom there is no connection yet."""
        try:
            (await self._connect(address, deadline)).send(request, payload, deadline, told)
        except ObjstoreError as error:
            told(error, b"")

    def connected(self, address: str) -> bool:
        """Is there a live connection to this address now? (For displays: it may break before the next call.)"""
        return address in self._links

    async def close(self) -> None:
        """Break every connection. Waiting calls, and later ones, end with Unreachable."""
        self._closed = True
        attempts = list(self._attempts.values())
        links = list(self._links.values())
        for attempt in attempts:
            attempt.cancel()
        for link in links:
            link.abort("this side was closed")
        await asyncio.gather(*attempts, *(link.ended for link in links), return_exceptions=True)

    async def _connect(self, address: str, deadline: float) -> _ClientLink:
        """A new connection, by an attempt that all calls to this address share."""
        if self._closed:
            raise Unreachable(f"{address} was not asked: this side was closed")
        loop = asyncio.get_running_loop()
        attempt = self._attempts.get(address)
        if attempt is None:
            attempt = self._attempts[address] = loop.create_task(self._attempt(address))
        await asyncio.wait((attempt,), timeout=max(0.0, deadline - loop.time()))
        if not attempt.done():
            raise DeadlineExceeded(f"{address}: no connection before the deadline of this call")
        if attempt.cancelled():
            raise Unreachable(f"{address} was not asked: this side was closed")
        outcome = attempt.result()
        if isinstance(outcome, Unreachable):
            raise Unreachable(str(outcome))  # one exception object per call
        return outcome

    async def _attempt(self, address: str) -> _ClientLink | Unreachable:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._open(address, connect_locally(address))
        except TimeoutError:
            return Unreachable(f"{address}: no answer within {self._connect_timeout_s:g} s of connecting")
        except OSError as error:
            return Unreachable(f"{address}: no connection ({error.strerror or error})")
        except ObjstoreError as error:
            return Unreachable(str(error))
        finally:
            del self._attempts[address]

    async def _open(self, address: str, sock: socket.socket | None) -> _ClientLink:
        """By TCP, or over the connected `sock`."""
        loop = asyncio.get_running_loop()
        host, port = split_address(address)
        connection = Connection(Side.CLIENT, self._secret, self.cluster_id, os.urandom(NONCE_BYTES))
        link = _ClientLink(address, connection, self._links, self._calls_max)
        try:
            if sock is not None:
                await loop.create_unix_connection(lambda: link, sock=sock)
            else:
                await loop.create_connection(lambda: link, host, port)
            await link.established
        finally:
            if not link.connection.is_open:
                link.abort("the attempt to connect was given up")
        return link


class _ClientLink(Link):
    """A connection and the calls that wait on it. It is in `links` exactly while it can take calls."""

    def __init__(self, address: str, connection: Connection, links: dict[str, _ClientLink], calls_max: int) -> None:
        super().__init__(connection)
        self.established: asyncio.Future[None] = self.loop.create_future()
        self._address = address
        self._links = links
        self._calls_max = calls_max
        self._calls: dict[int, tuple[Told, float]] = {}  # by request id, with the deadline
        self._last_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def start(self, request: Request, payload: Buffer, deadline: float) -> asyncio.Future[_Answer]:
        """Queue a request; the future ends with its answer. It is not sent any more if the future ended before."""
        future: asyncio.Future[_Answer] = self.loop.create_future()
        self.send(request, payload, deadline, partial(_end, future), future)
        return future

    def send(
        self,
        request: Request,
        payload: Buffer,
        deadline: float,
        told: Told,
        owner: asyncio.Future[_Answer] | None = None,
    ) -> None:
        """Queue a request; `told` hears what becomes of it, unless this raises."""
        if self.lost is not None:
            raise Unreachable(f"{self._address}: {self.lost}")
        if len(self._calls) >= self._calls_max:
            raise Overloaded(f"{self._address}: {self._calls_max} calls are waiting already; try again later")
        self._last_id += 1
        frame = self.connection.send_request(self._last_id, request, payload)
        self._calls[self._last_id] = (told, deadline)
        if deadline < self._timer_at:
            self._set_timer(deadline)
        self.enqueue(frame, owner)

    def received(self, event: Event) -> None:
        if isinstance(event, Established):
            self._links[self._address] = self
            self.established.set_result(None)
            return
        told, _ = self._calls.pop(event.id, (_nobody, 0.0))
        if isinstance(event, ReplyReceived):
            reply = event.reply
            if isinstance(reply, ErrorReply):
                told(CODES.get(reply.code, ObjstoreError)(reply.text), b"")
            else:
                told(reply, event.payload)
            return
        assert isinstance(event, NotUnderstood)
        told(Unreachable(f"{self._address}: the answer is {event.reason}"), b"")

    def on_lost(self, reason: str) -> None:
        if self._links.get(self._address) is self:
            del self._links[self._address]
        if self._timer is not None:
            self._timer.cancel()
        if not self.established.done():
            self.established.set_exception(Unreachable(f"{self._address}: {reason}"))
            self.established.exception()  # nobody may be waiting for it
        calls, self._calls = self._calls, {}
        for told, _ in calls.values():
            told(Unreachable(f"{self._address}: {reason} before the answer came"), b"")

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self.loop.time() + _TIMER_SLACK_S
        for id in [id for id, (_, deadline) in self._calls.items() if deadline <= now]:
            told, _ = self._calls.pop(id)
            told(DeadlineExceeded(f"{self._address}: no answer before the deadline of this call"), b"")
        if self._calls:
            self._set_timer(min(deadline for _, deadline in self._calls.values()))


def _end(future: asyncio.Future[_Answer], reply: Reply | ObjstoreError, payload: bytes | memoryview) -> None:
    if future.done():
        return  # the caller has given up
    if isinstance(reply, ObjstoreError):
        future.set_exception(reply)
    else:
        future.set_result((reply, payload))


def _nobody(reply: Reply | ObjstoreError, payload: bytes | memoryview) -> None:
    """The call has ended before."""
