"""Durations counted into buckets that grow with them: constant memory, mergeable, 0.8 % wrong at most. Pure.

After the HDR histogram of G. Tene: a bucket for each of the upper 7 bits of a value, whatever its magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 7
_HALF = 1 << (_BITS - 1)


class Histogram:
    """Of whole microseconds."""

    def __init__(self, counts: Iterable[tuple[int, int]] = (), total_us: int = 0, longest_us: int = 0) -> None:
        self._counts: dict[int, int] = dict(counts)
        self.count = sum(self._counts.values())
        self.total_us = total_us
        self.longest_us = longest_us

    def record(self, us: int) -> None:
        shift = us.bit_length() - _BITS
        place = us if shift <= 0 else shift * _HALF + (us >> shift)
        self._counts[place] = self._counts.get(place, 0) + 1
        self.count += 1
        self.total_us += us
        if us > self.longest_us:
            self.longest_us = us

    def merge(self, other: Histogram) -> None:
        for place, count in other._counts.items():
            self._counts[place] = self._counts.get(place, 0) + count
        self.count += other.count
        self.total_us += other.total_us
        self.longest_us = max(self.longest_us, other.longest_us)

    @property
    def counts(self) -> list[tuple[int, int]]:
        """(bucket, count), to make an equal one of."""
        return sorted(self._counts.items())

    def quantile_us(self, share: float) -> float:
        """The middle of the bucket that holds it; 0.0 while nothing was recorded. `share`: 0..1."""
        wanted, seen = share * self.count, 0
        for place, count in self.counts:
            seen += count
            if seen >= wanted:
                low, width = _bounds(place)
                return min(low + (width - 1) / 2, float(self.longest_us))
        return 0.0

    @property
    def mean_us(self) -> float:
        return self.total_us / self.count if self.count else 0.0


def _bounds(place: int) -> tuple[int, int]:
    """The least value of a bucket, and how many whole values it holds."""
    if place < 2 * _HALF:
        return place, 1
    shift = place // _HALF - 1
    return (place - shift * _HALF) << shift, 1 << shift
