"""The server on loopback: errors, strangers, limits, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import cast

import pytest

from objstore.model.errors import ConfigError, ObjstoreError, QuorumLost, Unavailable, Unreachable
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.wire.connection import NONCE_BYTES, Connection, Event, Kind, NotUnderstood, ReplyReceived, Side
from objstore.wire.frames import Buffer, encode_frame
from objstore.wire.messages import ErrorReply, NodeStats, Ok, Ping, Request
from tests.unit.rpc.scripted import CLUSTER, PATIENCE_S, SECRET, Answer, Run, Scripted, both_loops, cluster_of_two


async def open_by_hand(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Connection]:
    """A client made of a plain stream and the sans-io connection, after its handshake."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Connection(Side.CLIENT, SECRET, CLUSTER, b"n" * NONCE_BYTES)
    writer.writelines(connection.take_outgoing())
    while not connection.is_open:
        list(connection.receive(await reader.read(65536)))
    writer.writelines(connection.take_outgoing())
    return reader, writer, connection


@both_loops
def test_a_bug_in_a_handler_is_logged_and_answered_and_the_connection_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            if isinstance(request, NodeStats):
                raise ZeroDivisionError("a detail for the log only")
            return Ok(), b""

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            with pytest.raises(ObjstoreError, match="NodeStats failed by a bug") as caught:
                await transport.call(server.address, NodeStats(), timeout_s=PATIENCE_S)
            assert type(caught.value) is ObjstoreError and "detail" not in str(caught.value)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
            assert server.connections == 1

    run(main())
    [record] = caplog.records
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


def test_a_handler_that_is_cancelled_from_inside_is_answered_and_gives_its_place_back() -> None:
    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            if isinstance(request, NodeStats):
                raise asyncio.CancelledError
            return Ok(), b""

        async with cluster_of_two(Scripted(answer), in_flight_max=1) as (transport, server):
            with pytest.raises(Unavailable, match="NodeStats was cut short"):
                await transport.call(server.address, NodeStats(), timeout_s=PATIENCE_S)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()

    asyncio.run(main())


def test_an_error_class_that_the_wire_does_not_know_arrives_as_its_parent() -> None:
    class LocalKindOfQuorumLost(QuorumLost):
        pass

    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            raise LocalKindOfQuorumLost("t" * 10_000)

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            with pytest.raises(QuorumLost, match="tttt") as caught:
                await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
            assert type(caught.value) is QuorumLost and len(str(caught.value)) < 4096

    asyncio.run(main())


def test_a_reply_over_the_limit_is_an_error_of_that_call_only() -> None:
    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            return Ok(), bytes(20 << 20) if isinstance(request, NodeStats) else b""

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            with pytest.raises(ObjstoreError, match="over the limit"):
                await transport.call(server.address, NodeStats(), timeout_s=PATIENCE_S)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()

    asyncio.run(main())


@both_loops
def test_a_request_that_is_not_understood_is_answered_so_and_the_connection_goes_on(run: Run) -> None:
    async def main() -> None:
        service = Scripted()
        async with cluster_of_two(service) as (_, server):
            reader, writer, connection = await open_by_hand(server.address)
            writer.writelines(encode_frame(Kind.REQUEST, 1, b"\x91\xa6Future"))
            writer.writelines(connection.send_request(2, Ping()))
            events: list[Event] = []
            while len(events) < 2:
                events += list(connection.receive(await reader.read(65536)))
            assert not any(isinstance(event, NotUnderstood) for event in events)
            replies = {event.id: event.reply for event in events if isinstance(event, ReplyReceived)}
            refusal = replies[1]
            assert isinstance(refusal, ErrorReply) and refusal.code == "InvalidRequest"
            assert "Future" in refusal.text and replies[2] == Ok() and service.started == 1
            writer.close()
            await writer.wait_closed()

    run(main())


@both_loops
@pytest.mark.parametrize(
    ("garbage", "why"),
    [(b"GET / HTTP/1.1\r\n\r\n", "does not speak the objstore protocol"), (b"OJ\x07", "wire version 7")],
)
def test_a_stranger_is_told_why_and_hung_up_on(
    run: Run, garbage: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted()) as (_, server):
            host, _, port = server.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            assert why in (await reader.read()).decode(errors="replace")
            writer.close()
            await writer.wait_closed()

    run(main())
    assert why in caplog.text


@pytest.mark.parametrize("version", [0, 2])
def test_two_wire_versions_refuse_each_other_and_both_say_so(version: int, caplog: pytest.LogCaptureFixture) -> None:
    """A client of another version at our server, and our client at a server of another version."""

    def other(frames: list[Buffer]) -> bytes:
        changed = bytearray(b"".join(frames))
        changed[2] = version
        return bytes(changed)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        server = Connection(Side.SERVER, SECRET, CLUSTER, b"s" * NONCE_BYTES)
        server.refuse("any answer of that version")
        writer.write(other(server.take_outgoing()))
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await serve(Scripted(), "127.0.0.1", 0, SECRET, CLUSTER)
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(other(Connection(Side.CLIENT, SECRET, CLUSTER, b"n" * NONCE_BYTES).take_outgoing()))
        told = await reader.read()  # its end: hung up on
        assert f"speaks wire version {version}, this side version 1: run releases".encode() in told
        assert f"speaks wire version {version}, this side version 1" in caplog.text
        writer.close()
        await server.close()

        peer = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"127.0.0.1:{peer.sockets[0].getsockname()[1]}"
        transport = TcpTransport(SECRET, CLUSTER)
        with pytest.raises(Unreachable, match=f"{address}: .*speaks wire version {version}, this side version 1"):
            await transport.call(address, Ping(), timeout_s=PATIENCE_S)
        await transport.close()
        peer.close()
        await peer.wait_closed()

    asyncio.run(main())


def test_one_that_does_not_introduce_itself_is_hung_up_on() -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted(), handshake_timeout_s=0.05) as (_, server):
            host, _, port = server.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            heard = b""
            with contextlib.suppress(ConnectionResetError):
                heard = await reader.read()
            assert heard == b"" and server.connections == 0
            writer.close()

    asyncio.run(main())


def test_connections_are_bounded() -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted(), connections_max=1) as (transport, server):
            await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
            other = TcpTransport(SECRET, CLUSTER)
            with pytest.raises(Unreachable, match="too many connections"):
                await other.call(server.address, Ping(), timeout_s=PATIENCE_S)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
            await other.close()

    asyncio.run(main())


def test_an_address_in_use_is_a_clear_error() -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted()) as (_, server):
            port = int(server.address.rpartition(":")[2])
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port} .*choose another address"):
                await serve(Scripted(), "127.0.0.1", port, SECRET, CLUSTER)

    asyncio.run(main())


@both_loops
def test_close_lets_requests_at_work_answer(run: Run) -> None:
    async def main() -> None:
        started, gate = asyncio.Event(), asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            started.set()
            await gate.wait()
            return Ok(), b"late but whole" * 100_000

        server = await serve(Scripted(answer), "127.0.0.1", 0, SECRET, CLUSTER)
        transport = TcpTransport(SECRET, CLUSTER)
        call = asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S))
        await started.wait()
        closing = asyncio.ensure_future(server.close(grace_s=PATIENCE_S))
        await asyncio.sleep(0)
        gate.set()
        assert (await call)[1] == b"late but whole" * 100_000
        await closing
        assert server.connections == 0
        with pytest.raises(Unreachable):
            await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
        await transport.close()

    run(main())


@both_loops
def test_while_it_closes_a_new_request_is_refused_at_once_and_one_at_work_still_answered(run: Run) -> None:
    async def main() -> None:
        started, gate = asyncio.Event(), asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            started.set()
            await gate.wait()
            return Ok(), b"done"

        service = Scripted(answer)
        server = await serve(service, "127.0.0.1", 0, SECRET, CLUSTER, in_flight_max=1)
        transport = TcpTransport(SECRET, CLUSTER)
        calls = [asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S)) for _ in range(2)]
        await started.wait()
        closing = asyncio.ensure_future(server.close(grace_s=PATIENCE_S))
        with pytest.raises(Unreachable, match="is stopping"):
            await calls[1]  # was waiting for its turn
        with pytest.raises(Unreachable, match="is stopping"):
            await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
        assert service.started == 1 and not closing.done()
        gate.set()
        assert (await calls[0])[1] == b"done"
        await closing
        await transport.close()

    run(main())


@both_loops
def test_close_sends_all_answers_that_are_ready_even_to_a_busy_reader(run: Run) -> None:
    async def main() -> None:
        gate, enough = asyncio.Event(), asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            if service.started == 8:
                enough.set()
            await gate.wait()
            return Ok(), bytes(4 << 20)

        service = Scripted(answer)
        server = await serve(service, "127.0.0.1", 0, SECRET, CLUSTER)
        transport = TcpTransport(SECRET, CLUSTER)
        calls = [asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S)) for _ in range(8)]
        await enough.wait()
        closing = asyncio.ensure_future(server.close(grace_s=PATIENCE_S))
        gate.set()
        assert [len((await call)[1]) for call in calls] == [4 << 20] * 8
        await closing
        await transport.close()

    run(main())


@both_loops
def test_close_cancels_what_does_not_end_and_its_callers_know(run: Run) -> None:
    async def main() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            started.set()
            try:
                return await asyncio.Future()
            finally:
                cancelled.set()

        server = await serve(Scripted(answer), "127.0.0.1", 0, SECRET, CLUSTER)
        transport = TcpTransport(SECRET, CLUSTER)
        call = asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S))
        await started.wait()
        await server.close(grace_s=0.05)
        assert cancelled.is_set()
        with pytest.raises(Unreachable, match="shutting down"):
            await call
        assert not transport.connected(server.address)
        await transport.close()

    run(main())


def test_close_does_not_wait_for_a_client_that_reads_nothing() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            started.set()
            return Ok(), bytes(16 << 20)

        server = await serve(Scripted(answer), "127.0.0.1", 0, SECRET, CLUSTER)
        reader, writer, connection = await open_by_hand(server.address)
        cast(asyncio.Transport, writer.transport).pause_reading()
        for i in range(1, 4):
            writer.writelines(connection.send_request(i, Ping()))
        await started.wait()
        await server.close(grace_s=0.05)
        assert server.connections == 0
        writer.transport.abort()
        del reader

    asyncio.run(main())


def test_a_handler_whose_client_has_gone_runs_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        started, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            started.set()
            await gate.wait()
            ended.set()
            return Ok(), b""

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            call = asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S))
            await started.wait()
            await transport.close()
            with pytest.raises(Unreachable):
                await call
            while server.connections:  # noqa: ASYNC110  # nothing else tells that the server has noticed
                await asyncio.sleep(0)
            gate.set()
            await asyncio.wait_for(ended.wait(), PATIENCE_S)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.records == []


def test_a_cluster_id_learned_late_is_checked_from_then_on() -> None:
    async def main() -> None:
        server = await serve(Scripted(), "127.0.0.1", 0, SECRET, "")
        stranger = TcpTransport(SECRET, "c2")
        await stranger.call(server.address, Ping(), timeout_s=PATIENCE_S)
        await stranger.close()
        server.set_cluster_id(CLUSTER)
        stranger = TcpTransport(SECRET, "c2")
        with pytest.raises(Unreachable, match="the client belongs to cluster c2, the server to cluster c1"):
            await stranger.call(server.address, Ping(), timeout_s=PATIENCE_S)
        await stranger.close()
        await server.close()

    asyncio.run(main())
