"""Real randomness, from the operating system: no state, so safe across fork and threads."""

from __future__ import annotations

import os
import random


class SystemRandom:
    """Implements ports.Random."""

    def __init__(self) -> None:
        self._source = random.SystemRandom()

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, low: float, high: float) -> float:
        return self._source.uniform(low, high)
