"""TcpTransport on loopback: pipelining, deadlines, lost and refused connections."""

from __future__ import annotations

import asyncio
import socket

import pytest

from objstore.model.errors import (
    CODES,
    DeadlineExceeded,
    InvalidRequest,
    ObjstoreError,
    QuorumLost,
    Unavailable,
    Unreachable,
)
from objstore.model.limits import MIB, RPC_PAYLOAD_BYTES_MAX
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.wire.connection import Established, RequestReceived
from objstore.wire.messages import (
    CoGet,
    CoResult,
    ErrorReply,
    FragOpened,
    FragRead,
    FragWrite,
    NodeStats,
    Ok,
    Ping,
    Reply,
    Request,
)
from tests.unit.rpc.scripted import CLUSTER, PATIENCE_S, SECRET, Answer, Peer, Run, Scripted, both_loops, cluster_of_two


def free_address() -> str:
    """Where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def echo_offset(request: Request, payload: bytes | memoryview) -> Answer:
    assert isinstance(request, FragWrite)
    return FragOpened(request.offset), bytes(payload)


@both_loops
def test_many_pipelined_calls_each_get_their_own_answer(run: Run) -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted(echo_offset)) as (transport, server):
            calls = (
                transport.call(server.address, FragWrite(1, i), b"%d" % i * (i % 50), timeout_s=PATIENCE_S)
                for i in range(3000)
            )
            answers = await asyncio.gather(*calls)
            assert [(r.stream, bytes(p)) for r, p in answers] == [(i, b"%d" % i * (i % 50)) for i in range(3000)]  # type: ignore[union-attr]
            assert server.connections == 1

    run(main())


@both_loops
def test_replies_may_come_in_any_order(run: Run) -> None:
    async def main() -> None:
        gates = [asyncio.Event() for _ in range(3)]

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            assert isinstance(request, FragWrite)
            await gates[request.offset].wait()
            return FragOpened(request.offset), b""

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            calls = [
                asyncio.ensure_future(transport.call(server.address, FragWrite(1, i), timeout_s=PATIENCE_S))
                for i in range(3)
            ]
            for i in (2, 0, 1):
                gates[i].set()
                assert (await calls[i])[0] == FragOpened(i)

    run(main())


@both_loops
@pytest.mark.parametrize("size", [1, 65_536, 256 * 1024 + 8, RPC_PAYLOAD_BYTES_MAX])
def test_payloads_up_to_the_limit_cross_unchanged(run: Run, size: int) -> None:
    async def main() -> None:
        payload = bytes(range(256)) * (size // 256 + 1)
        async with cluster_of_two(Scripted()) as (transport, server):
            view = memoryview(payload)[:size]
            _, back = await transport.call(server.address, FragWrite(1, 0), view, timeout_s=PATIENCE_S)
            assert back == view

    run(main())


def test_a_payload_over_the_limit_is_the_callers_error_and_harms_nobody() -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted()) as (transport, server):
            await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
            with pytest.raises(InvalidRequest, match="over the limit"):
                await transport.call(server.address, Ping(), bytes(RPC_PAYLOAD_BYTES_MAX + 1), timeout_s=PATIENCE_S)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()

    asyncio.run(main())


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_answered_error_arrives_as_its_class_and_text(code: str) -> None:
    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            raise CODES[code]("what happened, and what to do")

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            with pytest.raises(ObjstoreError) as caught:
                await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
            assert type(caught.value) is CODES[code]
            assert str(caught.value) == "what happened, and what to do"

    asyncio.run(main())


def test_an_error_class_of_a_newer_release_arrives_as_objstore_error() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            call = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            assert isinstance((await peer.events.get())[0], Established)
            peer.write(peer.connection.send_reply(1, ErrorReply("FromTheFuture", "text")))
            with pytest.raises(ObjstoreError, match="text") as caught:
                await call
            assert type(caught.value) is ObjstoreError
            await transport.close()

    asyncio.run(main())


@both_loops
def test_a_deadline_ends_one_call_and_the_connection_stays_usable(run: Run) -> None:
    async def main() -> None:
        never = asyncio.Event()

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            if isinstance(request, NodeStats):
                await never.wait()
            return Ok(), b""

        async with cluster_of_two(Scripted(answer)) as (transport, server):
            patient = asyncio.ensure_future(transport.call(server.address, NodeStats(), timeout_s=PATIENCE_S))
            with pytest.raises(DeadlineExceeded, match=server.address):
                await transport.call(server.address, NodeStats(), timeout_s=0.05)
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
            assert server.connections == 1 and not patient.done()
            never.set()
            assert (await patient)[0] == Ok()

    run(main())


def test_many_deadlines_on_one_connection_end_in_their_order() -> None:
    async def main() -> None:
        ended: list[float] = []

        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            return await asyncio.Future()

        async with cluster_of_two(Scripted(answer)) as (transport, server):

            async def call(timeout_s: float) -> None:
                with pytest.raises(DeadlineExceeded):
                    await transport.call(server.address, Ping(), timeout_s=timeout_s)
                ended.append(timeout_s)

            await asyncio.gather(*map(call, (0.3, 0.1, 0.2, 0.05)))
            assert ended == [0.05, 0.1, 0.2, 0.3]

    asyncio.run(main())


def test_a_reply_after_its_deadline_is_ignored() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            with pytest.raises(DeadlineExceeded):
                await transport.call(address, NodeStats(), timeout_s=0.1)
            second = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            events = [(await peer.events.get())[0] for _ in range(3)]
            assert [type(e) for e in events] == [Established, RequestReceived, RequestReceived]
            first_id, second_id = events[1].id, events[2].id  # type: ignore[union-attr]
            peer.write(peer.connection.send_reply(first_id, FragOpened(1)))
            peer.write(peer.connection.send_reply(99, FragOpened(3)))  # and one that was never asked for
            peer.write(peer.connection.send_reply(second_id, FragOpened(2)))
            assert (await second)[0] == FragOpened(2)
            assert peer.connections == 1
            await transport.close()

    asyncio.run(main())


def test_a_cancelled_call_leaves_the_connection_usable() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            first = asyncio.ensure_future(transport.call(address, NodeStats(), timeout_s=PATIENCE_S))
            await peer.events.get()
            await peer.events.get()
            first.cancel()
            second = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            await peer.events.get()
            peer.write([*peer.connection.send_reply(1, Ok()), *peer.connection.send_reply(2, Ok())])
            assert (await second)[0] == Ok()
            assert first.cancelled()
            await transport.close()

    asyncio.run(main())


@both_loops
def test_a_peer_that_dies_ends_all_waiting_calls_at_once(run: Run) -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            calls = [asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S)) for _ in range(50)]
            for _ in range(51):
                await peer.events.get()
            assert transport.connected(address)
            peer.writer.transport.abort()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, Unreachable) for result in results)
            assert "before the answer came" in str(results[0])
            assert len({id(result) for result in results}) == 50
            assert not transport.connected(address)
            await transport.close()

    run(main())


@both_loops
def test_a_damaged_answer_ends_the_connection_and_the_next_call_makes_a_new_one(run: Run) -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            call = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            await peer.events.get()
            await peer.events.get()
            [reply] = peer.connection.send_reply(1, Ok())
            damaged = bytearray(reply)
            damaged[-1] ^= 1
            peer.write([damaged])
            with pytest.raises(Unreachable, match="checksum"):
                await call
            again = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            await peer.events.get()
            await peer.events.get()
            peer.write(peer.connection.send_reply(1, Ok()))
            assert (await again)[0] == Ok()
            assert peer.connections == 2
            await transport.close()

    run(main())


def test_an_answer_cut_short_is_never_an_answer() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            call = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            await peer.events.get()
            await peer.events.get()
            head, payload = peer.connection.send_reply(1, Ok(), b"p" * 1000)
            peer.write([head, payload[:999]])
            peer.writer.close()
            with pytest.raises(Unreachable, match="ended in the middle of a frame"):
                await call
            await transport.close()

    asyncio.run(main())


def test_an_answer_of_an_unknown_kind_ends_its_call_only() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            calls = [asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S)) for _ in range(2)]
            for _ in range(3):
                await peer.events.get()
            not_a_reply: Reply = Ping()  # type: ignore[assignment]
            peer.write([*peer.connection.send_reply(1, not_a_reply), *peer.connection.send_reply(2, Ok())])
            with pytest.raises(Unreachable, match="not a message that this release knows"):
                await calls[0]
            assert (await calls[1])[0] == Ok()
            await transport.close()

    asyncio.run(main())


@both_loops
@pytest.mark.parametrize(
    ("secret", "cluster_id", "why"),
    [(b"wrong", CLUSTER, "secrets of the two sides differ"), (SECRET, "c2", "cluster c2")],
)
def test_a_stranger_is_refused_with_the_reason(run: Run, secret: bytes, cluster_id: str, why: str) -> None:
    async def main() -> None:
        service = Scripted()
        server = await serve(service, "127.0.0.1", 0, SECRET, CLUSTER)
        transport = TcpTransport(secret, cluster_id)
        with pytest.raises(Unreachable, match=why):
            await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
        assert service.started == 0 and not transport.connected(server.address)
        await transport.close()
        await server.close()

    run(main())


def test_a_process_that_joins_needs_the_secret_only() -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted()) as (_, server):
            newcomer = TcpTransport(SECRET, "")
            assert (await newcomer.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
            await newcomer.close()

    asyncio.run(main())


@both_loops
def test_a_refused_connection_is_reported_and_the_next_call_tries_again_at_once(run: Run) -> None:
    async def main() -> None:
        address = free_address()
        transport = TcpTransport(SECRET, CLUSTER)
        for _ in range(2):
            with pytest.raises(Unreachable, match=f"{address}: no connection"):
                await transport.call(address, Ping(), timeout_s=PATIENCE_S)
        assert not transport.connected(address)
        host, _, port = address.rpartition(":")
        server = await serve(Scripted(), host, int(port), SECRET, CLUSTER)
        assert (await transport.call(address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
        assert transport.connected(address)
        await transport.close()
        await server.close()

    run(main())


@both_loops
def test_calls_that_find_no_connection_share_one_attempt(run: Run) -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            calls = [asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S)) for _ in range(20)]
            for _ in range(21):
                await peer.events.get()
            assert peer.connections == 1
            await transport.close()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, Unreachable) for result in results)

    run(main())


@both_loops
def test_a_listener_that_never_shakes_hands_is_given_up(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
            transport = TcpTransport(SECRET, CLUSTER, connect_timeout_s=0.1)
            with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
                await transport.call(address, Ping(), timeout_s=PATIENCE_S)
            patient = TcpTransport(SECRET, CLUSTER, connect_timeout_s=PATIENCE_S)
            with pytest.raises(DeadlineExceeded):
                await patient.call(address, Ping(), timeout_s=0.1)
            waiting = asyncio.ensure_future(patient.call(address, Ping(), timeout_s=PATIENCE_S))
            await asyncio.sleep(0)
            await patient.close()
            with pytest.raises(Unreachable, match="this side was closed"):
                await waiting
            await transport.close()

    run(main())


def test_something_else_that_listens_there_is_named() -> None:
    async def main() -> None:
        async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(http, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = TcpTransport(SECRET, CLUSTER)
        with pytest.raises(Unreachable, match="does not speak the objstore protocol"):
            await transport.call(address, Ping(), timeout_s=PATIENCE_S)
        await transport.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:x", "host:70000", "::1:80"])
def test_a_malformed_address_is_unreachable_and_says_how_to_write_one(address: str) -> None:
    async def main() -> None:
        transport = TcpTransport(SECRET, CLUSTER)
        with pytest.raises(Unreachable, match="write host:port"):
            await transport.call(address, Ping(), timeout_s=PATIENCE_S)
        await transport.close()

    asyncio.run(main())


@both_loops
def test_close_ends_waiting_calls_and_later_ones(run: Run) -> None:
    async def main() -> None:
        peer = Peer()
        async with peer.listening() as address:
            transport = TcpTransport(SECRET, CLUSTER)
            call = asyncio.ensure_future(transport.call(address, Ping(), timeout_s=PATIENCE_S))
            await peer.events.get()
            await transport.close()
            with pytest.raises(Unreachable, match="closed"):
                await call
            with pytest.raises(Unreachable, match="closed"):
                await transport.call(address, Ping(), timeout_s=PATIENCE_S)
            assert not transport.connected(address)

    run(main())


@both_loops
def test_bulk_and_small_calls_share_a_connection(run: Run) -> None:
    """Many times the write buffer in both directions at once: nothing waits for ever, nothing is mixed up."""

    async def main() -> None:
        async def answer(request: Request, payload: bytes | memoryview) -> Answer:
            if isinstance(request, FragRead):
                return Ok(), b"r" * request.length
            return CoResult(True, len(payload)), b""

        async with cluster_of_two(Scripted(answer), in_flight_max=4) as (transport, server):

            async def one(i: int) -> None:
                if i % 3 == 0:
                    read = FragRead(bytes(21), 0, MIB + i)
                    _, payload = await transport.call(server.address, read, timeout_s=PATIENCE_S)
                    assert payload == b"r" * (MIB + i)
                elif i % 3 == 1:
                    block = b"w" * (MIB + i)
                    reply, _ = await transport.call(server.address, FragWrite(1, i), block, timeout_s=PATIENCE_S)
                    assert reply == CoResult(True, MIB + i)
                else:
                    assert (await transport.call(server.address, CoGet("k"), timeout_s=PATIENCE_S))[0] == CoResult(True)

            await asyncio.gather(*map(one, range(60)))

    run(main())


def test_unreachable_and_deadline_are_unavailable() -> None:
    """Callers catch one class for "ask another replica"."""
    assert issubclass(Unreachable, Unavailable) and issubclass(DeadlineExceeded, Unavailable)
    assert CODES["QuorumLost"] is QuorumLost
