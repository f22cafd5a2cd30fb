"""The real clock. The simulated one is in tests/sim."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports.Clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
