"""RPC with plain sockets, one call at a time: for the command line, which has to start fast.

Imports neither asyncio nor anything that does. Any failure but an answered error drops the connection; the next
call makes a new one. Nothing is retried.
"""

from __future__ import annotations

import os
import socket
import time
from types import TracebackType

from objstore.model.errors import CODES, DeadlineExceeded, ObjstoreError, Unreachable, WireError
from objstore.model.limits import CONNECT_TIMEOUT_S, RPC_TIMEOUT_S
from objstore.rpc.sockets import split_address, tune
from objstore.wire.connection import NONCE_BYTES, Connection, Established, Event, ReplyReceived, Side
from objstore.wire.frames import Buffer
from objstore.wire.messages import ErrorReply, Reply, Request


class BlockingClient:
    """A connection to one address, made at the first call. Not for use by several threads at once.

    `cluster_id` may be ""; after a call it is the one that the other side named.
    """

    def __init__(self, address: str, secret: bytes, cluster_id: str, timeout_s: float = RPC_TIMEOUT_S) -> None:
        self.cluster_id = cluster_id
        self._address = address
        self._secret = secret
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._connection: Connection | None = None
        self._last_id = 0

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._connection = None

    def call(
        self, request: Request, payload: Buffer = b"", *, timeout_s: float | None = None
    ) -> tuple[Reply, bytes | memoryview]:
        """As ports.Transport.call."""
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        try:
            sock, connection = self._connected(deadline)
            self._last_id += 1
            frame = connection.send_request(self._last_id, request, payload)
            for buffer in frame:
                self._send(sock, buffer, deadline)
            events: list[Event] = []
            while not events:
                events = self._events(sock, connection, deadline)
        except TimeoutError as error:
            self.close()
            raise DeadlineExceeded(f"{self._address}: no answer before the deadline of this call") from error
        except OSError as error:
            self.close()
            raise Unreachable(f"{self._address}: the connection broke ({error.strerror or error})") from error
        except WireError as error:
            self.close()
            raise Unreachable(f"{self._address}: {error}") from error
        received = events[0]
        if len(events) > 1 or not isinstance(received, ReplyReceived) or received.id != self._last_id:
            self.close()  # one call at a time: there is one answer, to this call
            raise Unreachable(f"{self._address}: the answer cannot be used: {received}")
        if isinstance(received.reply, ErrorReply):
            raise CODES.get(received.reply.code, ObjstoreError)(received.reply.text)
        return received.reply, received.payload

    def _connected(self, deadline: float) -> tuple[socket.socket, Connection]:
        if self._socket is not None and self._connection is not None:
            return self._socket, self._connection
        host, port = split_address(self._address)
        connection = Connection(Side.CLIENT, self._secret, self.cluster_id, os.urandom(NONCE_BYTES))
        try:
            sock = socket.create_connection((host, port), timeout=min(CONNECT_TIMEOUT_S, _left(deadline)))
        except OSError as error:
            raise Unreachable(f"{self._address}: no connection ({error.strerror or error})") from error
        self._socket, self._connection = sock, connection
        tune(sock)
        while True:
            for buffer in connection.take_outgoing():
                self._send(sock, buffer, deadline)
            if connection.is_open:
                return sock, connection
            for event in self._events(sock, connection, deadline):
                assert isinstance(event, Established)
                self.cluster_id = self.cluster_id or event.cluster_id

    def _events(self, sock: socket.socket, connection: Connection, deadline: float) -> list[Event]:
        sock.settimeout(_left(deadline))
        count = sock.recv_into(connection.buffer())
        if not count:
            raise Unreachable(f"{self._address}: the other side closed the connection before the answer came")
        return list(connection.filled(count))

    def _send(self, sock: socket.socket, buffer: Buffer, deadline: float) -> None:
        sock.settimeout(_left(deadline))
        sock.sendall(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
