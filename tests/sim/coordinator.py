"""The coordinator in memory: the pure store behind the port, with a clock that tests set, and a switch to be away."""

from __future__ import annotations

import asyncio

from objstore.cluster.port import Entry
from objstore.cluster.store import CoordinatorStore
from objstore.model.errors import Unreachable
from objstore.ports import Clock


class ManualClock:
    """Implements ports.Clock; time passes only by `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def advance(self, seconds: float) -> None:
        self.now += seconds


class LocalCoordinator:
    """Implements cluster.port.Coordinator. While `away` every call fails as an unreachable process does."""

    def __init__(self, store: CoordinatorStore, clock: Clock) -> None:
        self.store = store
        self.away = False
        self._clock = clock
        self._changed = asyncio.Event()

    async def get(self, key: str) -> Entry | None:
        self._enter()
        return self.store.get(key)

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        self._enter()
        return self.store.range(prefix), self.store.revision

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        self._enter()
        now = self._clock.monotonic()
        change = self.store.plan_put(key, value, lease=lease, expected=expected, now=now)
        if change is None:
            return None
        self.store.apply(change)
        self.wake()
        return change.revision

    async def delete(self, key: str, *, expected: int | None = None) -> bool:
        self._enter()
        change = self.store.plan_delete(key, expected=expected)
        if change is None:
            return False
        self.store.apply(change)
        self.wake()
        return True

    async def grant(self, ttl_s: float) -> int:
        self._enter()
        return self.store.grant(ttl_s, self._clock.monotonic())

    async def keep_alive(self, lease: int) -> bool:
        self._enter()
        return self.store.keep_alive(lease, self._clock.monotonic())

    async def revoke(self, lease: int) -> None:
        self._enter()
        if self.store.revoke(lease):
            self.wake()

    async def watch(self, prefix: str, after_revision: int, timeout_s: float) -> int:
        self._enter()
        try:
            async with asyncio.timeout(timeout_s):
                while (newest := self.store.newest(prefix, after_revision)) == after_revision:
                    await self._changed.wait()
                    self._enter()
        except TimeoutError:
            return after_revision
        return newest

    async def close(self) -> None: ...

    def wake(self) -> None:
        """Let watches look again: after a change of the store, or of `away`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _enter(self) -> None:
        if self.away:
            raise Unreachable("the coordinator is away")
        if self.store.expire(self._clock.monotonic()):
            self.wake()
