"""Sends documents to targets, and knows of each whether it answers.

A target that fails is left alone for a while, twice as long after each failure; then one message tries it, and only
when that is answered do the others follow. So a dead target costs one connection now and then, whatever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from objstore.notify import messages
from objstore.ports import Clock

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # for a target to answer
AT_ONCE = 32  # connections to one target
PAUSE_S, PAUSE_MAX_S = 1.0, 300.0
UNKNOWN = "no target of this name is configured in this process"


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    secret: str = field(default="", repr=False)


@dataclass(slots=True)
class Health:
    """Of one target, as this process sees it."""

    delivered: int = 0
    failed: int = 0  # attempts
    given_up: int = 0  # events that were dropped undelivered
    failing_since_ms: int = 0  # 0: the last attempt was answered
    reason: str = ""
    failures: int = 0  # in a row, with a pause after each
    again_at: float = 0.0
    probing: bool = False


class Sender:
    def __init__(self, targets: Mapping[str, Target], region: str, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self.targets = targets
        self.region = region
        self.health: dict[str, Health] = {name: Health() for name in targets}
        self.counts: dict[str, dict[str, int]] = {name: {"delivered": 0, "failed": 0} for name in targets}
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._gates = {name: asyncio.Semaphore(AT_ONCE) for name in targets}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def now_ms(self) -> int:
        return self._clock.wall_ms()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def health_of(self, target: str) -> Health:
        """Also of one that is not configured, but that events are waiting for."""
        found = self.health.get(target)
        if found is None:
            found = self.health[target] = Health(reason=UNKNOWN)
        return found

    def may_try(self, target: str) -> bool:
        health = self.health.get(target)
        if health is None or target not in self.targets:
            return False
        return not health.failures or (not health.probing and self._clock.monotonic() >= health.again_at)

    async def send(self, target: str, body: bytes, delivery_id: str) -> bool:
        """Whether the target has answered with 2xx. False at once while it is left alone."""
        if not self.may_try(target):
            return False
        health = self.health[target]
        probe = health.failures > 0
        health.probing |= probe
        try:
            reason = await self.attempt(target, body, delivery_id)
        finally:
            if probe:
                health.probing = False
        self._note(target, health, reason, probe)
        return not reason

    async def attempt(self, target: str, body: bytes, delivery_id: str) -> str:
        """One POST, whatever is known of the target; why it has failed, or ""."""
        known = self.targets.get(target)
        if known is None:
            return UNKNOWN
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        headers = messages.headers(body, delivery_id, known.secret, self.now_ms())
        try:
            async with (
                self._gates[target],
                self._session.post(known.url, data=body, headers=headers, allow_redirects=False) as response,
            ):  # what it says beside its status is not read
                return "" if 200 <= response.status < 300 else f"it answered {response.status}"
        except TimeoutError:
            return f"it did not answer in {self._timeout.total:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    def _note(self, target: str, health: Health, reason: str, probe: bool) -> None:
        self.counts[target]["failed" if reason else "delivered"] += 1
        if not reason:
            if health.failures:
                log.info("notification target %s answers again", target)
            health.delivered += 1
            health.failures, health.failing_since_ms, health.reason = 0, 0, ""
            return
        health.failed += 1
        health.reason = reason
        if health.failures and not probe:
            return  # it was under way when another failed
        health.failing_since_ms = health.failing_since_ms or self.now_ms()
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(health.failures, 30))
        health.failures += 1
        health.again_at = self._clock.monotonic() + pause_s
        log.warning("notification target %s: %s; it is tried again in %.0f s", target, reason, pause_s)
