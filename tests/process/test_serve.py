"""`objstore serve` as a real process: ready line, signals, exit codes, and what becomes of it without its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SECRET = "0123456789abcdef0123"
TIMEOUT_S = 60


def environment(**more: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("OBJSTORE_")}
    own["PYTHONPATH"] = str(Path(__file__).parents[2])
    return {**own, "OBJSTORE_CLUSTER__SECRET": SECRET, **more}


def command(role: str, data: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "objstore", "serve", "--role", role, "--data", str(data)),
        *("--listen", "127.0.0.1:0", *more),
    ]


@contextlib.contextmanager
def running(role: str, data: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """The process and its ready line; killed at the end if it still runs."""
    process = subprocess.Popen(
        command(role, data, *more, f"--die-with-parent={os.getpid()}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def fails(role: str, data: Path, *more: str, **env: str) -> tuple[int, str]:
    found = subprocess.run(
        command(role, data, *more), capture_output=True, text=True, env=environment(**env), timeout=TIMEOUT_S
    )
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    return found.returncode, found.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_serves_and_stops_when_asked_to(tmp_path: Path, number: signal.Signals) -> None:
    with running("coordinator", tmp_path / "co", "--name", "c1") as (process, ready):
        assert ready["address"] != "127.0.0.1:0"
        assert ready == {
            "ready": True,
            "role": "coordinator",
            "name": "c1",
            "address": ready["address"],
            "pid": process.pid,
        }
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0


def test_a_node_registers_and_leaves_nothing_when_it_stops(tmp_path: Path) -> None:
    from objstore.model.cluster import decode_node_lease
    from objstore.rpc.blocking import BlockingClient
    from objstore.wire.messages import CoEntries, CoRange, CoWatch

    with running("coordinator", tmp_path / "co") as (_, coordinator):
        address = str(coordinator["address"])
        client = BlockingClient(address, SECRET.encode(), "", TIMEOUT_S)
        with running("node", tmp_path / "n1", "--name", "n1", "--zone", "z1", "--coordinator", address) as (
            node,
            ready,
        ):
            client.call(CoWatch("nodes/", 1, 60.0))
            reply, _ = client.call(CoRange("nodes/"))
            assert isinstance(reply, CoEntries)
            lease = decode_node_lease(reply.values[0])
            assert (lease.name, lease.zone, lease.address, lease.pid) == ("n1", "z1", ready["address"], node.pid)
            assert lease.capacity_bytes > 0
            node.terminate()
            assert node.wait(TIMEOUT_S) == 0
        reply, _ = client.call(CoRange("nodes/"))
        assert isinstance(reply, CoEntries) and reply.keys == []
        client.close()


def test_a_node_that_knows_its_cluster_starts_without_the_coordinator(tmp_path: Path) -> None:
    with running("coordinator", tmp_path / "co") as (_, coordinator):
        with running("node", tmp_path / "n1", "--coordinator", str(coordinator["address"])):
            pass
    with running("node", tmp_path / "n1", "--coordinator", "127.0.0.1:1") as (_, ready):
        assert ready["ready"]


def test_a_node_in_the_folder_of_another_cluster_ends_with_the_reason(tmp_path: Path) -> None:
    with running("coordinator", tmp_path / "co") as (_, coordinator):
        address = str(coordinator["address"])
        with running("node", tmp_path / "n1", "--coordinator", address):
            pass
        identity = tmp_path / "n1" / "identity.json"
        found = json.loads(identity.read_text())
        identity.write_text(json.dumps({**found, "cluster_id": "ab" * 16}))
        code, text = fails("node", tmp_path / "n1", "--coordinator", address)
        assert code == 1
        assert '"level":"critical"' in text and "cluster" in text


def test_a_data_folder_serves_one_process(tmp_path: Path) -> None:
    with running("coordinator", tmp_path / "co"):
        code, text = fails("coordinator", tmp_path / "co")
        assert code == 1 and "in use by another process" in text


def test_wrong_settings_end_it_with_code_2_and_a_sentence(tmp_path: Path) -> None:
    code, text = fails("node", tmp_path / "n1", OBJSTORE_NODE__RESERVE="lots")
    assert code == 2 and text.startswith("error: environment OBJSTORE_NODE__RESERVE: node.reserve = 'lots'")
    code, text = fails("node", tmp_path / "n1", "--listen", "0.0.0.0:0")
    assert code == 2 and "set node.advertise" in text
    code, text = fails("gateway", tmp_path / "g1")
    assert code == 2 and "gateway.keys is empty" in text


def test_systemd_hears_that_it_serves_that_it_lives_and_that_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(TIMEOUT_S)
        more = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        process = subprocess.Popen(
            command("coordinator", tmp_path / "co", "--name", "c1", f"--die-with-parent={os.getpid()}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(**more),
        )
        try:
            while (heard := systemd.recv(1000)) == b"WATCHDOG=1":
                pass
            assert heard.startswith(b"READY=1\nSTATUS=coordinator c1 serves at 127.0.0.1:")
            assert systemd.recv(1000) == b"WATCHDOG=1"
            process.terminate()
            while (heard := systemd.recv(1000)) == b"WATCHDOG=1":
                pass
            assert heard == b"STOPPING=1"
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()


def test_a_folder_of_a_later_release_is_refused_before_it_is_touched(tmp_path: Path) -> None:
    for role, file in (("node", "identity.json"), ("coordinator", "coordinator.json")):
        folder = tmp_path / role
        folder.mkdir()
        (folder / file).write_text('{"format": 2, "all": "different"}')
        code, text = fails(role, folder, "--coordinator", "127.0.0.1:1")
        assert code == 1 and "has format 2" in text and "Run that release, or a later one" in text
        assert not (folder / "kv").exists() and not (folder / "index").exists()
        assert (folder / file).read_text() == '{"format": 2, "all": "different"}'


def test_it_is_killed_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:] + [f'--die-with-parent={os.getpid()}'], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), end='', flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *command("coordinator", tmp_path / "co")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert parent.stdout is not None and parent.stderr is not None and parent.stdin is not None
    pid = json.loads(parent.stdout.readline())["pid"]
    os.kill(pid, 0)
    parent.kill()
    parent.wait(TIMEOUT_S)
    assert parent.stderr.read().count("ready at") == 1  # ends when the child, which shares it, is gone
    parent.stdin.close()
    parent.stdout.close()
    parent.stderr.close()


def test_it_does_not_start_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    code, text = fails("coordinator", tmp_path / "co", "--die-with-parent=1")
    assert code == 1 and "the parent process is gone" in text
