"""Which blocking work belongs on the event loop: what takes less than handing it to a thread and back is worth.

A thread costs two changes of context, a wait for the interpreter and some futures, on a busy machine more than what it
is given: a read that the page cache has, a sync of a fast disk. So work goes on the loop while it is quick, and has a
thread as soon as it is not, in which it goes on being timed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

QUICK_S: Final = 0.003  # others may wait for the loop so long
_WEIGHT: Final = 1 / 8  # of the newest

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Pace:
    """Of one kind of work. `quick_s` 0: it always has a thread. `monotonic`: seconds, from an arbitrary origin."""

    def __init__(self, quick_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._quick_s = quick_s
        self._usual_s = 0.0
        self.now = monotonic

    @property
    def is_quick(self) -> bool:
        return self._usual_s < self._quick_s

    def note(self, began: float) -> None:
        """It began then, by `now`, and has just ended."""
        self._usual_s += (self.now() - began - self._usual_s) * _WEIGHT

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Its result, from the event loop or from a thread."""

        def timed() -> _T:
            began = self.now()
            result = work(*args, **kwargs)
            self.note(began)
            return result

        return timed() if self.is_quick else await asyncio.get_running_loop().run_in_executor(None, timed)
