"""One HTTP/1.1 connection that spends as little as possible: a request is bytes, an answer a status and a count.

The body of an answer is not kept but counted, given to `sink` as it comes, or kept if it is small and asked for.
Chunked answers are read too; anything else than HTTP/1.1 with a length or chunks is a broken connection.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

Sink = Callable[[memoryview], None]

BUFFER_BYTES = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class Answer:
    status: int
    head: bytes  # with the status line
    size: int = 0  # bytes of the body
    body: bytearray = field(default_factory=bytearray)  # if it was kept
    first_byte_s: float = 0.0  # since the request was sent

    def header(self, name: bytes) -> bytes:
        """b"" if there is none. `name`: lower case."""
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.lower() == name:
                return value.strip()
        return b""


class Connection(asyncio.BufferedProtocol):
    """Use `open_connection`. One request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._head = bytearray()
        self._answer: Answer | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._left = 0  # of the body, or of the chunk
        self._chunks: _Chunks | None = None
        self._sink: Sink | None = None
        self._keeps = False
        self._bodyless = False
        self._began = 0.0
        self._writable = asyncio.Event()
        self._writable.set()

    # --- for the user ---

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(
        self,
        head: bytes,
        body: Iterable[bytes | memoryview] = (),
        *,
        sink: Sink | None = None,
        keep: bool = False,
        bodyless: bool = False,
        timeout_s: float = 60.0,
    ) -> Answer:
        """`bodyless`: the answer to HEAD. `keep`: the body of the answer too; that of a refusal is kept in any case.
        Raises ConnectionError or TimeoutError; the connection is closed then."""
        if not self.is_open:
            raise ConnectionResetError("the connection is closed")
        assert self._transport is not None
        self._sink, self._keeps, self._bodyless = sink, keep, bodyless
        self._began = time.perf_counter()
        self._done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                self._transport.write(head)
                for piece in body:
                    if self._done.done():  # refused before all was sent
                        break
                    self._transport.write(piece)
                    if not self._writable.is_set():
                        await self._writable.wait()
                return await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._done = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.BufferedProtocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop is none by its type
        self._transport.set_write_buffer_limits(high=1 << 20)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._take(self._buffer[:nbytes])
        except ValueError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))
            self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        self._fail(error or ConnectionResetError("the server closed the connection"))

    # --- reading ---

    def _take(self, data: memoryview) -> None:
        if self._answer is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > HEAD_BYTES_MAX:
                    raise ValueError("a head without an end")
                return
            head, rest = bytes(self._head[:end]), bytes(self._head[end + 4 :])
            self._head.clear()
            status = int(head[9:12])
            if status == 100:
                if rest:
                    self._take(memoryview(rest))
                return
            self._begin(Answer(status, head, first_byte_s=time.perf_counter() - self._began))
            data = memoryview(rest)
        if self._chunks is not None:
            if self._chunks.take(data, self._pass):
                self._end()
            return
        if len(data) > self._left:
            raise ValueError("more than one answer to one request")
        self._left -= len(data)
        self._pass(data)
        if not self._left:
            self._end()

    def _begin(self, answer: Answer) -> None:
        self._answer, self._left, self._chunks = answer, 0, None
        if answer.status >= 300:
            self._keeps, self._sink = True, None
        if self._bodyless or answer.status in (204, 304):
            return
        if length := answer.header(b"content-length"):
            self._left = int(length)
        elif answer.header(b"transfer-encoding").lower() == b"chunked":
            self._chunks = _Chunks()

    def _pass(self, data: memoryview) -> None:
        assert self._answer is not None
        self._answer.size += len(data)
        if self._keeps:
            self._answer.body += data
        elif self._sink is not None and data:
            self._sink(data)

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        closes = answer.header(b"connection").lower() == b"close"
        if self._done is not None and not self._done.done():
            self._done.set_result(answer)
        if closes:
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class _Chunks:
    """Chunked transfer coding, RFC 9112 §7.1, without trailers."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0
        self._state = "size"  # "size" | "data" | "gap" | "last"

    def take(self, data: memoryview, give: Callable[[memoryview], None]) -> bool:
        """Whether that was the end."""
        at = 0
        while at < len(data):
            if self._state == "data":
                part = data[at : at + self._left]
                give(part)
                at += len(part)
                self._left -= len(part)
                if not self._left:
                    self._state = "gap"
                continue
            self._line += data[at : at + 1]
            at += 1
            if not self._line.endswith(b"\r\n"):
                continue
            line, self._line = bytes(self._line[:-2]), bytearray()
            if self._state == "size":
                self._left = int(line.split(b";")[0], 16)
                self._state = "data" if self._left else "last"
            elif self._state == "gap":
                self._state = "size"
            elif not line:
                return True
        return False


async def open_connection(host: str, port: int, *, tls: bool = False) -> Connection:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if tls else None
    _, connection = await loop.create_connection(Connection, host, port, ssl=context)
    return connection
