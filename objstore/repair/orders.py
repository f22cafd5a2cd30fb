"""What operators asked of repair: read from the coordinator by whoever leads, so that it outlives every process."""

from __future__ import annotations

import logging

import msgspec

from objstore.cluster.port import REPAIR_CONTROL_KEY, Coordinator
from objstore.model.ids import BlobId
from objstore.model.survey import Budget, RepairControl, decode_control
from objstore.ports import Clock

log = logging.getLogger(__name__)


class Orders:
    def __init__(self, coordinator: Coordinator, clock: Clock, configured: Budget) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._configured = configured
        self._control: RepairControl | None = None

    async def read(self) -> frozenset[BlobId] | None:
        """Follow what is there now. Returns an order to try everything at once if there is a new one: the blobs that
        it is about, none for all. Raises Unavailable."""
        entry = await self._coordinator.get(REPAIR_CONTROL_KEY)
        try:
            control = decode_control(entry.value) if entry is not None else RepairControl()
            first = frozenset(BlobId(bytes.fromhex(blob)) for blob in control.first)
        except (msgspec.DecodeError, ValueError) as error:
            log.error("%s cannot be read and is ignored: %s", REPAIR_CONTROL_KEY, error)
            return None
        before, self._control = self._control, control
        return first if before is not None and control.now > before.now else None

    @property
    def followed(self) -> int:
        """The newest order."""
        return self._control.orders if self._control is not None else 0

    @property
    def known(self) -> bool:
        """They have been read once: nothing may be done before."""
        return self._control is not None

    @property
    def paused(self) -> bool:
        return self._control is None or self._control.pauses(self._clock.wall_ms())

    @property
    def rebalance_paused(self) -> bool:
        return self._control is None or self._control.pauses_rebalance(self._clock.wall_ms())

    @property
    def paused_for_s(self) -> float | None:
        """How much longer, if the pause ends by itself."""
        control = self._control or RepairControl()
        until_ms = control.until_ms if self.paused else control.rebalance_until_ms if self.rebalance_paused else 0
        return max(0.0, (until_ms - self._clock.wall_ms()) / 1000) if until_ms else None

    @property
    def budget(self) -> Budget:
        ordered = self._control.budget if self._control is not None else None
        return self._configured if ordered is None else ordered
