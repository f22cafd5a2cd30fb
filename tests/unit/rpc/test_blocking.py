"""BlockingClient against the real server, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from objstore.model.errors import DeadlineExceeded, NoSuchKey, Unreachable
from objstore.rpc.blocking import BlockingClient
from objstore.rpc.server import serve
from objstore.wire.messages import CoGet, FragRead, FragWrite, NodeStats, Ok, Ping, Request
from tests.unit.rpc.scripted import CLUSTER, PATIENCE_S, SECRET, Answer, Scripted


def script() -> Scripted:
    """CoGet fails, NodeStats is answered no earlier than a later Ping, anything else echoes its payload."""
    pinged = asyncio.Event()

    async def answer(request: Request, payload: bytes | memoryview) -> Answer:
        if isinstance(request, NodeStats):
            await pinged.wait()
        elif isinstance(request, Ping):
            pinged.set()
        elif isinstance(request, CoGet):
            raise NoSuchKey("there is none")
        return Ok(), bytes(payload)

    return Scripted(answer)


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a server, for as long as the context lasts."""
    ready: list[str] = []
    up, down = threading.Event(), threading.Event()

    async def main() -> None:
        server = await serve(script(), "127.0.0.1", 0, SECRET, CLUSTER)
        ready.append(server.address)
        up.set()
        await asyncio.get_running_loop().run_in_executor(None, down.wait)
        await server.close(grace_s=0)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert up.wait(PATIENCE_S)
        yield ready[0]
    finally:
        down.set()
        thread.join()


def test_calls_follow_each_other_with_payloads_of_any_size() -> None:
    with served() as address, BlockingClient(address, SECRET, CLUSTER, PATIENCE_S) as client:
        for size in (0, 10, 70_000, 16 << 20):
            reply, payload = client.call(FragWrite(1, 0), b"x" * size)
            assert reply == Ok() and payload == b"x" * size


def test_an_answered_error_is_raised_and_the_connection_goes_on() -> None:
    with served() as address, BlockingClient(address, SECRET, CLUSTER, PATIENCE_S) as client:
        with pytest.raises(NoSuchKey, match="there is none"):
            client.call(CoGet("k"))
        assert client.call(Ping())[0] == Ok()


def test_a_deadline_ends_a_call_and_its_late_answer_is_not_taken_for_another() -> None:
    with served() as address, BlockingClient(address, SECRET, CLUSTER, PATIENCE_S) as client:
        with pytest.raises(DeadlineExceeded, match=address):
            client.call(NodeStats(), timeout_s=0.05)
        for payload in (b"first", b"second"):
            assert client.call(Ping(), payload)[1] == payload


def test_the_cluster_id_is_learned() -> None:
    with served() as address, BlockingClient(address, SECRET, "", PATIENCE_S) as client:
        client.call(Ping())
        assert client.cluster_id == CLUSTER


@pytest.mark.parametrize(
    ("secret", "cluster_id", "why"), [(b"wrong", CLUSTER, "secrets"), (SECRET, "c2", "cluster c2")]
)
def test_a_stranger_is_refused_with_the_reason(secret: bytes, cluster_id: str, why: str) -> None:
    with served() as address, BlockingClient(address, secret, cluster_id, PATIENCE_S) as client:
        for _ in range(2):
            with pytest.raises(Unreachable, match=why):
                client.call(Ping())


def test_nobody_there_is_unreachable() -> None:
    with served() as address:
        client = BlockingClient(address, SECRET, CLUSTER, PATIENCE_S)
        client.call(Ping())
    with pytest.raises(Unreachable, match=address):  # the connection was closed meanwhile
        client.call(FragRead(bytes(21), 0, 1))
    with pytest.raises(Unreachable, match=f"{address}: no connection"):
        client.call(Ping())


def test_a_listener_that_never_answers_meets_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with BlockingClient(f"127.0.0.1:{mute.getsockname()[1]}", SECRET, CLUSTER) as client:
            with pytest.raises(DeadlineExceeded):
                client.call(Ping(), timeout_s=0.05)


def test_it_starts_without_asyncio() -> None:
    program = "import sys, objstore.rpc.blocking; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
