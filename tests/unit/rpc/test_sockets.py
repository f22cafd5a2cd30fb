"""Addresses as people write them, and the local sockets beside those of the loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from objstore.model.errors import InvalidRequest
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.rpc.sockets import connect_locally, join_address, listen_locally, split_address
from objstore.wire.messages import Ok, Ping
from tests.unit.rpc.scripted import CLUSTER, PATIENCE_S, SECRET, Run, Scripted, both_loops, cluster_of_two

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="names of local sockets are a thing of Linux")


@pytest.mark.parametrize(
    ("address", "parts"),
    [("host.example:80", ("host.example", 80)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9000", ("::1", 9000))],
)
def test_split_and_join_are_inverse(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":80", "host:-1", "host:65536", "host:٣", "::1:80", "[]:80", "host: 80"]
)
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an address: write host:port"):
        split_address(address)


def family(transport: TcpTransport) -> int:
    """Of the socket of its only connection."""
    (link,) = transport._links.values()
    assert link.transport is not None
    return int(link.transport.get_extra_info("socket").family)


@only_linux
@both_loops
def test_processes_of_one_machine_talk_over_a_local_socket(run: Run) -> None:
    async def main() -> None:
        async with cluster_of_two(Scripted()) as (transport, server):
            payload = bytes(range(256)) * 4096
            reply, echo = await transport.call(server.address, Ping(), payload, timeout_s=PATIENCE_S)
            assert (reply, bytes(echo)) == (Ok(), payload)
            assert family(transport) == socket.AF_UNIX
        assert connect_locally(server.address) is None  # gone with its server

    run(main())


@only_linux
def test_another_user_behind_the_name_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    another = os.getuid() + 1

    async def main() -> None:
        async with cluster_of_two(Scripted()) as (transport, server):
            monkeypatch.setattr(os, "getuid", lambda: another)
            assert connect_locally(server.address) is None
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
            assert family(transport) == socket.AF_INET

    asyncio.run(main())


@only_linux
@both_loops
def test_a_server_whose_name_is_taken_is_reached_by_tcp(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = join_address(*free.getsockname())
        taken = listen_locally(address)
        assert taken is not None
        server = await serve(Scripted(), *split_address(address), SECRET, CLUSTER)
        taken.close()
        transport = TcpTransport(SECRET, CLUSTER)
        assert (await transport.call(address, Ping(), timeout_s=PATIENCE_S))[0] == Ok()
        assert family(transport) == socket.AF_INET
        await transport.close()
        await server.close()

    run(main())


@only_linux
def test_nobody_behind_the_name_is_none_and_so_is_a_full_backlog() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = join_address(*free.getsockname())
    assert connect_locally(address) is None
    with listen_locally(address) or pytest.fail("the name is free"):
        assert listen_locally(address) is None  # one only
        made = []
        while (sock := connect_locally(address)) is not None:
            made.append(sock)
            assert len(made) < 1000
        for sock in made:
            sock.close()


@pytest.mark.parametrize("address", ["192.0.2.1:80", "[2001:db8::1]:80", "localhost:80", "0.0.0.0:80"])
def test_only_addresses_of_the_loopback_have_a_local_socket(address: str) -> None:
    assert listen_locally(address) is None
    assert connect_locally(address) is None
