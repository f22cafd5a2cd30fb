"""What systemd is told of this process, if it asked: sd_notify(3) for Type=notify and WatchdogSec=.

Without $NOTIFY_SOCKET nothing is sent. systemd kills a process whose event loop stands still: whoever pings does it
from that loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"
PINGS_PER_TIMEOUT = 3


def notify(*lines: str, env: Mapping[str, str] = os.environ) -> None:
    path = env.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            sock.send("\n".join(lines).encode())
    except OSError as error:
        log.warning("systemd at %s does not hear %r: %s", path, lines[0], error)


def watchdog_s(pid: int, env: Mapping[str, str] = os.environ) -> float | None:
    """Within how many seconds systemd wants a ping of the process `pid`; None: it does not."""
    if env.get("WATCHDOG_PID", str(pid)) != str(pid) or not env.get("WATCHDOG_USEC", "").isdecimal():
        return None
    return int(env["WATCHDOG_USEC"]) / 1e6 or None


async def ping(every_s: float, env: Mapping[str, str] = os.environ) -> None:
    """Until it is cancelled."""
    while True:
        notify(WATCHDOG, env=env)
        await asyncio.sleep(every_s)
