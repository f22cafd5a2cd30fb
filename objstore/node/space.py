"""How much room the node has, and who may still use it (P8).

Fullness is the share of what this node could hold on its disk that it does hold; what others keep on the same disk
makes the disk smaller. The index counts alike: of its map and of the volumes the fuller one decides. It has levels:

    near       people are warned
    full       no new data: gateways write to other nodes
    backfill   nothing from repair and rebalance either
    reserve    only what gives space back, or makes it possible: deletes, tombstones, promises, fences

A level is left some way below where it began, so that it does not flicker. Whatever gives space back goes on until the
file system itself says no; registers that make something visible, until half of the reserve is gone. That is told with
the promise, before any value is sent: a value refused afterwards could be on one replica and come to light later. Asks
the file system at most four times a second; in between it counts what volumes and journal took and gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from objstore.model.cluster import LEVELS, Level, is_at_least
from objstore.model.errors import InsufficientStorage
from objstore.node.volumes import Volumes, padded
from objstore.ports import KV, Clock, Disk

_FRESH_S = 0.25
HYSTERESIS = 0.02  # of the whole: a level ends so far below where it begins
INDEX_RESERVE = 0.03  # of the index: what a delete has to write before it gives anything back


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares of what the node could hold."""

    near: float = 0.85
    full: float = 0.92
    backfill: float = 0.95

    def __post_init__(self) -> None:
        assert 0 < self.near <= self.full <= self.backfill <= 1


@dataclass(frozen=True, slots=True)
class Room:
    """What the node may fill."""

    capacity_bytes: int
    reserve_bytes: int
    thresholds: Thresholds


class Usage(NamedTuple):
    used: int
    size: int

    @property
    def share(self) -> float:
        return self.used / self.size if self.size > 0 else 1.0


def level_of(share: float, is_reserve: bool, thresholds: Thresholds, before: Level) -> Level:
    """`is_reserve`: no more than the reserve is left. `before`: the level until now."""
    if is_reserve:
        return "reserve"
    begins = {"backfill": thresholds.backfill, "full": thresholds.full, "near": thresholds.near}
    for level in LEVELS[-2:0:-1]:
        if share >= begins[level] - (HYSTERESIS if is_at_least(before, level) else 0.0):
            return level
    return "ok"


class Space:
    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        volumes: Volumes,
        kv: KV,
        records_bytes: Callable[[], int],
        room: Room,
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._volumes = volumes
        self._kv = kv
        self._records_bytes = records_bytes
        self._thresholds = room.thresholds
        self.capacity_bytes = room.capacity_bytes
        self.reserve_bytes = room.reserve_bytes
        self._asked_at = -_FRESH_S
        self._unused = 0  # free bytes plus those of kept extents and of the record journal, when asked
        self._index = Usage(0, 1)  # when asked
        self._level: Level = "ok"

    # --- how it is ---

    def usage(self) -> Usage:
        """Of volumes and record journal; reserved extents count as used. The size is that of the file system or the
        configured capacity, without what others hold there."""
        now = self._clock.monotonic()
        kept = self._volumes.kept_bytes + self._records_bytes()
        if not 0 <= now - self._asked_at < _FRESH_S:
            self._unused = self._disk.space()[0] + kept
            self._index = Usage(*self._kv.usage())
            self._asked_at = now
        return Usage(kept + self._volumes.reserved_bytes, max(0, min(self._unused, self.capacity_bytes)))

    def free_bytes(self) -> int:
        used, size = self.usage()
        return max(0, size - used)

    def index(self) -> Usage:
        """Of the key-value store."""
        self.usage()
        return self._index

    def level(self) -> Level:
        usage = self.usage()
        short = usage.size - usage.used < self.reserve_bytes or self._index.share >= 1 - INDEX_RESERVE
        share = max(usage.share, self._index.share)
        self._level = level_of(share, short, self._thresholds, self._level)
        return self._level

    def room_bytes(self) -> int:
        """What it still takes of new data."""
        if is_at_least(self.level(), "full"):
            return 0
        used, size = self.usage()
        return max(0, min(int(size * self._thresholds.full) - used, size - used - self.reserve_bytes))

    # --- who may use it ---

    def need_for_fragment(self, length: int, *, backfill: bool = False) -> None:
        """`backfill`: it is no new data, but comes from repair or rebalance."""
        level = self.level()
        free = self.free_bytes()
        if free - padded(length) < self.reserve_bytes or level == "reserve":
            raise InsufficientStorage(
                f"No room for a fragment of {length} bytes: {free} bytes are free and {self.reserve_bytes} of them are "
                f"reserved for metadata and deletes{self._index_note()}. Delete objects or add nodes."
            )
        if is_at_least(level, "backfill" if backfill else "full"):
            limit = self._thresholds.backfill if backfill else self._thresholds.full
            what = "not even data of repair" if backfill else "no new data"
            share = max(self.usage().share, self._index.share)
            raise InsufficientStorage(
                f"No room for a fragment of {length} bytes: this node is {share:.0%} full and takes {what} from "
                f"{limit:.0%} on{self._index_note()}. Delete objects or add nodes."
            )

    def has_room_for_register(self) -> bool:
        return self.free_bytes() >= self.reserve_bytes // 2 and self._index.share < 1 - INDEX_RESERVE / 2

    def need_for_register(self) -> None:
        if self.has_room_for_register():
            return
        free = self.free_bytes()
        if free < self.reserve_bytes // 2:
            raise InsufficientStorage(
                f"No room for new metadata: {free} bytes are free, less than half of the reserve of "
                f"{self.reserve_bytes}. Delete objects or add nodes."
            )
        raise InsufficientStorage(f"No room for new metadata{self._index_note()}. Delete objects or add nodes.")

    def _index_note(self) -> str:
        """Only where it is the index that is short."""
        if self._index.share < self._thresholds.near:
            return ""
        return f"; its index uses {self._index.used} of {self._index.size} bytes"
