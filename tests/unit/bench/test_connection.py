"""The client of the load against a server that answers with given bytes, cut anywhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import pytest

from objstore.bench.connection import Answer, Connection, open_connection

T = TypeVar("T")


async def waiting(call: Callable[[], T]) -> T:
    """Of what blocks, beside the server."""
    return await asyncio.get_running_loop().run_in_executor(None, call)


@asynccontextmanager
async def serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[str, int]]:
    """A server on loopback; at the end every connection has ended."""
    ended: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.get_running_loop().create_future()
        ended.append(over)
        try:
            await talk(reader, writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            over.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await asyncio.gather(*ended)
        await asyncio.sleep(0.01)  # asyncio closes what it has read in a later turn


async def exchange(raw: bytes, *, cut: int, times: int = 1, **how: bool) -> tuple[list[Answer], list[bytes], bool]:
    """Answers to `times` requests, what the sink was given for each, and whether the connection stayed open."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(raw), cut):
                writer.write(raw[start : start + cut])
                await writer.drain()
                await asyncio.sleep(0)

    answers, sunk = [], []
    async with serving(talk) as where:
        connection = await waiting(partial(open_connection, *where))
        try:
            for _ in range(times):
                taken = bytearray()
                asked = partial(connection.ask, b"GET / HTTP/1.1\r\n\r\n", sink=taken.extend, timeout_s=5, **how)
                answers.append(await waiting(asked))
                sunk.append(bytes(taken))
            await asyncio.sleep(0)
            return answers, sunk, connection.is_open
        finally:
            connection.close()


PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nETag: "x"\r\n\r\nhello world'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


@pytest.mark.parametrize("cut", [1, 7, 4096])
@pytest.mark.parametrize("raw", [PLAIN, CHUNKED, CONTINUED], ids=["length", "chunks", "continue"])
def test_answers_are_read_however_they_are_cut(raw: bytes, cut: int) -> None:
    answers, sunk, stays = asyncio.run(exchange(raw, cut=cut, times=3))
    assert [(one.status, one.size) for one in answers] == [(200, 11)] * 3
    assert sunk == [b"hello world"] * 3 and stays


def test_the_body_of_a_refusal_is_kept_and_not_given_to_the_sink() -> None:
    raw = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
    answers, sunk, stays = asyncio.run(exchange(raw, cut=9))
    assert (answers[0].status, bytes(answers[0].body), sunk, stays) == (503, b"no", [b""], False)


def test_the_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    raw = b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\nETag: "x"\r\n\r\n'
    answers, _, stays = asyncio.run(exchange(raw, cut=100, times=2, bodyless=True))
    assert [one.header(b"etag") for one in answers] == [b'"x"'] * 2 and stays


@pytest.mark.parametrize("raw", [PLAIN + b"!", b"SSH-2.0-x y z\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000])
def test_what_is_no_answer_breaks_the_connection(raw: bytes) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(exchange(raw, cut=1 << 20))


def test_a_server_that_goes_away_and_one_that_says_nothing() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GO"):
            writer.close()

    async def run() -> None:
        async with serving(talk) as where:
            connection = await waiting(partial(open_connection, *where))
            with pytest.raises(ConnectionError):
                await waiting(partial(connection.ask, b"GO\r\n\r\n", timeout_s=5))
            connection = await waiting(partial(open_connection, *where))
            with pytest.raises(TimeoutError):
                await waiting(partial(connection.ask, b"WAIT\r\n\r\n", timeout_s=0.05))
            assert not connection.is_open
            with pytest.raises(ConnectionError):
                connection.ask(b"MORE\r\n\r\n")

    asyncio.run(run())


def test_a_body_that_the_server_takes_slowly_is_sent_whole_and_a_refusal_of_it_ends_the_connection() -> None:
    size = 8 << 20
    piece = bytes(range(256)) * 4096

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"NO"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        taken = await reader.readexactly(size)
        assert taken == piece * (size // len(piece))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def run() -> None:
        for head, status in ((b"PUT", 200), (b"NO", 403)):
            async with serving(talk) as where:
                connection = await waiting(partial(open_connection, *where))
                body = [piece] * (size // len(piece))
                answer = await waiting(partial(connection.ask, head + b"\r\n\r\n", body, timeout_s=20))
                assert (answer.status, connection.is_open) == (status, status == 200)
                connection.close()

    asyncio.run(run())


def test_a_connection_that_is_closed_says_so() -> None:
    connection = Connection(socket.socket())
    assert connection.is_open
    connection.close()
    assert not connection.is_open and connection.fileno() == -1
