"""HAProxy with the configuration that `objstore config print haproxy` prints."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from objstore.adapters.process import die_with_parent
from objstore.config import Config
from objstore.deploy import haproxy
from objstore.deploy.site import Gateway, Site
from objstore.local.launch import free_port
from tests.process.conftest import program

START_S = 10.0
NOTICED_S = 30.0


@dataclass(frozen=True)
class Balancer:
    url: str
    log: Path

    def wait_until(self, gateway: str, state: str) -> None:
        """Until it counts the gateway as "UP" or "DOWN", after it did otherwise."""
        deadline = time.monotonic() + NOTICED_S
        while (
            not (said := re.findall(rf"Server gateways/{gateway} is (\w+)", self.log.read_text())) or said[-1] != state
        ):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)


@contextlib.contextmanager
def balancer(folder: Path, gateways: Mapping[str, str]) -> Iterator[Balancer]:
    """`gateways`: address by name. Yields once it listens."""
    address = f"127.0.0.1:{free_port(19000)}"
    site = Site(Config(), tuple(Gateway(name, at) for name, at in gateways.items()))
    path = folder / "haproxy.cfg"
    path.write_text(haproxy.render(site, address))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [program("haproxy"), "-db", "-f", str(path)], stderr=log, stdout=log, preexec_fn=die_with_parent
        )
    try:
        _wait_for(address, process, folder / "haproxy.log")
        yield Balancer(f"http://{address}", folder / "haproxy.log")
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1.0):
            return
        time.sleep(0.05)
