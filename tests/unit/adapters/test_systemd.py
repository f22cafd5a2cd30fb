"""What systemd is told, over a socket as systemd has one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from objstore.adapters import systemd


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock, {"NOTIFY_SOCKET": str(tmp_path / "notify")}


def test_what_it_is_told_arrives_as_one_message(listener: tuple[socket.socket, dict[str, str]]) -> None:
    sock, env = listener
    systemd.notify(systemd.READY, "STATUS=serves", env=env)
    assert sock.recv(100) == b"READY=1\nSTATUS=serves"


def test_an_abstract_socket_is_found_too() -> None:
    name = f"objstore-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(10)
        systemd.notify(systemd.STOPPING, env={"NOTIFY_SOCKET": f"@{name}"})
        assert sock.recv(100) == b"STOPPING=1"


def test_without_systemd_nothing_happens() -> None:
    systemd.notify(systemd.READY, env={})


def test_a_socket_that_nobody_reads_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    systemd.notify(systemd.READY, env={"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert "does not hear 'READY=1'" in caplog.text


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_it_wants_to_hear(env: dict[str, str], wanted: float | None) -> None:
    assert systemd.watchdog_s(7, env) == wanted


def test_it_is_pinged_until_cancelled(listener: tuple[socket.socket, dict[str, str]]) -> None:
    sock, env = listener

    async def main() -> None:
        task = asyncio.create_task(systemd.ping(0.001, env))
        for _ in range(3):
            assert await asyncio.to_thread(sock.recv, 100) == b"WATCHDOG=1"
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
