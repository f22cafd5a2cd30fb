"""Claims: changes of one fragment follow each other, changes of different fragments do not wait.

A claim belongs to the request until its commit is queued; from then on to the `settled` call of that commit, so
that a cancelled request cannot let the next one in before its rows are decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Claim:
    __slots__ = ("_busy", "_handed_over", "_names")

    def __init__(self, busy: dict[bytes, asyncio.Future[None]]) -> None:
        self._busy = busy
        self._names: list[bytes] = []
        self._handed_over = False

    async def take(self, names: Sequence[bytes]) -> None:
        """`names` ascending, so that two claims on several fragments never wait for each other."""
        loop = asyncio.get_running_loop()
        for name in names:
            while (turn := self._busy.get(name)) is not None:
                await asyncio.wait([turn])
            self._busy[name] = loop.create_future()
            self._names.append(name)

    def hand_over(self) -> None:
        """From now on only `release` ends it."""
        self._handed_over = True

    def release(self) -> None:
        for name in self._names:
            self._busy.pop(name).set_result(None)
        self._names.clear()

    def leave(self) -> None:
        if not self._handed_over:
            self.release()


class Claims:
    def __init__(self) -> None:
        self._busy: dict[bytes, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def hold(self, *names: bytes) -> AsyncIterator[Claim]:
        claim = Claim(self._busy)
        try:
            await claim.take(names)
            yield claim
        finally:
            claim.leave()
