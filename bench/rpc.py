"""Calls between two processes on the loopback, tiny ones and cells of 256 KiB, beside bare sockets on it.

A payload crosses memory several times on its way: two in the kernel, and one or two checksums per side.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar

import uvloop

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.model.limits import KIB
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.wire.messages import FragRead, FragWrite, Ok, Ping, Pong, Reply, Request

SECRET = b"bench secret"
CLUSTER = "bench"
T = TypeVar("T")
TINY_IN_FLIGHT = 64
BULK_IN_FLIGHT = 8
BULK_BYTES = 256 * KIB


class BenchService:
    """Answers at once; FragRead with a payload of the length asked for."""

    def __init__(self) -> None:
        self._block = bytes(BULK_BYTES)

    def begin(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, bytes]:
        if isinstance(request, FragRead):
            return Ok(), self._block
        if isinstance(request, FragWrite):
            return Ok(), b""
        return Pong("bench", "bench", ""), b""

    async def handle(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, bytes]:
        return self.begin(request, payload)


def run(main: Coroutine[Any, Any, T], loop: str) -> T:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def server_process(loop: str, pipe: Pipe) -> None:
    async def main() -> None:
        server = await serve(BenchService(), "127.0.0.1", 0, SECRET, CLUSTER)
        pipe.send(server.address)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await server.close()

    run(main(), loop)


async def rate(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> float:
    """Calls per second with `in_flight` of them at any time."""
    end = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def client(address: str, seconds: float) -> list[float]:
    """Tiny calls per second many at a time and one by one, cells per second there and back."""
    transport = TcpTransport(SECRET, CLUSTER)
    block = bytes(BULK_BYTES)
    write, read = FragWrite(1, 0), FragRead(bytes(21), 0, BULK_BYTES)
    found = [
        await rate(lambda: transport.call(address, Ping(), timeout_s=10), TINY_IN_FLIGHT, seconds),
        await rate(lambda: transport.call(address, Ping(), timeout_s=10), 1, seconds),
        await rate(lambda: transport.call(address, write, block, timeout_s=10), BULK_IN_FLIGHT, seconds),
        await rate(lambda: transport.call(address, read, timeout_s=10), BULK_IN_FLIGHT, seconds),
    ]
    await transport.close()
    return found


def measure(seconds: float, loop: str) -> list[Figure]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server_process, args=(loop, theirs))
    process.start()
    try:
        many, alone, sent, got = run(client(ours.recv(), seconds), loop)
    finally:
        ours.send(None)
        process.join()
    trips, stream = limits.loopback(seconds), limits.loopback_stream(seconds) / 1e6
    size = BULK_BYTES / 1e6
    return [
        Figure(f"tiny, {TINY_IN_FLIGHT} at once", many, "calls/s", "loopback round trips", trips),
        Figure("tiny, one by one", alone, "calls/s", "loopback round trips", trips),
        Figure(f"256 KiB there, {BULK_IN_FLIGHT} at once", sent * size, "MB/s", "loopback", stream),
        Figure(f"256 KiB back, {BULK_IN_FLIGHT} at once", got * size, "MB/s", "loopback", stream),
    ]


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__, seconds=1.5)
    found.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    arguments = found.parse_args(words)
    figures = measure(arguments.seconds, arguments.loop)
    show(f"RPC between two processes, {arguments.loop}", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
