"""Letting etcd forget old revisions: without that it fills its disk with every heartbeat that ever was.

All processes of a cluster do this together over one key: whoever finds it unchanged for `EVERY_S`, by its own clock,
and changes it by compare-and-swap has etcd forget what is older than the key's former revision. So at least the last
`EVERY_S` are always remembered, and watches are never more than seconds behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from objstore.cluster.port import Coordinator
from objstore.model.errors import ObjstoreError

log = logging.getLogger(__name__)

KEY = "compaction"
EVERY_S = 300.0


class Compaction:
    """`compact`: have it forget what is older than a revision."""

    def __init__(
        self, coordinator: Coordinator, compact: Callable[[int], Awaitable[None]], *, every_s: float = EVERY_S
    ) -> None:
        self._coordinator = coordinator
        self._compact = compact
        self._every_s = every_s
        self._noted = -1  # revision of the key at our last look; 0 = there was none
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """No effect if it runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="compaction of etcd")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except ObjstoreError as error:
                log.info("etcd was not compacted: %s", error)
            except Exception:
                log.exception("the compaction of etcd failed; trying on")
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """At most one of those who look at the same time compacts."""
        found = await self._coordinator.get(KEY)
        revision = found.revision if found else 0
        before, self._noted = self._noted, revision
        if revision != before:
            return  # another was here meanwhile, or this is our first look
        if await self._coordinator.put(KEY, b"", expected=revision) is None:
            return
        if revision:
            await self._compact(revision)
