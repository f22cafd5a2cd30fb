"""A bound on the payload bytes that a node works on at once; who comes too late waits in line, then is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from objstore.model import limits
from objstore.model.errors import Overloaded

BYTES_MAX = 48 * limits.MIB
WAITING_MAX = 512

assert BYTES_MAX >= limits.RPC_PAYLOAD_BYTES_MAX


class PayloadBudget:
    def __init__(self, bytes_max: int = BYTES_MAX, waiting_max: int = WAITING_MAX) -> None:
        self._free = self._bytes_max = bytes_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()  # first come, first served

    @property
    def is_used(self) -> bool:
        return self._free < self._bytes_max

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        count = min(count, self._bytes_max)
        if self._waiting or count > self._free:
            await self._wait(count)
        else:
            self._free -= count
        try:
            yield
        finally:
            self._give_back(count)

    async def _wait(self, count: int) -> None:
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("Too many large reads and writes wait for the disk of this node; retry.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, count))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(count)  # it had just become our turn
            raise

    def _give_back(self, count: int) -> None:
        self._free += count
        while self._waiting:
            turn, wanted = self._waiting[0]
            if not turn.done():
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            self._waiting.popleft()
