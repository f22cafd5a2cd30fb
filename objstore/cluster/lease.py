"""Keeping one key alive in the coordinator: "this process is here, and this is what it says of itself".

Invariants: nothing is ever raised to the owner, whatever the coordinator does; the key comes back by itself
after the coordinator lost the lease (restart), this process was paused past it, or somebody took the key; a changed
value is put at the next beat. A process that stops without `close` is forgotten after ttl_s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from objstore.cluster.port import Coordinator
from objstore.model.errors import ObjstoreError
from objstore.ports import Clock

log = logging.getLogger(__name__)

BEATS_PER_TTL = 3
REVOKE_TIMEOUT_S = 1.0


def refreshed_every(seconds: float, clock: Clock, make: Callable[[], bytes]) -> Callable[[], bytes]:
    """`make` at most so often: a value that changes with every call would be put with every heartbeat."""
    made, at = make(), clock.monotonic()

    def value() -> bytes:
        nonlocal made, at
        if clock.monotonic() - at >= seconds:
            made, at = make(), clock.monotonic()
        return made

    return value


class Heartbeat:
    """Beats every ttl_s / BEATS_PER_TTL. `make_value` is called at each beat."""

    def __init__(self, coordinator: Coordinator, key: str, make_value: Callable[[], bytes], ttl_s: float) -> None:
        self._coordinator = coordinator
        self._key = key
        self._make_value = make_value
        self._ttl_s = ttl_s
        self._lease = 0  # 0 = none
        self._published: tuple[bytes, int] | None = None  # value and revision; None = not known to be there
        self._looked = 0  # beats since the key was last looked at
        self._silent = False  # the coordinator's absence is logged once
        self._task: asyncio.Task[None] | None = None
        self._heard_at: float | None = None  # by the clock of the loop

    @property
    def silence_s(self) -> float | None:
        """Since the coordinator answered a beat; None: it never has."""
        return None if self._heard_at is None else asyncio.get_running_loop().time() - self._heard_at

    @property
    def registered(self) -> bool:
        """The last beat reached the coordinator and the key is there."""
        return self._published is not None and not self._silent

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"heartbeat {self._key}")

    async def close(self) -> None:
        """Stops, and takes the key away at once if the coordinator answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        lease, self._lease, self._published = self._lease, 0, None
        if lease:
            try:
                async with asyncio.timeout(REVOKE_TIMEOUT_S):
                    await self._coordinator.revoke(lease)
            except (ObjstoreError, TimeoutError) as error:
                log.info("%s stays until its lease ends: %s", self._key, error)

    async def _run(self) -> None:
        while True:
            try:
                await self._beat()
            except ObjstoreError as error:
                if not self._silent:
                    log.warning("cannot keep %s alive, trying on: %s", self._key, error)
                self._silent = True
            except Exception:
                log.exception("heartbeat %s failed; trying on", self._key)
            await asyncio.sleep(self._ttl_s / BEATS_PER_TTL)

    async def _beat(self) -> None:
        if self._lease and not await self._coordinator.keep_alive(self._lease):
            log.warning("the lease of %s was lost; registering again", self._key)
            self._lease, self._published = 0, None
        if not self._lease:
            self._lease = await self._coordinator.grant(self._ttl_s)
        self._looked += 1
        if self._published is not None and self._looked >= BEATS_PER_TTL:  # rarely: it costs as much as the beat itself
            self._looked = 0
            if not await self._is_there():
                self._published = None
        value = self._make_value()
        if self._published is None or self._published[0] != value:
            await self._publish(value)
        if self._silent:
            log.info("the coordinator answers again; %s is registered", self._key)
        self._silent = False
        self._heard_at = asyncio.get_running_loop().time()

    async def _is_there(self) -> bool:
        """The key may have gone although the lease lives: a late message of a former process of this name can
        have put it under that process's lease, which then ended."""
        found = await self._coordinator.get(self._key)
        if found is not None and found.lease != self._lease:
            self._complain()
        return found is not None and found.lease == self._lease

    def _complain(self) -> None:
        log.error("another process registers as %s too; only one may have this identity: stop one", self._key)

    async def _publish(self, value: bytes) -> None:
        expected = self._published[1] if self._published else None
        self._published = None  # unknown if the answer does not come
        revision = await self._coordinator.put(self._key, value, lease=self._lease, expected=expected)
        if revision is not None:
            self._published = value, revision
        elif expected is None:
            self._lease = 0  # it ended just now
        else:
            found = await self._coordinator.get(self._key)
            if found is not None and found.lease != self._lease:
                self._complain()
