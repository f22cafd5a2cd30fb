"""The scrub: every fragment is read back from its disk by and by: rot is found while the other shards are there.

Goes round for ever, at a bounded rate. What does not verify goes to quarantine, as after a read that met it; the survey
then misses the shard and repair makes it anew. Where a round stands is not kept over a restart: it begins anywhere, so
that no part of the disk is left out by a node that restarts often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from objstore.model.errors import Corrupt, NotFound, ObjstoreError

logger = logging.getLogger(__name__)

PAGE = 64  # fragments looked up at a time
ROUND_PAUSE_S = 60.0  # after the last fragment; also what an idle node spares itself
RETRY_S = 1.0


class Fragments(Protocol):
    """Part of `objstore.node.fragments.FragmentStore`."""

    def lengths_after(self, fragment: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        """(fragment id, bytes) of fragments behind one, in order."""

    async def check(self, fragment: bytes) -> None:
        """Raises Corrupt if it is damaged, and then it is in quarantine; NotFound if it is gone."""


class Scrub:
    """`run` until cancelled. `rate`: bytes per second. `rounds` and `found` tell what was done since the start."""

    def __init__(self, fragments: Fragments, rate: int, start: bytes) -> None:
        assert rate > 0
        self.rounds = 0
        self.found = 0
        self._fragments = fragments
        self._rate = rate
        self._at = start

    async def run(self) -> None:
        while True:
            try:
                await self._page()
            except (OSError, ObjstoreError) as error:  # it is overloaded, or ends
                logger.info("the scrub waits: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _page(self) -> None:
        page = self._fragments.lengths_after(self._at, PAGE)
        for fragment, length in page:
            try:
                await self._fragments.check(fragment)
            except NotFound:
                pass  # deleted since
            except Corrupt as error:
                self.found += 1
                logger.error("the scrub found damage: %s", error)
            self._at = fragment
            await asyncio.sleep(length / self._rate)
        if not page:
            self.rounds += 1
            self._at = b""
            await asyncio.sleep(ROUND_PAUSE_S)
