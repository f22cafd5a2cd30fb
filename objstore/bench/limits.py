"""What the machine itself can do, in the same run: copying, MD5, syncing a file, talking to itself.

A figure of ours means little on a machine that nobody knows and that does other work too; its ratio to these does. Each
is the best of several short rounds on memory that was touched before, since disturbance can only slow a round down.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 256 * 1024
ARENA = 64 << 20  # more than the caches of a core hold
ROUNDS = 5


def rate(
    call: Callable[[], object], amount: float, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """`amount` per second of calls that each do so much: the best of ROUNDS, together about `seconds` long. What only
    computes is best measured by `time.thread_time`: as if the core did nothing else."""
    call()  # tables, page faults
    best = 0.0
    for _ in range(ROUNDS):
        calls, begin = 0, clock()
        while (spent := clock() - begin) < seconds / ROUNDS or not calls:
            call()
            calls += 1
        best = max(best, calls * amount / spent)
    return best


def memcpy(seconds: float = 0.3, block: int = BLOCK, arena: int = ARENA) -> float:
    """Bytes per second of copying blocks between two places that do not fit the caches of one core."""
    block = min(block, arena)
    source = memoryview(bytearray(b"\x01") * arena)
    target = memoryview(bytearray(b"\x02") * arena)
    places = range(0, arena - block + 1, block)

    def copy() -> None:
        for at in places:
            target[at : at + block] = source[at : at + block]

    return rate(copy, len(places) * block, seconds, time.thread_time)


def md5(seconds: float = 0.3, block: int = BLOCK) -> float:
    """Bytes per second on one core: what an ETag costs whoever makes one."""
    data = random.Random(1).randbytes(block)
    return rate(lambda: hashlib.md5(data, usedforsecurity=False).digest(), block, seconds, time.thread_time)


def fdatasync(
    folder: Path | str | None = None, size: int = 4096, seconds: float = 0.5, *, extend: bool = True
) -> float:
    """Writes of `size` bytes per second, each followed by fdatasync. `extend`: behind the end of the file, so that its
    length is synced too; else over blocks that are there already."""
    data = random.Random(1).randbytes(size)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        number = file.fileno()
        room = max(size, 4 << 20)
        if not extend:
            os.pwrite(number, bytes(room), 0)
            os.fsync(number)
        at = 0

        def write() -> None:
            nonlocal at
            os.pwrite(number, data, at if extend else at % (room - size + 1) // size * size)
            os.fdatasync(number)
            at += size

        return rate(write, 1, seconds)


def loopback(seconds: float = 0.5, size: int = 1) -> float:
    """Round trips per second of `size` bytes each way between two threads, over TCP."""
    with _echo(size) as (near, _):
        data = bytes(size)

        def turn() -> None:
            near.sendall(data)
            _read(near, size)

        return rate(turn, 1, seconds)


def loopback_stream(seconds: float = 0.5, block: int = BLOCK) -> float:
    """Bytes per second from one thread to another over TCP."""
    with _echo(0) as (near, _):
        data = bytes(block)
        return rate(lambda: near.sendall(data), block, seconds)


class _echo:
    """A pair of TCP sockets; the far one sends back `size` bytes for each `size` that it gets. 0: it only reads."""

    def __init__(self, size: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._near = socket.create_connection(server.getsockname())
            self._far, _ = server.accept()
        for one in (self._near, self._far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, args=(size,), daemon=True)
        self._thread.start()

    def _serve(self, size: int) -> None:
        buffer = bytearray(1 << 20)
        if not size:
            while self._far.recv_into(buffer):
                pass
            return
        while _read(self._far, size):
            self._far.sendall(buffer[:size])

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        return self._near, self._far

    def __exit__(self, *_: object) -> None:
        self._near.close()
        self._thread.join()
        self._far.close()


def _read(sock: socket.socket, size: int) -> bool:
    left = size
    while left:
        count = len(sock.recv(left))
        if not count:
            return False
        left -= count
    return True


def of_machine(folder: Path | str | None = None) -> dict[str, float]:
    """For results. Takes a second."""
    return {
        "md5 MB/s": md5(0.2) / 1e6,
        "memcpy MB/s": memcpy(0.2) / 1e6,
        "loopback MB/s": loopback_stream(0.2) / 1e6,
        "loopback round trips/s": loopback(0.2),
        "fdatasync 4 KiB/s": fdatasync(folder, seconds=0.3),
    }
