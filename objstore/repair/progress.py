"""How fast repair goes and how long it will take, from what it did in the last seconds. Pure: `now` is given."""

from __future__ import annotations

from collections import deque

WINDOW_S = 20.0
SETTLE_S = 3.0  # a rate over less than this says nothing


class RateWindow:
    """Bytes and objects done over the last WINDOW_S."""

    def __init__(self) -> None:
        self._done: deque[tuple[float, int, int]] = deque()
        self._began: float | None = None

    def begin(self, now: float) -> None:
        """A repair starts: forget the last one."""
        self._done.clear()
        self._began = now

    def add(self, now: float, size: int, objects: int = 0) -> None:
        if self._began is None:
            self._began = now
        self._done.append((now, size, objects))

    def rates(self, now: float) -> tuple[float, float] | None:
        """(bytes per second, objects per second); None while there is too little to tell."""
        while self._done and self._done[0][0] < now - WINDOW_S:
            self._done.popleft()
        if self._began is None or not self._done or now - self._began < SETTLE_S:
            return None
        span = min(WINDOW_S, now - self._began)
        return sum(size for _, size, _ in self._done) / span, sum(count for *_, count in self._done) / span

    def eta_s(self, now: float, bytes_left: int, objects_left: int) -> float | None:
        """The longer of what the bytes and the objects still take: small objects cost calls, not bytes."""
        rates = self.rates(now)
        if rates is None:
            return None
        times = [left / rate for left, rate in zip((bytes_left, objects_left), rates, strict=True) if rate > 0]
        return max(times) if times else None
