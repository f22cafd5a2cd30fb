"""When a gateway could not be expected to answer: only then may a request to it break or take long."""

from __future__ import annotations

import threading
import time
from math import inf

AFTERMATH_S = 3.0  # connections of the life before break at their next use; clients drop them after 2 s without one


class Outages:
    """Of any number of gateways, by name. Written by whoever does the harm, read by those who judge requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[str, list[tuple[float, float]]] = {}

    def begin(self, name: str) -> None:
        """Call it before the harm is done."""
        with self._lock:
            self._spans.setdefault(name, []).append((time.monotonic(), inf))

    def end(self, name: str) -> None:
        """Call it after the gateway serves again."""
        with self._lock:
            start, _ = self._spans[name].pop()
            self._spans[name].append((start, time.monotonic() + AFTERMATH_S))

    def is_out(self, name: str) -> bool:
        with self._lock:
            return any(start <= time.monotonic() < end for start, end in self._spans.get(name, ()))

    def touches(self, name: str, start: float, end: float) -> bool:
        with self._lock:
            return any(start <= over and end >= since for since, over in self._spans.get(name, ()))
