"""Delivers what no gateway has: the pending events of all registers, as the survey has found them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from objstore.engine.calls import in_parallel
from objstore.model.errors import ObjstoreError
from objstore.model.limits import EVENT_KEPT_MS
from objstore.model.notification import Waiting
from objstore.model.records import RegisterKey
from objstore.model.survey import TargetReport
from objstore.notify.outbox import Registers, deliver
from objstore.notify.sender import UNKNOWN, Sender

log = logging.getLogger(__name__)

WIDTH = 32
PER_ROUND = 2048  # registers
YIELD_EVERY = 4096
GRACE_S = 5.0  # from when an event is first seen here: so long it is left to the gateway that wrote it


Pending = Mapping[bytes, tuple[Waiting, ...]]


class Sweeper:
    """`pending`: packed register keys with what waits there, as last seen."""

    def __init__(self, registers: Registers, sender: Sender, pending: Pending, grace_s: float = GRACE_S) -> None:
        self._registers = registers
        self._sender = sender
        self._pending = pending
        self._grace_s = grace_s
        self._seen: dict[bytes, tuple[int, float]] = {}  # of registers: their oldest event, since when it is known here
        self.report: list[TargetReport] = []

    async def sweep(self, may_act: Callable[[], bool]) -> None:
        """One round."""
        due = await self._look()

        async def one(key: bytes) -> None:
            if not may_act() or not any(self._is_due(key, one) for one in self._pending.get(key, ())):
                return
            try:
                await deliver(self._registers, self._sender, RegisterKey.unpack(key))
            except ObjstoreError as error:
                log.info("events of register %s wait: %s", key.hex(), error)

        await in_parallel(WIDTH, due[:PER_ROUND], one)
        await self._look()

    async def _look(self) -> list[bytes]:
        """Report what is pending; registers to be delivered now, those that wait longest first."""
        now = self._sender.monotonic()
        counts: dict[str, tuple[int, int]] = dict.fromkeys(self._sender.health, (0, 0))
        before, self._seen = self._seen, {}
        due: list[tuple[float, bytes]] = []
        for number, (key, waiting) in enumerate(list(self._pending.items()), 1):
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            oldest_ms = min(one.oldest_ms for one in waiting)
            known = before.get(key)
            self._seen[key] = known if known is not None and known[0] == oldest_ms else (oldest_ms, now)
            if any(self._is_due(key, one) for one in waiting):
                due.append((self._seen[key][1], key))
            for one in waiting:
                events, oldest = counts.get(one.target, (0, 0))
                counts[one.target] = (events + one.events, min(oldest or one.oldest_ms, one.oldest_ms))
        self.report = [self._report(name, *counts[name]) for name in sorted(counts)]
        return [key for _, key in sorted(due)]

    def _is_due(self, key: bytes, waiting: Waiting) -> bool:
        """Its target can be tried, or it has been tried for long enough. How long an event is left to its gateway goes
        by our own clock: that of the gateway, which the event bears, may be wrong."""
        if waiting.oldest_ms < self._sender.now_ms() - EVENT_KEPT_MS:
            return True
        _, since = self._seen.get(key, (0, float("inf")))
        return self._sender.monotonic() - since >= self._grace_s and self._sender.may_try(waiting.target)

    def _report(self, name: str, events: int, oldest_ms: int) -> TargetReport:
        known = self._sender.targets.get(name)
        health = self._sender.health_of(name)
        since_ms = health.failing_since_ms
        if known is None and events:
            since_ms, health.reason = oldest_ms, UNKNOWN
        return TargetReport(
            name,
            known.url.partition("?")[0] if known is not None else "",  # the rest may be a secret
            events,
            oldest_ms,
            health.delivered,
            health.failed,
            health.given_up,
            since_ms,
            health.reason if since_ms else "",
        )
