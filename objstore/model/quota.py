"""Quotas of buckets: what may be in one, and whether more would go beyond. Pure.

A quota is held against a *measurement*, which is seconds old, and what one gateway process has changed since
(`Spending`) or has let begin and not ended yet. So it is never exact: what all others write meanwhile comes on top.
What takes nothing more is never refused, so deletes always work, also far beyond the quota.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

SLOT_MS = 1000
SLOTS_MAX = 128  # of one bucket; while nobody measures, older ones are joined


class BucketQuota(msgspec.Struct, frozen=True, array_like=True):
    """0: no limit of that kind. `objects` counts versions, delete markers not."""

    bytes: int = 0
    objects: int = 0


class Need(NamedTuple):
    """What a write adds to a bucket; less than 0: what it takes away."""

    bytes: int = 0
    objects: int = 0

    def plus(self, other: Need) -> Need:
        return Need(self.bytes + other.bytes, self.objects + other.objects)

    def minus(self, other: Need) -> Need:
        return Need(self.bytes - other.bytes, self.objects - other.objects)


NOTHING = Need()


def is_beyond(quota: BucketQuota, used: Need, more: Need) -> bool:
    """Whether a write that adds `more` to what is used goes beyond the quota."""
    return (more.bytes > 0 and 0 < quota.bytes < used.bytes + more.bytes) or (
        more.objects > 0 and 0 < quota.objects < used.objects + more.objects
    )


class Spending:
    """What was changed since a moment that moves on: sums by the second.

    Of what is joined the later time counts: it is forgotten later than it could be, never sooner."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Need]] = deque()  # (the last moment that it counts for, sum), ascending

    def add(self, now_ms: int, need: Need) -> None:
        if self._slots and now_ms < self._slots[-1][0]:
            self._slots[-1] = (self._slots[-1][0], self._slots[-1][1].plus(need))
            return
        self._slots.append((now_ms + SLOT_MS, need))
        if len(self._slots) > SLOTS_MAX:
            slots = list(self._slots)
            pairs = zip(slots[0:-1:2], slots[1::2], strict=False)
            joined = [(later, one.plus(other)) for (_, one), (later, other) in pairs]
            self._slots = deque((*joined, *slots[2 * len(joined) :]))

    def since(self, as_of_ms: int) -> Need:
        """The sum of what came after; all before is forgotten."""
        while self._slots and self._slots[0][0] <= as_of_ms:
            self._slots.popleft()
        total = NOTHING
        for _, need in self._slots:
            total = total.plus(need)
        return total

    @property
    def is_empty(self) -> bool:
        return not self._slots
