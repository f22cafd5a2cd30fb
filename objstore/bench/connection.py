"""One HTTP/1.1 connection that spends as little as possible: a request is bytes, an answer a status and a count.

No event loop stands behind it: whoever has it waits for its socket and calls `send` and `receive`, which never wait.
A small exchange is then one `send`, one `recv` and a few string searches. The body of an answer is not kept but
counted, given to `sink` as it comes, or kept if it is small and asked for. Chunked answers are read too; anything else
than HTTP/1.1 with a length or chunks is a broken connection.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Sink = Callable[[memoryview], None]

BUFFER_BYTES = 256 * 1024  # stays in the cache of a core
HEAD_BYTES_MAX = 64 * 1024
CONNECT_TIMEOUT_S = 10.0
TURNS = 16  # reads in a row of one connection, while others wait
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(slots=True)
class Answer:
    status: int
    head: bytes  # with the status line
    size: int = 0  # bytes of the body
    body: bytearray = field(default_factory=bytearray)  # if it was kept
    first_byte_s: float = 0.0  # since the request was sent

    def header(self, name: bytes) -> bytes:
        """b"" if there is none. `name`: lower case."""
        at = self.head.lower().find(b"\r\n" + name + b":")
        if at < 0:
            return b""
        begin = at + len(name) + 3
        end = self.head.find(b"\r\n", begin)
        return self.head[begin : end if end >= 0 else None].strip()


class Connection:
    """Use `open_connection`. One request at a time. `buffer`: may be that of all connections of a thread."""

    __slots__ = (
        "_answer", "_began", "_bodyless", "_buffer", "_chunks", "_head", "_keeps", "_left", "_out", "_pieces", "_sink",
        "_socket", "_view",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, buffer: bytearray | None = None) -> None:
        self._socket: socket.socket | None = sock
        self._buffer = bytearray(BUFFER_BYTES) if buffer is None else buffer
        self._view = memoryview(self._buffer)
        self._head = bytearray()  # of an answer that did not come at once
        self._answer: Answer | None = None
        self._left = 0  # of the body, or of the chunk
        self._chunks: _Chunks | None = None
        self._sink: Sink | None = None
        self._keeps = self._bodyless = False
        self._began = 0.0
        self._out: memoryview | bytes = b""
        self._pieces: Iterator[bytes | memoryview] = iter(())

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._socket.fileno() if self._socket is not None else -1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- for whoever waits for the socket ---

    def begin(
        self,
        head: bytes,
        body: Iterable[bytes | memoryview] = (),
        *,
        sink: Sink | None = None,
        keep: bool = False,
        bodyless: bool = False,
    ) -> bool:
        """As `send`. `bodyless`: the answer to HEAD. `keep`: the body of the answer too; that of a refusal is kept in
        any case."""
        if self._socket is None:
            raise ConnectionResetError("the connection is closed")
        self._sink, self._keeps, self._bodyless = sink, keep, bodyless
        self._out, self._pieces = head, iter(body)
        self._began = time.perf_counter()
        return self.send()

    def send(self) -> bool:
        """Whether all is sent; else it is to be called again when the socket takes more. Raises OSError."""
        sock = self._socket
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        try:
            while True:
                while self._out:
                    sent = sock.send(self._out)
                    if sent == len(self._out):
                        self._out = b""
                    else:
                        self._out = memoryview(self._out)[sent:]
                piece = next(self._pieces, None)
                if piece is None:
                    return True
                self._out = piece
        except _WAITS:
            return False
        except OSError:
            self.close()
            raise

    def receive(self) -> Answer | None:
        """The answer once it is whole. To be called when there is something to read. Raises OSError."""
        sock = self._socket
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        decrypts = isinstance(sock, ssl.SSLSocket)  # what it has decrypted no longer waits in the socket
        try:
            for turn in itertools.count():
                count = sock.recv_into(self._buffer)
                if not count:
                    raise ConnectionResetError("the server closed the connection")
                answer = self._take(count)
                if answer is not None or not (decrypts or (count >= BUFFER_BYTES // 2 and turn < TURNS)):
                    return answer
        except _WAITS:
            return None
        except ValueError as error:
            self.close()
            raise ConnectionError(f"not HTTP: {error}") from None
        except OSError:
            self.close()
            raise
        raise AssertionError

    def ask(
        self,
        head: bytes,
        body: Iterable[bytes | memoryview] = (),
        *,
        sink: Sink | None = None,
        keep: bool = False,
        bodyless: bool = False,
        timeout_s: float = 60.0,
    ) -> Answer:
        """The whole exchange, waiting. Raises OSError, of which TimeoutError is one; the connection is closed then."""
        deadline = time.monotonic() + timeout_s
        sent = self.begin(head, body, sink=sink, keep=keep, bodyless=bodyless)
        while True:
            waits = select.POLLIN if sent else select.POLLIN | select.POLLOUT
            poll = select.poll()
            poll.register(self.fileno(), waits)
            found = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not found:
                self.close()
                raise TimeoutError(f"no answer in {timeout_s:g} s")
            events = found[0][1]
            if events & ~select.POLLOUT and (answer := self.receive()) is not None:
                return answer
            if events & select.POLLOUT:
                sent = self.send()

    # --- reading ---

    def _take(self, count: int) -> Answer | None:
        """`count` bytes are in the buffer."""
        answer = self._answer
        if answer is not None:
            return self._body(answer, self._view[:count])
        if self._head or self._buffer.find(b"\r\n\r\n", 0, count) < 0:
            self._head += self._view[:count]
            whole = bytes(self._head)
        else:
            whole = b""
        raw = whole or self._buffer
        end = raw.find(b"\r\n\r\n", 0, len(whole) or count)
        if end < 0:
            if len(self._head) > HEAD_BYTES_MAX:
                raise ValueError("a head without an end")
            return None
        self._head.clear()
        head = bytes(raw[:end])
        rest = memoryview(whole)[end + 4 :] if whole else self._view[end + 4 : count]
        status = int(head[9:12])
        if status == 100:
            if not rest:
                return None
            self._head += rest
            return self._take(0)
        answer = Answer(status, head, first_byte_s=time.perf_counter() - self._began)
        self._begin_body(answer)
        return self._body(answer, rest)

    def _begin_body(self, answer: Answer) -> None:
        self._answer, self._left, self._chunks = answer, 0, None
        if answer.status >= 300:
            self._keeps, self._sink = True, None
        if self._bodyless or answer.status in (204, 304):
            return
        if length := answer.header(b"content-length"):
            self._left = int(length)
        elif answer.header(b"transfer-encoding").lower() == b"chunked":
            self._chunks = _Chunks()

    def _body(self, answer: Answer, data: memoryview) -> Answer | None:
        if self._chunks is not None:
            return self._end(answer) if self._chunks.take(data, self._pass) else None
        if len(data) > self._left:
            raise ValueError("more than one answer to one request")
        self._left -= len(data)
        self._pass(data)
        return None if self._left else self._end(answer)

    def _pass(self, data: memoryview) -> None:
        answer = self._answer
        assert answer is not None
        answer.size += len(data)
        if self._keeps:
            answer.body += data
        elif self._sink is not None and data:
            self._sink(data)

    def _end(self, answer: Answer) -> Answer:
        self._answer = None
        if answer.header(b"connection").lower() == b"close" or self._out:  # ... it was refused before all was sent
            self.close()
        return answer


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


def open_connection(host: str, port: int, *, tls: bool = False, buffer: bytearray | None = None) -> Connection:
    """Waits for it. Raises OSError."""
    sock = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return Connection(sock, buffer)
