"""How fast is RPC on loopback? Calls per second (tiny, pipelined) and MB/s (256 KiB payloads), beside memcpy.

    python bench/rpc.py [--loop uvloop|asyncio] [--seconds 3]

The server runs in a process of its own. The memcpy figure comes from the same run, because machines differ and
are busy: a payload crosses memory several times on its way (two in the kernel, one or two checksums per side).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from objstore.model.limits import KIB
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.wire.messages import FragRead, FragWrite, Ok, Ping, Pong, Reply, Request

SECRET = b"bench secret"
CLUSTER = "bench"
TINY_IN_FLIGHT = 64
BULK_IN_FLIGHT = 8
BULK_BYTES = 256 * KIB


class BenchService:
    """Answers at once; FragRead with a payload of the length asked for."""

    def __init__(self) -> None:
        self._block = bytes(BULK_BYTES)

    async def handle(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, bytes]:
        if isinstance(request, FragRead):
            return Ok(), self._block
        if isinstance(request, FragWrite):
            return Ok(), b""
        return Pong("bench", "bench", ""), b""


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


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


def memcpy_mb_s(seconds: float) -> float:
    """Copies of a 256 KiB block between two places that do not fit the caches of one core."""
    blocks = 256
    source = bytearray(b"\x01") * (blocks * BULK_BYTES)
    target = memoryview(bytearray(blocks * BULK_BYTES))
    view = memoryview(source)
    began = time.perf_counter()
    copied = 0
    while time.perf_counter() - began < seconds:
        start = copied % blocks * BULK_BYTES
        target[start : start + BULK_BYTES] = view[start : start + BULK_BYTES]
        copied += 1
    return copied * BULK_BYTES / 1e6 / (time.perf_counter() - began)


async def client(address: str, seconds: float) -> None:
    transport = TcpTransport(SECRET, CLUSTER)
    block = bytes(BULK_BYTES)
    write, read = FragWrite(1, 0), FragRead(bytes(21), 0, BULK_BYTES)
    tiny = await rate(lambda: transport.call(address, Ping(), timeout_s=10), TINY_IN_FLIGHT, seconds)
    alone = await rate(lambda: transport.call(address, Ping(), timeout_s=10), 1, seconds)
    sent = await rate(lambda: transport.call(address, write, block, timeout_s=10), BULK_IN_FLIGHT, seconds)
    got = await rate(lambda: transport.call(address, read, timeout_s=10), BULK_IN_FLIGHT, seconds)
    await transport.close()
    print(f"tiny calls, {TINY_IN_FLIGHT} in flight   {tiny:10,.0f} calls/s")
    print(f"tiny calls, one by one     {alone:10,.0f} calls/s")
    print(f"256 KiB to the server      {sent * BULK_BYTES / 1e6:10,.0f} MB/s")
    print(f"256 KiB from the server    {got * BULK_BYTES / 1e6:10,.0f} MB/s")
    print(f"memcpy, one core           {memcpy_mb_s(min(seconds, 1.0)):10,.0f} MB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server_process, args=(arguments.loop, theirs))
    process.start()
    try:
        run(client(ours.recv(), arguments.seconds), arguments.loop)
    finally:
        ours.send(None)
        process.join()


if __name__ == "__main__":
    main()
