"""A cluster whose processes live in network namespaces of their own, joined by one bridge, so that links can be cut.

Nothing of it is in the machine's own network: the bridge has a namespace too, and clients enter one
(`Network.inside`). Packets are lost in silence, as on a broken link, not refused: by taking a port of the bridge
down, or, for one direction between two members, by a neighbour entry with a hardware address that nobody has.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from objstore.admin import text
from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import Status
from objstore.testing.s3client import S3Client
from tests.meta.source import ROOT
from tests.process.machine import need, refuse, run

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SUBNET = "10.77.0."
NOBODY = "02:00:00:00:00:fe"
SECRET, ACCESS_KEY, SECRET_KEY = "a secret of sixteen", "TESTKEY", "testsecret"
CLIENT = "client"
START_TIMEOUT_S = 40.0


class Network:
    """Namespaces by member name, each with the address SUBNET + number. Use it in a `with`."""

    def __init__(self, names: list[str]) -> None:
        self._prefix = f"os{os.getpid() % 100_000}-"
        self._numbers = {name: number for number, name in enumerate([*names, CLIENT], 1)}

    def __enter__(self) -> Network:
        need("ip")
        if os.geteuid() != 0:
            refuse("only root may make network namespaces: run this test as root")
        try:
            self._make()
        except RuntimeError as error:
            self.remove()
            refuse(f"this machine does not let its root make network namespaces ({error})")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _make(self) -> None:
        hub = self._prefix + "hub"
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        for name, number in self._numbers.items():
            space = self._prefix + name
            run("ip", "netns", "add", space)
            run("ip", "-n", hub, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "-n", hub, "link", "set", f"p{number}", "master", "bridge", "up")
            run("ip", "-n", space, "addr", "add", f"{SUBNET}{number}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Interfaces go with their namespace, once its last process is gone."""
        listed = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, timeout=30).stdout
        for line in listed.splitlines():
            if line.startswith(self._prefix):
                run("ip", "netns", "delete", line.split()[0])

    def address(self, name: str) -> str:
        return f"{SUBNET}{self._numbers[name]}"

    def command(self, name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self._prefix + name, *command]

    def enter(self, name: str = CLIENT) -> None:
        """This thread, and those that it starts, are in that namespace from now on."""
        with open(f"/run/netns/{self._prefix}{name}") as file:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def inside(self, action: Callable[[], T], name: str = CLIENT) -> T:
        with ThreadPoolExecutor(1, initializer=self.enter, initargs=(name,)) as pool:
            return pool.submit(action).result()

    # --- harm ---

    def unplug(self, name: str) -> None:
        run("ip", "-n", self._prefix + "hub", "link", "set", f"p{self._numbers[name]}", "down")

    def plug(self, name: str) -> None:
        run("ip", "-n", self._prefix + "hub", "link", "set", f"p{self._numbers[name]}", "up")

    def block(self, sender: str, receiver: str) -> None:
        """What the one sends to the other is lost; the other way stays open."""
        neighbour = (self.address(receiver), "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
        run("ip", "-n", self._prefix + sender, "neighbour", "replace", *neighbour)

    def unblock(self, sender: str, receiver: str) -> None:
        run("ip", "-n", self._prefix + sender, "neighbour", "delete", self.address(receiver), "dev", "eth0")

    @contextlib.contextmanager
    def blocked(self, *pairs: tuple[str, str]) -> Iterator[None]:
        """(sender, receiver) each."""
        for pair in pairs:
            self.block(*pair)
        try:
            yield
        finally:
            for pair in pairs:
                self.unblock(*pair)


def both_ways(ones: list[str], others: list[str]) -> list[tuple[str, str]]:
    return [pair for one in ones for other in others for pair in ((one, other), (other, one))]


class NetCluster:
    """`objstore serve` for every member, each in its namespace."""

    def __init__(self, network: Network, folder: Path, nodes: int, code: str, gateways: int, repairers: int) -> None:
        self.network = network
        self.nodes = [f"n{i}" for i in range(1, nodes + 1)]
        self.gateways = [f"g{i}" for i in range(1, gateways + 1)]
        self._repairers = [f"r{i}" for i in range(1, repairers + 1)]
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OBJSTORE_")},
            "PYTHONPATH": str(ROOT),
            "OBJSTORE_CLUSTER__SECRET": SECRET,
            "OBJSTORE_CLUSTER__CODE": code,
            "OBJSTORE_CLUSTER__INITIAL_NODES": str(nodes),
            "OBJSTORE_COORDINATOR__ADDRESS": f"{network.address('c1')}:7700",
            "OBJSTORE_GATEWAY__KEYS": f"{ACCESS_KEY}:{SECRET_KEY}",
            "OBJSTORE_REPAIR__HEARTBEAT_S": "0.25",
            "OBJSTORE_REPAIR__DOWN_AFTER_S": "1",
            "OBJSTORE_REPAIR__OUT_AFTER_S": "3",
        }

    def __enter__(self) -> NetCluster:
        try:
            self._start("coordinator", "c1")
            self._wait_ready("c1")
            for role, names in (("node", self.nodes), ("repairer", self._repairers), ("gateway", self.gateways)):
                for name in names:
                    self._start(role, name)
            for name in self._processes:
                if name != "c1":
                    self._wait_ready(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self._processes.values():
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()

    def _start(self, role: str, name: str) -> None:
        port = {"coordinator": 7700, "node": 7701, "gateway": 9000, "repairer": 0}[role]
        command = [sys.executable, "-P", "-m", "objstore", "serve", "--role", role, "--name", name]
        command += ["--data", str(self._folder / name), "--listen", f"{self.network.address(name)}:{port}"]
        command += [f"--zone={name}", f"--die-with-parent={os.getpid()}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self.network.command(name, *command),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self._environment, cwd=self._folder,
            )  # fmt: skip

    def _wait_ready(self, name: str) -> None:
        stdout = self._processes[name].stdout
        assert stdout is not None
        with ThreadPoolExecutor(1) as pool:
            line = pool.submit(stdout.readline).result(START_TIMEOUT_S)
        assert line and json.loads(line)["ready"], f"{name} did not start:\n{self.log(name)}"

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()[-3000:]

    def client(self, gateway: str) -> S3Client:
        """To be used by threads that entered the network."""
        return S3Client(f"http://{self.network.address(gateway)}:9000", ACCESS_KEY, SECRET_KEY, "us-east-1")

    def status(self) -> Status:
        address = f"{self.network.address('c1')}:7700"
        return self.network.inside(lambda: build(observe(address, SECRET, local=False)))

    def wait(self, wanted: Callable[[Status], bool], timeout: float) -> Status:
        deadline = time.monotonic() + timeout
        while not wanted(status := self.status()):
            assert time.monotonic() < deadline, f"not as wanted within {timeout:.0f} s\n{text.render(status)}"
            time.sleep(0.2)
        return status

    def wait_healthy(self, timeout: float = 60.0) -> Status:
        return self.wait(lambda status: status.verdict == "HEALTHY", timeout)
