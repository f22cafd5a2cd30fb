"""How long this node's group commits take: all of them as a histogram, and the usual time of late."""

from __future__ import annotations

from collections import deque
from statistics import median

from objstore.model.histogram import Histogram

RECENT_S = 60.0
RECENT_COUNT = 100
SAMPLE_MIN = 5  # fewer say nothing


class SyncTimes:
    def __init__(self) -> None:
        self.histogram = Histogram()
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_COUNT)

    def note(self, now: float, seconds: float) -> None:
        self.histogram.observe(seconds)
        self._recent.append((now, seconds))

    def usual_s(self, now: float) -> float:
        """The median of the last minute; 0 when there was too little to tell."""
        recent = [seconds for at, seconds in self._recent if now - at <= RECENT_S]
        return median(recent) if len(recent) >= SAMPLE_MIN else 0.0
