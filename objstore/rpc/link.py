"""What both ends of a TCP connection share: bytes from the socket into `wire.Connection`, and a write queue.

Received bytes land directly in the buffers of the frame reader. All frames queued in one turn of the loop leave in
one write: small ones joined, large payloads by reference. While the transport is over its high-water mark frames
stay in the queue, and one whose owner has given up meanwhile is never sent.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
from collections import deque
from typing import Any, Final, cast

from objstore.model import limits
from objstore.model.errors import WireError
from objstore.rpc.sockets import tune
from objstore.wire.connection import Connection, Event
from objstore.wire.frames import Buffer

WRITE_BUFFER_BYTES: Final = 1 * limits.MIB  # in the transport; beyond it frames wait in the queue
_JOIN_BYTES_MAX: Final = 16 * limits.KIB  # larger buffers are not worth a copy
_BATCH_BYTES: Final = 256 * limits.KIB  # between looks at whether the transport wants a pause
_MALLOC_OPTIONS: Final = (
    (-3, 2 * limits.RPC_PAYLOAD_BYTES_MAX),  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    (-1, 64 * limits.MIB),  # M_TRIM_THRESHOLD: what may lie free at the end of the heap
    (-8, 1),  # M_ARENA_MAX: one heap for all threads
)


def keep_freed_blocks() -> None:
    """Make glibc keep freed payload buffers for the next payload: half the cost of receiving 256 KiB.

    Its malloc gives back to the system at once what is large or lies free at the end, each thread has a heap of its own
    that does the same, and each new buffer then faults its pages in again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS:
            mallopt(option, value)


class Link(asyncio.BufferedProtocol):
    """One connection. Subclasses say what an event means, and what the end of the connection means."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()  # done when the socket is gone
        self.lost: str | None = None  # why the link is of no use any more
        self.transport: asyncio.Transport | None = None
        self.paused = False  # the transport holds more than WRITE_BUFFER_BYTES
        self.queue: deque[tuple[list[Buffer], asyncio.Future[Any] | None]] = deque()
        self._flush_due = False
        self._is_vectored = sys.version_info >= (3, 12) or not isinstance(self.loop, asyncio.SelectorEventLoop)

    def received(self, event: Event) -> None:
        raise NotImplementedError

    def flushed(self) -> None:
        """Frames have left the queue, or the transport has changed its mind about pausing."""

    def on_lost(self, reason: str) -> None:
        """Called once. Nothing is received or sent from here on."""
        raise NotImplementedError

    def enqueue(self, frame: list[Buffer], owner: asyncio.Future[Any] | None = None) -> None:
        """Send `frame` at the end of this turn of the loop, or later, unless `owner` is done by then."""
        if self.lost is not None:
            return
        self.queue.append((frame, owner))
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self.flush)

    def fail(self, reason: str) -> None:
        """End the connection after telling the other side what the state machine has to say about it."""
        assert self.transport is not None
        self._send_control()
        self._lose(reason)
        self.transport.close()

    def abort(self, reason: str) -> None:
        """End the connection without waiting for anything."""
        self._lose(reason)
        if self.transport is not None and not self.ended.done():
            self.transport.abort()

    # --- called by the loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        if self.lost is not None:  # aborted while it was being made
            self.transport.abort()
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._send_control()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.connection.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self.lost is not None:
            return
        was_open = self.connection.is_open
        try:
            for event in self.connection.filled(nbytes):
                self.received(event)
        except WireError as error:
            self.fail(str(error))
            return
        if not was_open:
            self._send_control()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and exc.strerror:
            reason = f"the connection broke ({exc.strerror})"
        elif self.connection.mid_frame:
            reason = "the connection ended in the middle of a frame"
        else:
            reason = f"the connection was closed ({exc})" if exc else "the other side closed the connection"
        self._lose(reason)
        if not self.ended.done():
            self.ended.set_result(None)

    # --- inside -----------------------------------------------------------------------------------------------

    def _send_control(self) -> None:
        assert self.transport is not None
        for buffer in self.connection.take_outgoing():
            self.transport.write(buffer)

    def flush(self) -> None:
        """Write what is queued, as far as the transport takes it."""
        self._flush_due = False
        if self.lost is not None:
            return
        assert self.transport is not None
        batch: list[Buffer] = []
        batched = 0
        while self.queue and not self.paused:
            frame, owner = self.queue.popleft()
            if owner is not None and owner.done():
                continue
            batch += frame
            batched += sum(map(len, frame))
            if batched >= _BATCH_BYTES:
                self._write(batch)
                batch, batched = [], 0
        self._write(batch)
        self.flushed()

    def _write(self, batch: list[Buffer]) -> None:
        """One system call where that takes no copy: else the header of a large frame wakes the other side by itself."""
        assert self.transport is not None
        joined = _joined(batch)
        if len(joined) > 1 and self._is_vectored:
            self.transport.writelines(joined)
            return
        for buffer in joined:
            self.transport.write(buffer)

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self.queue.clear()
            self.on_lost(reason)


def _joined(batch: list[Buffer]) -> list[Buffer]:
    """Runs of small buffers as one, large ones by themselves and uncopied, in order."""
    joined: list[Buffer] = []
    run: list[Buffer] = []
    for buffer in batch:
        if len(buffer) <= _JOIN_BYTES_MAX:
            run.append(buffer)
            continue
        if run:
            joined.append(b"".join(run))
            run = []
        joined.append(buffer)
    if run:
        joined.append(run[0] if len(run) == 1 else b"".join(run))
    return joined
