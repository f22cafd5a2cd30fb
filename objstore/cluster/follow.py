"""Following one key of the coordinator: what is under it now, and again after each change.

Light: one watch. While the coordinator is away the last value holds (P7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from objstore.cluster.port import Coordinator
from objstore.model.errors import ObjstoreError

log = logging.getLogger(__name__)

WATCH_S = 20.0
RETRY_S = 0.5  # after the coordinator did not answer
PAUSE_S = 0.05  # between two reads, so that many changes are read at once


async def follow(coordinator: Coordinator, key: str, take: Callable[[bytes], None]) -> None:
    """Until cancelled. `take` gets the value whenever it may have changed; b"" when there is none."""
    revision = -1
    while True:
        try:
            if revision >= 0:
                newest = await coordinator.watch(key, revision, WATCH_S)
                if newest == revision:
                    continue
                await asyncio.sleep(PAUSE_S)
            entries, revision = await coordinator.range(key)
            take(next((entry.value for entry in entries if entry.key == key), b""))
        except ObjstoreError as error:
            log.info("%s cannot be followed now: %s", key, error)
            revision = -1  # the coordinator may come back as another one: read, whatever its revision
            await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("following %s failed; trying on", key)
            revision = -1
            await asyncio.sleep(RETRY_S)
