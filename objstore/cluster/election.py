"""One of several processes leads: it holds a key in the coordinator under a lease.

Invariant: at most one process sees `is_leader` at any time. The leader stops believing before its lease can
have ended, counted on its own monotonic clock from before the request that prolonged it, less a margin for
clocks that run at different rates; and a coordinator that forgot its leases lets nobody claim a key for as long
as one could have lasted (`CoordinatorStore.claims_from`). A process that was paused may still act for a moment
after it wakes: what a leader writes must be conditional (compare-and-swap) or safe to do twice.
"""

from __future__ import annotations

import asyncio
import logging

from objstore.cluster.port import Coordinator
from objstore.model.errors import ObjstoreError
from objstore.ports import Clock

log = logging.getLogger(__name__)

BEATS_PER_TTL = 4
MARGIN = 0.1  # of the ttl
REVOKE_TIMEOUT_S = 1.0


class Election:
    """`id`: what the key holds while this process leads."""

    def __init__(self, coordinator: Coordinator, clock: Clock, key: str, id: str, ttl_s: float) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._key = key
        self._id = id
        self._ttl_s = ttl_s
        self._lease = 0
        self._leader_until: float | None = None
        self._silent = False  # the coordinator's absence is logged once
        self._task: asyncio.Task[None] | None = None

    @property
    def is_leader(self) -> bool:
        """Ask before every step, not once."""
        return self._leader_until is not None and self._clock.monotonic() < self._leader_until

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"election {self._key}")

    async def close(self) -> None:
        """Stops leading; another may follow at once if the coordinator answers."""
        self._leader_until = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._leader_until = None
        lease, self._lease = self._lease, 0
        if lease:
            try:
                async with asyncio.timeout(REVOKE_TIMEOUT_S):
                    await self._coordinator.revoke(lease)
            except (ObjstoreError, TimeoutError) as error:
                log.info("%s stays taken until its lease ends: %s", self._key, error)

    async def _run(self) -> None:
        while True:
            try:
                vacancy_after = await self._hold()
                self._silent = False
                if vacancy_after is not None:
                    await self._coordinator.watch(self._key, vacancy_after, self._ttl_s / BEATS_PER_TTL)
                    continue
            except ObjstoreError as error:
                if not self._silent:
                    log.warning("nobody can be elected for %s now, trying on: %s", self._key, error)
                self._silent = True
            except Exception:
                log.exception("election %s failed; trying on", self._key)
            await asyncio.sleep(self._ttl_s / BEATS_PER_TTL)

    async def _hold(self) -> int | None:
        """Prolong or try to win. While another leads: the revision after which to watch for its end."""
        before = self._clock.monotonic()
        if not self._lease or not await self._coordinator.keep_alive(self._lease):
            self._resign("its lease ended")
            self._lease = await self._coordinator.grant(self._ttl_s)
        entries, revision = await self._coordinator.range(self._key)
        found = next((entry for entry in entries if entry.key == self._key), None)
        if found is None:
            self._resign("the key was removed")
            if await self._coordinator.put(self._key, self._id.encode(), lease=self._lease, expected=0) is None:
                return None  # another was faster, or nobody may claim it yet
        elif found.lease != self._lease:
            self._resign("another process has it")
            return revision
        if self._leader_until is None:
            log.info("%s leads %s", self._id, self._key)
        self._leader_until = before + self._ttl_s * (1 - MARGIN)
        return None

    def _resign(self, why: str) -> None:
        if self._leader_until is not None:
            log.warning("%s no longer leads %s: %s", self._id, self._key, why)
        self._leader_until = None
