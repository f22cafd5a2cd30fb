"""The write queue, back-pressure and the limits of the server, with a transport that only records."""

from __future__ import annotations

import asyncio

import pytest

from objstore.model.errors import DeadlineExceeded, Overloaded
from objstore.rpc.client import _ClientLink
from objstore.rpc.server import _ServerLink, _Shared
from objstore.wire.connection import NONCE_BYTES, Connection, Event, ReplyReceived, RequestReceived, Side
from objstore.wire.frames import Buffer
from objstore.wire.messages import FragWrite, Ok, Ping, Request
from tests.unit.rpc.scripted import CLUSTER, SECRET, Answer, Scripted

FAR = 1e9  # a deadline in the far future of the loop's clock


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Buffer] = []
        self.reading = True
        self.closed = False

    def write(self, data: Buffer) -> None:
        self.writes.append(data)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self.writes)
        self.writes.clear()
        return data


def deliver(link: _ClientLink | _ServerLink, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        buffer = link.get_buffer(-1)
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        rest = rest[count:]
        link.buffer_updated(count)


async def turns(count: int = 10) -> None:
    """Let everything run that can run without input."""
    for _ in range(count):
        await asyncio.sleep(0)


def open_client(calls_max: int = 1000) -> tuple[_ClientLink, RecordingTransport, Connection]:
    """A client link, its transport, and the server at the other end."""
    other = Connection(Side.SERVER, SECRET, CLUSTER, b"s" * NONCE_BYTES)
    link = _ClientLink("somewhere:1", Connection(Side.CLIENT, SECRET, CLUSTER, b"c" * NONCE_BYTES), {}, calls_max)
    transport = RecordingTransport()
    link.connection_made(transport)
    list(other.receive(transport.take()))
    deliver(link, b"".join(other.take_outgoing()))
    list(other.receive(transport.take()))
    assert other.is_open
    return link, transport, other


def open_server(
    service: Scripted, *, in_flight_max: int = 4, bytes_max: int = 1 << 20
) -> tuple[_ServerLink, RecordingTransport, Connection]:
    """A server link, its transport, and the client at the other end."""
    shared = _Shared(service, SECRET, CLUSTER, in_flight_max, bytes_max, connections_max=1, handshake_timeout_s=FAR)
    other = Connection(Side.CLIENT, SECRET, CLUSTER, b"c" * NONCE_BYTES)
    link = _ServerLink(shared)
    transport = RecordingTransport()
    link.connection_made(transport)
    deliver(link, b"".join(other.take_outgoing()))
    list(other.receive(transport.take()))
    deliver(link, b"".join(other.take_outgoing()))
    assert other.is_open
    return link, transport, other


def ids(events: list[Event]) -> list[int]:
    return [event.id for event in events if isinstance(event, RequestReceived | ReplyReceived)]


def test_calls_of_one_turn_leave_in_one_write() -> None:
    async def main() -> None:
        link, transport, other = open_client()
        for _ in range(64):
            link.start(Ping(), b"small payload", FAR)
        assert transport.writes == []
        await turns()
        assert len(transport.writes) == 1
        assert ids(list(other.receive(transport.take()))) == list(range(1, 65))

    asyncio.run(main())


def test_a_large_payload_is_written_without_a_copy_and_in_order() -> None:
    async def main() -> None:
        link, transport, other = open_client()
        block = bytes(100_000)
        for payload in (b"a", block, b"b"):
            link.start(FragWrite(1, 0), payload, FAR)
        await turns()
        assert [write is block for write in transport.writes] == [False, True, False]
        assert ids(list(other.receive(transport.take()))) == [1, 2, 3]

    asyncio.run(main())


def test_while_the_transport_is_full_calls_wait_and_those_given_up_are_never_sent() -> None:
    async def main() -> None:
        link, transport, other = open_client()
        link.pause_writing()
        first = link.start(Ping(), b"", FAR)
        second = link.start(Ping(), b"", FAR)
        third = link.start(Ping(), b"", 0.0)  # its deadline is long past
        fourth = link.start(Ping(), b"", FAR)
        second.cancel()
        with pytest.raises(DeadlineExceeded):
            await third
        await turns()
        assert transport.writes == [] and not first.done()
        link.resume_writing()
        assert ids(list(other.receive(transport.take()))) == [1, 4]
        deliver(link, b"".join(other.send_reply(1, Ok()) + other.send_reply(4, Ok())))
        assert (await first)[0] == (await fourth)[0] == Ok()

    asyncio.run(main())


def test_calls_that_wait_on_one_connection_are_bounded() -> None:
    async def main() -> None:
        link, transport, other = open_client(calls_max=10)
        link.pause_writing()
        for _ in range(10):
            link.start(Ping(), b"", FAR)
        with pytest.raises(Overloaded, match="10 calls are waiting already"):
            link.start(Ping(), b"", FAR)
        link.resume_writing()
        list(other.receive(transport.take()))
        deliver(link, b"".join(other.send_reply(1, Ok())))
        link.start(Ping(), b"", FAR)

    asyncio.run(main())


def test_the_server_starts_no_more_requests_than_its_limit_and_stops_reading() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            await gate.wait()
            return Ok(), b""

        service = Scripted(answer)
        link, transport, other = open_server(service, in_flight_max=4)
        deliver(link, b"".join(b for i in range(1, 11) for b in other.send_request(i, Ping())))
        await turns()
        assert service.started == 4 and not transport.is_reading()
        gate.set()
        await turns(30)
        assert service.started == 10 and transport.is_reading()
        assert sorted(ids(list(other.receive(transport.take())))) == list(range(1, 11))

    asyncio.run(main())


def test_the_server_takes_on_no_more_payload_than_its_limit() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            await gate.wait()
            return Ok(), bytes(payload)

        service = Scripted(answer)
        link, transport, other = open_server(service, in_flight_max=100, bytes_max=250_000)
        for i in range(1, 7):
            deliver(link, b"".join(other.send_request(i, FragWrite(1, 0), bytes(100_000))))
        await turns()
        assert service.started == 3 and not transport.is_reading()
        gate.set()
        await turns(30)
        assert service.started == 6 and transport.is_reading()
        assert len(ids(list(other.receive(transport.take())))) == 6

    asyncio.run(main())


def test_a_slow_reader_is_neither_written_to_nor_read_from() -> None:
    async def main() -> None:
        service = Scripted()
        link, transport, other = open_server(service, in_flight_max=4)
        link.pause_writing()
        deliver(link, b"".join(b for i in range(1, 6) for b in other.send_request(i, Ping())))
        await turns()
        assert service.started == 0 and not transport.is_reading() and transport.writes == []
        link.resume_writing()
        await turns(30)
        assert service.started == 5 and transport.is_reading()
        assert len(ids(list(other.receive(transport.take())))) == 5

    asyncio.run(main())


def test_replies_to_a_slow_reader_count_as_in_flight() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            await gate.wait()
            return Ok(), b""

        service = Scripted(answer)
        link, transport, other = open_server(service, in_flight_max=4)
        deliver(link, b"".join(b for i in range(1, 4) for b in other.send_request(i, Ping())))
        await turns()
        link.pause_writing()
        gate.set()
        await turns()
        assert len(link.queue) == 3 and transport.writes == [] and not transport.is_reading()
        link.resume_writing()
        assert not link.queue and transport.is_reading()
        assert len(ids(list(other.receive(transport.take())))) == 3

    asyncio.run(main())
