"""What the tests of RPC share: a service made of one function, loops of both kinds, a peer that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from objstore.model.errors import WireError
from objstore.ports import Later
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import Server, serve
from objstore.wire.connection import NONCE_BYTES, Connection, Event, Side
from objstore.wire.frames import Buffer
from objstore.wire.messages import Ok, Reply, Request

SECRET = b"secret of the tests"
CLUSTER = "c1"
PATIENCE_S = 30.0  # a deadline that no test should meet

Answer = tuple[Reply, Buffer]
Run = Callable[[Coroutine[Any, Any, None]], None]


def _runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(main, PATIENCE_S * 2))

    return run


both_loops = pytest.mark.parametrize(
    "run", [_runner(asyncio.new_event_loop), _runner(uvloop.new_event_loop)], ids=["asyncio", "uvloop"]
)


class Scripted:
    """A Service whose answers come from a function; it counts the requests that were started."""

    def __init__(self, answer: Callable[[Request, bytes | memoryview], Awaitable[Answer]] | None = None) -> None:
        self._answer = answer
        self.at_once: Callable[[Request, bytes | memoryview], Answer | Later | None] = lambda request, payload: None
        self.started = 0

    def begin(self, request: Request, payload: bytes | memoryview) -> Answer | Later | None:
        if (begun := self.at_once(request, payload)) is not None:
            self.started += 1
        return begun

    async def handle(self, request: Request, payload: bytes | memoryview) -> Answer:
        self.started += 1
        if self._answer is None:
            return Ok(), bytes(payload)
        return await self._answer(request, payload)


@contextlib.asynccontextmanager
async def cluster_of_two(service: Scripted, **options: Any) -> AsyncIterator[tuple[TcpTransport, Server]]:
    """A server on a free port, and a transport."""
    server = await serve(service, "127.0.0.1", 0, SECRET, CLUSTER, **options)
    transport = TcpTransport(SECRET, CLUSTER)
    try:
        yield transport, server
    finally:
        await transport.close()
        await server.close()


class Peer:
    """A server that shakes hands and then leaves every event to the test."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[Event, Peer]] = asyncio.Queue()
        self.connections = 0
        self.writer: asyncio.StreamWriter
        self.connection: Connection

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        self.connection = connection = Connection(Side.SERVER, SECRET, CLUSTER, os.urandom(NONCE_BYTES))
        try:
            while data := await reader.read(65536):
                for event in connection.receive(data):
                    self.events.put_nowait((event, self))
                self.write(connection.take_outgoing())
        except (ConnectionError, WireError):
            pass
        finally:
            writer.close()

    def write(self, buffers: list[Buffer]) -> None:
        self.writer.writelines(buffers)
