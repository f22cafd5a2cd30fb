"""A real etcd of one or more members on loopback, and what can happen to them. Ports are free ones."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

START_TIMEOUT_S = 30.0
FAST = ("--heartbeat-interval", "50", "--election-timeout", "500")


def program() -> str:
    """Path of etcd. CI must have it; elsewhere its tests are skipped."""
    found = shutil.which("etcd")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("etcd is not installed, and CI needs it (Debian: etcd-server): see .ci/run")
    if found is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


class Member:
    """One etcd process. It can be killed, stopped (as by a hang), and started again on its data."""

    def __init__(self, name: str, folder: Path, flags: Sequence[str], url: str) -> None:
        self.name = name
        self.url = url
        self._command = [program(), "--name", name, "--data-dir", str(folder / name), *flags]
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            starter = [sys.executable, "-c", _WITH_PARENT, str(os.getpid()), *self._command]
            self._process = subprocess.Popen(starter, stdout=log, stderr=log, env=_environment())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """As its service does: it is asked to end."""
        assert self._process is not None, f"{self.name} does not run"
        self._process.terminate()
        self._process.wait(START_TIMEOUT_S)
        self.start()

    def stop(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(number)


# Ends etcd when the test run ends, whatever way that happens.
_WITH_PARENT = (
    "import os, sys\n"
    "from objstore.adapters.process import die_with_parent\n"
    "die_with_parent(int(sys.argv[1])) and os.execv(sys.argv[2], sys.argv[2:])"
)


def _environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("ETCD_", "OBJSTORE_"))}
    return {**own, "PYTHONPATH": str(Path(__file__).parents[2])}


class Etcd:
    """`scheme`: of the clients' connections; `flags` go to every member."""

    def __init__(self, folder: Path, size: int = 1, *, scheme: str = "http", flags: Sequence[str] = ()) -> None:
        ports = free_ports(2 * size)
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[:size]]
        self.scheme = scheme
        peers = [f"http://127.0.0.1:{port}" for port in ports[size:]]
        everybody = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers, 1))
        self.members = [
            Member(
                f"e{number}",
                folder,
                (
                    *("--listen-client-urls", url, "--advertise-client-urls", url),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", everybody, *FAST, *flags),
                ),
                url,
            )
            for number, (url, peer) in enumerate(zip(self.urls, peers, strict=True), 1)
        ]

    def start(self) -> None:
        for member in self.members:
            member.start()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def wait_serving(self) -> None:
        """Until every member knows a leader; http only."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for member in self.members:
            while not _is_healthy(member.url):
                assert time.monotonic() < deadline, f"{member.name} does not serve:\n{member.log()[-3000:]}"
                time.sleep(0.05)

    def leader(self) -> Member:
        """Who leads now, by what the members say of themselves."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for member in self.members:
                if _metric(member.url, "etcd_server_is_leader") == "1":
                    return member
            time.sleep(0.05)
        raise AssertionError("no member leads")


@contextlib.contextmanager
def running(folder: Path, size: int = 1, *, flags: Sequence[str] = ()) -> Iterator[Etcd]:
    folder.mkdir(parents=True, exist_ok=True)
    etcd = Etcd(folder, size, flags=flags)
    try:
        etcd.start()
        etcd.wait_serving()
        yield etcd
    finally:
        etcd.kill()


def _get(url: str, path: str) -> str:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _is_healthy(url: str) -> bool:
    return '"health":"true"' in _get(url, "/health")


def _metric(url: str, name: str) -> str:
    lines = _get(url, "/metrics").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name} ")), "")
