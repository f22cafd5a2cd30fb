"""The other processes of a gateway with several workers: they share its port (SO_REUSEPORT), each with an engine
and caches of its own. The first process starts them, starts them again when they end, and takes them along.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

RESTART_PAUSE_S = 1.0
CLOSE_MARGIN_S = 5.0  # that a worker gets beyond what it gives its requests


class Workers:
    """`argv`: the arguments of this process; `address`: where it listens, so that port 0 becomes a real one; `pool`:
    where all put together what they count."""

    def __init__(self, argv: Sequence[str], address: str, count: int, pool: Path | None) -> None:
        self._command = [
            *(sys.executable, "-m", "objstore", *argv),
            *("--worker", str(pool or ""), "--listen", address, f"--die-with-parent={os.getpid()}"),
        ]
        self._count = count
        self._running: dict[int, Process] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(n), name=f"worker {n}") for n in range(1, self._count + 1)]

    async def close(self, grace_s: float) -> None:
        """`grace_s`: what a worker may take to stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                async with asyncio.timeout(grace_s + CLOSE_MARGIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()

    async def _keep(self, number: int) -> None:
        while True:
            try:
                process = await asyncio.create_subprocess_exec(*self._command, stdin=DEVNULL, stdout=DEVNULL)
            except OSError as error:
                log.error("worker %d cannot be started: %s", number, error)
            else:
                self._running[number] = process
                code = await process.wait()
                del self._running[number]
                log.error("worker %d (pid %d) ended with exit code %d; starting another", number, process.pid, code)
            await asyncio.sleep(RESTART_PAUSE_S)
