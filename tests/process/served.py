"""A cluster of separately started `objstore serve` processes around an etcd, as one runs it on several machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from objstore import config
from objstore.admin import text
from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import Status
from objstore.cli.whereabouts import etcd_access
from objstore.testing.s3client import S3Client
from tests.meta.source import ROOT

ACCESS_KEY, SECRET_KEY = "TESTKEY", "testsecret"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

_CONFIG = """\
[cluster]
name = "served"
secret = "a secret of sixteen"
code = "{code}"
initial_nodes = {nodes}
partition_bits = 6

[coordinator]
kind = "etcd"
endpoints = {endpoints}
{coordinator}
[node]
capacity = "4GiB"

[[gateway.keys]]
access_key = "{access_key}"
secret_key = "{secret_key}"

[repair]
heartbeat_s = 0.5
down_after_s = {down_after_s}
out_after_s = {out_after_s}
garbage_delay_s = 5
"""


class Served:
    """Use it in a `with`: entered, every process is ready. Members are called n1.. (nodes), g1.., r1.. .

    `coordinator`: further lines of its section."""

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[str],
        *,
        nodes: int = 4,
        code: str = "2+1",
        gateways: int = 2,
        repairers: int = 2,
        down_after_s: float = 5.0,
        out_after_s: float = 60.0,
        coordinator: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "cluster.toml"
        self.config.touch(0o600)
        self.config.write_text(
            _CONFIG.format(
                code=code,
                nodes=nodes,
                endpoints=json.dumps(list(endpoints)),
                coordinator=coordinator,
                access_key=ACCESS_KEY,
                secret_key=SECRET_KEY,
                down_after_s=down_after_s,
                out_after_s=out_after_s,
            )
        )
        self.roles = {f"n{i}": "node" for i in range(1, nodes + 1)}
        self.roles |= {f"r{i}": "repairer" for i in range(1, repairers + 1)}
        self.roles |= {f"g{i}": "gateway" for i in range(1, gateways + 1)}
        self.addresses: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, S3Client] = {}

    def __enter__(self) -> Served:
        try:
            for name in self.roles:
                self.launch(name)
            for name in self.roles:
                self.wait_ready(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        for name in list(self._processes):
            self.signal(name, signal.SIGCONT)
            self.kill(name)

    # --- processes ---

    def launch(self, name: str) -> None:
        """Starts it, on the address that it had; `wait_ready` waits for it."""
        command = [sys.executable, "-P", "-m", "objstore", "serve", "--role", self.roles[name], "--name", name]
        command += ["--config", str(self.config), "--data", str(self.folder / name), "--zone", name]
        command += ["--listen", self.addresses.get(name, "127.0.0.1:0"), f"--die-with-parent={os.getpid()}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=_environment()
            )

    def wait_ready(self, name: str) -> None:
        stdout = self._processes[name].stdout
        assert stdout is not None
        with ThreadPoolExecutor(1) as pool:
            line = pool.submit(stdout.readline).result(START_TIMEOUT_S)
        assert line, f"{name} did not start:\n{self.log(name)}"
        self.addresses[name] = json.loads(line)["address"]

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def restart(self, name: str) -> None:
        """As its service does: it is asked to end, and started again."""
        process = self._processes[name]
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
        self.kill(name)
        self.launch(name)
        self.wait_ready(name)

    def running(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """The command line, with this cluster's --config, as on the machine of n1."""
        line = [sys.executable, "-P", "-m", "objstore", *command, "--config", str(self.config)]
        environment = {**_environment(), "OBJSTORE_NODE__ADVERTISE": self.addresses["n1"]}
        return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)

    # --- use ---

    def client(self, gateway: str = "g1") -> S3Client:
        if gateway not in self._clients:
            url = f"http://{self.addresses[gateway]}"
            self._clients[gateway] = S3Client(url, ACCESS_KEY, SECRET_KEY, "us-east-1")
        return self._clients[gateway]

    def status(self) -> Status:
        loaded = config.load(self.config, {})
        nodes = [self.addresses[name] for name, role in self.roles.items() if role == "node"]
        return build(observe(etcd_access(loaded), loaded.cluster.secret, local=False, witnesses=nodes))

    def wait(self, wanted: Callable[[Status], bool], timeout: float) -> Status:
        deadline = time.monotonic() + timeout
        while not wanted(status := self.status()):
            assert time.monotonic() < deadline, f"not as wanted within {timeout:.0f} s\n{text.render(status)}"
            time.sleep(0.2)
        return status

    def wait_healthy(self, timeout: float = 60.0) -> Status:
        return self.wait(lambda status: status.verdict == "HEALTHY", timeout)


def _environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("OBJSTORE_")}
    return {**own, "PYTHONPATH": str(ROOT)}
