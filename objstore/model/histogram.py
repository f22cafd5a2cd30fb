"""How a duration is distributed: counts by upper bounds, as Prometheus wants them, cheap enough for every request."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram(msgspec.Struct):
    """`counts`: of values at most the bound of that place and above the one before; the last: above all bounds."""

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = []
    total: float = 0.0  # sum of all values

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """The values of another process, with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """An upper bound of it: the bound of the place where it lies; infinity above the last, 0 with no value."""
        left = share * self.count
        if left <= 0:
            return 0.0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            left -= count
            if left <= 0:
                return bound
        return float("inf")
