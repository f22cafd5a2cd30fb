"""The command line on a real cluster: up, env, status, watch, chaos, down; and whatever one does to it by hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from objstore.local.folder import Folder, State, is_alive
from objstore.local.launch import HOST
from objstore.testing.s3client import S3Client
from tests.meta.source import ROOT
from tests.process.conftest import Objstore

FEW = ("--nodes", "4", "--ec", "2+1")
UP = ("up", "--detach", "--port", "0", "--out-after", "3", "--down-after", "1")
UP_FEW = (*UP, *FEW, "--repairers", "1")


def state_of(tmp_path: Path) -> State:
    return Folder(tmp_path / "data").running()


@contextlib.contextmanager
def client_of(tmp_path: Path) -> Iterator[S3Client]:
    state = state_of(tmp_path)
    client = S3Client(state.endpoints[0], state.access_key, state.secret_key, state.region)
    yield client
    client.close()


def status_of(objstore: Objstore) -> dict[str, Any]:
    return dict(json.loads(objstore("status", "--json").stdout))


def wait_healthy(objstore: Objstore) -> None:
    run = objstore("watch", "--until", "healthy", "--timeout", "60")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_day_with_the_command_line(objstore: Objstore, tmp_path: Path) -> None:
    up = objstore(*UP)
    assert up.returncode == 0, up.stderr
    exports = objstore("env").stdout
    assert exports.splitlines()[0] in up.stdout
    assert {line.partition("=")[0] for line in exports.splitlines()} == {
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
        "export AWS_ENDPOINT_URL",
        "export AWS_DEFAULT_REGION",
    }
    wait_healthy(objstore)
    healthy = objstore("status")
    assert healthy.returncode == 0 and "HEALTHY" in healthy.stdout
    with client_of(tmp_path) as client:
        client.create_bucket("bkt")
        client.put("bkt", "k", b"x" * 100_000)

    again = objstore(*UP)
    assert again.returncode != 0 and "already runs" in again.stderr

    assert objstore("chaos", "kill", "n3").returncode == 0
    status = status_of(objstore)
    assert [node["state"] for node in status["nodes"] if node["name"] == "n3"] == ["down"]
    assert objstore("status").returncode == 3
    with client_of(tmp_path) as client:
        assert client.get("bkt", "k") == b"x" * 100_000
    assert objstore("chaos", "kill", "n3").returncode == 2  # it is dead already
    assert objstore("chaos", "kill", "n33").returncode == 2
    assert objstore("chaos", "start", "n3").returncode == 0
    wait_healthy(objstore)

    assert objstore("down").returncode == 0
    assert objstore("status").returncode == 4
    wrong = objstore("up", "--detach", "--nodes", "9")
    assert wrong.returncode == 2 and "contradicts" in wrong.stderr


def test_a_node_killed_by_its_pid_stays_dead_until_it_is_started(objstore: Objstore, tmp_path: Path) -> None:
    assert objstore(*UP_FEW).returncode == 0
    wait_healthy(objstore)
    [pid] = [member.pid for member in state_of(tmp_path).members if member.name == "n3"]
    os.kill(pid, signal.SIGKILL)
    assert "n3" in [node["name"] for node in status_of(objstore)["nodes"] if node["state"] == "down"]
    start = objstore("chaos", "start", "n3")
    assert start.returncode == 0, start.stderr
    wait_healthy(objstore)
    assert "n3 was ended by SIGKILL" in (tmp_path / "data/logs/up.log").read_text()


def test_after_kill_9_of_all_processes_up_starts_the_same_cluster(objstore: Objstore, tmp_path: Path) -> None:
    assert objstore(*UP_FEW, "--gateways", "2").returncode == 0
    before = state_of(tmp_path)
    with client_of(tmp_path) as client:
        client.create_bucket("bkt")
        client.put("bkt", "k", b"x" * 100_000)
    for pid in (before.pid, *(member.pid for member in before.members)):
        with contextlib.suppress(ProcessLookupError):  # it followed the supervisor into death
            os.kill(pid, signal.SIGKILL)
    up = objstore("up", "--detach")
    assert up.returncode == 0, up.stderr
    after = state_of(tmp_path)
    assert after.endpoints[0] == before.endpoints[0]
    assert [member.name for member in after.members] == [member.name for member in before.members]
    assert (after.access_key, after.secret_key) == (before.access_key, before.secret_key)
    with client_of(tmp_path) as client:
        assert client.get("bkt", "k") == b"x" * 100_000
    wait_healthy(objstore)


@pytest.mark.long
def test_a_remembered_port_that_is_busy_is_passed_over_and_said(objstore: Objstore, tmp_path: Path) -> None:
    assert objstore(*UP_FEW).returncode == 0
    port = int(state_of(tmp_path).endpoints[0].rpartition(":")[2])
    assert objstore("down").returncode == 0
    with socket.create_server((HOST, port)):
        up = objstore("up", "--detach")
    assert up.returncode == 0, up.stderr
    assert f"port {port} is busy" in up.stdout + up.stderr
    assert state_of(tmp_path).endpoints != [f"http://{HOST}:{port}"]


@pytest.mark.long
def test_a_wiped_node_is_said_to_start_empty(objstore: Objstore) -> None:
    assert objstore(*UP_FEW).returncode == 0
    wipe = objstore("chaos", "wipe", "n3")
    assert wipe.returncode == 0 and "undo" not in wipe.stderr
    assert "n3 started as a new, empty node" in objstore("chaos", "start", "n3").stdout
    assert "n3 started with its old data" in objstore("chaos", "restart", "n3").stdout
    assert "g1 started (pid" in objstore("chaos", "restart", "g1").stdout
    wait_healthy(objstore)


def test_children_die_with_a_supervisor_that_is_killed(objstore: Objstore, tmp_path: Path) -> None:
    assert objstore(*UP_FEW).returncode == 0
    state = state_of(tmp_path)
    os.kill(state.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(is_alive(member.pid, member.ticks) for member in state.members):
        assert time.monotonic() < deadline, "orphans are left"
        time.sleep(0.05)


def test_ctrl_c_ends_a_cluster_in_the_foreground_without_a_traceback(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-m", "objstore", "up", "--data", str(data), "--port", "0", *FEW],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as up:  # fmt: skip
        assert up.stdout is not None and up.stderr is not None
        for line in up.stdout:
            if line.startswith("Ctrl-C"):
                break
        state = Folder(data).running()
        up.send_signal(signal.SIGINT)
        errors = up.stderr.read()
        assert up.wait(30) == 0
    assert "Traceback" not in errors and "stopped; the data stay" in errors
    assert not any(is_alive(member.pid, member.ticks) for member in state.members)
