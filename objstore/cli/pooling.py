"""The traffic of a gateway that is several processes, as one: each publishes what it has counted once a second, in a
file of its own, and whoever is asked adds up all that was published.

Nobody adds what it counted since then: sums would fall from one scrape to the next, depending on who is asked, and a
counter that falls looks like one that began again. A file stays when its process has died, for the same reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from objstore.local.folder import process_ticks
from objstore.model.traffic import Traffic

log = logging.getLogger(__name__)

PUBLISH_S = 1.0


class Pool:
    """`folder`: of this gateway alone, made by its first process. `own`: what this process has counted."""

    def __init__(self, folder: Path, own: Traffic) -> None:
        self._folder = folder
        self._own = own
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="traffic of this process")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def total(self) -> Traffic:
        return await asyncio.get_running_loop().run_in_executor(None, self._read)

    def publish(self) -> None:
        path = self._folder / str(os.getpid())
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.msgpack.encode(self._own))
        temporary.replace(path)

    def _read(self) -> Traffic:
        total = Traffic()
        for path in sorted(self._folder.iterdir()):
            if not path.suffix:
                found = msgspec.msgpack.decode(path.read_bytes(), type=Traffic)
                if not process_ticks(int(path.name)):  # it has died
                    found.in_flight = 0
                total.add(found)
        return total

    async def _run(self) -> None:
        while True:
            try:
                self.publish()
            except OSError as error:
                log.warning("metrics of this process stay as they were: %s", error)
            await asyncio.sleep(PUBLISH_S)
