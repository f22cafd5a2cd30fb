"""How much room the node has, and who may still use it.

Three thresholds (P8): new fragments stop at the reserve, registers that make something visible stop at half of
it, and whatever gives space back (deletes, tombstones, promises, fences) goes on until the file system itself says no.
Asks the file system at most four times a second; in between it counts what volumes and journal took and gave.
"""

from __future__ import annotations

from collections.abc import Callable

from objstore.model.errors import InsufficientStorage
from objstore.node.volumes import Volumes, padded
from objstore.ports import Clock, Disk

_FRESH_S = 0.25


class Space:
    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        volumes: Volumes,
        records_bytes: Callable[[], int],
        capacity_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._volumes = volumes
        self._records_bytes = records_bytes
        self.capacity_bytes = capacity_bytes
        self.reserve_bytes = reserve_bytes
        self._asked_at = -_FRESH_S
        self._unused = 0  # free bytes plus those of kept extents and of the record journal, when asked

    def free_bytes(self) -> int:
        """Of the file system, or of the configured capacity if that is less. Reserved extents count as used."""
        now = self._clock.monotonic()
        kept = self._volumes.kept_bytes + self._records_bytes()
        reserved = self._volumes.reserved_bytes
        if not 0 <= now - self._asked_at < _FRESH_S:
            self._unused = self._disk.space()[0] + kept
            self._asked_at = now
        return max(0, min(self._unused, self.capacity_bytes) - kept - reserved)

    def need_for_fragment(self, length: int) -> None:
        free = self.free_bytes()
        if free - padded(length) < self.reserve_bytes:
            raise InsufficientStorage(
                f"No room for a fragment of {length} bytes: {free} bytes are free and {self.reserve_bytes} of them are "
                "reserved for metadata and deletes. Delete objects or add nodes."
            )

    def need_for_register(self) -> None:
        free = self.free_bytes()
        if free < self.reserve_bytes // 2:
            raise InsufficientStorage(
                f"No room for new metadata: {free} bytes are free, less than half of the reserve of "
                f"{self.reserve_bytes}. Delete objects or add nodes."
            )
