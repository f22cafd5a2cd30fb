"""How much repair may do at once: foreground first, and what is left over is used. Pure: `now` is given.

A delay-based controller (as LEDBAT, with the decrease of AIMD). Every call that repair makes to a node is a sample;
what it took above the least that such a call ever took is time spent in queues. While the median of these delays
stays below a target the window (operations in flight) grows, above it the window shrinks. Alone, repair fills the
queues up to the target, so the machines are busy; when clients fill them, repair gives way, down to a floor. The
fewer losses the data survive, the more delay is put up with and the higher is the floor.

Whether somebody would notice is no guess: nodes count the calls that clients wait for. While there are some, queues
that repair makes itself are not welcome either, and the target is a small part of what it is otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from statistics import median

WINDOW_MAX = 16.0
WINDOW_START = 4.0
TARGET_S = 0.03  # delay in queues that repair may cause
STEP_S = 0.5  # between two changes of the window
SAMPLES_MIN = 4
SAMPLES_AGE_S = 2.0
GROWTH = 1.5  # of the window per step, when there is no delay at all
SHRINK = 0.5  # the most that is kept away of the window per step
BASE_SPAN_S = 60.0  # the least time of a call is remembered for BASE_SPANS of these
BASE_SPANS = 10
FLOOR = 1.0  # to rest besides would make it no shorter for clients, where the delay is theirs or of others
OPEN_FLOOR = 4.0
OPEN_TARGET = 8.0  # times TARGET_S, when nothing more may be lost
HELD_BACK_BELOW = 2.0
CLIENTS_TARGET = 0.02  # times the target, while clients are under way
CLIENTS_START = 1.0
CLIENTS_CALLS_MIN = 2  # of a node, between two of its reports
CLIENTS_AGE_S = 5.0  # for so long after their last call clients count as under way


class Base:
    """The least time that a kind of call took within the last minutes: what it takes when nothing is in its way."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=BASE_SPANS)  # (begin, least)

    def add(self, now: float, seconds: float) -> float:
        if not self._spans or now - self._spans[-1][0] >= BASE_SPAN_S:
            self._spans.append((now, seconds))
        elif seconds < self._spans[-1][1]:
            self._spans[-1] = (self._spans[-1][0], seconds)
        return min(least for _, least in self._spans)


class Throttle:
    """`window`: how many operations may be in flight."""

    def __init__(self) -> None:
        self.window = WINDOW_START
        self._bases: dict[Hashable, Base] = {}
        self._samples: deque[tuple[float, float, float]] = deque()  # (when, seconds, base)
        self._stepped_at = float("-inf")
        self._delay_s = 0.0
        self._typical = (0.0, 0.0)  # seconds, and of that at rest
        self._calls: dict[Hashable, int] = {}  # of clients, by node
        self._clients_at = float("-inf")
        self.among_clients = False  # as of the last step

    def observe(self, now: float, kind: Hashable, seconds: float) -> None:
        """A call of this kind took so long. Calls of one kind take the same when nothing is in their way."""
        base = self._bases.setdefault(kind, Base()).add(now, seconds)
        self._samples.append((now, seconds, base))

    def hear(self, now: float, node: Hashable, calls: int) -> None:
        """So many calls of clients this node has had since it was started."""
        if calls - self._calls.get(node, calls) >= CLIENTS_CALLS_MIN:
            self._clients_at = now
        self._calls[node] = calls

    def step(self, now: float, *, margin: int | None, in_use: float) -> None:
        """Change the window, every STEP_S. margin: losses that what is repaired now survives; None = all of them,
        as in a rebalance. in_use: operations that were in flight: a window that is not filled does not grow."""
        if now - self._stepped_at < STEP_S:
            return
        self._stepped_at = now
        floor, target_s = _limits(margin)
        self.among_clients = now - self._clients_at < CLIENTS_AGE_S
        while self._samples and self._samples[0][0] < now - SAMPLES_AGE_S:
            self._samples.popleft()
        if len(self._samples) >= SAMPLES_MIN:
            self._delay_s = median(seconds - base for _, seconds, base in self._samples)
            self._typical = median(s for _, s, _ in self._samples), median(base for *_, base in self._samples)
            if self.among_clients:
                off = self._delay_s / (target_s * CLIENTS_TARGET)
            else:
                off = self._delay_s / max(target_s, self._typical[1])
            if off > 1:
                self.window *= max(1 - SHRINK, 1 / off)
            elif in_use + 1 >= self.window:
                self.window += GROWTH * (1 - off)
        if self.among_clients and not in_use:
            self.window = min(self.window, CLIENTS_START)  # what it was says nothing of the clients of today
        self.window = min(WINDOW_MAX, max(floor, self.window))

    @property
    def why(self) -> str:
        """Why it is held back, or ""."""
        if self.window >= HELD_BACK_BELOW:
            return ""
        seconds, base = self._typical
        who = "clients come first" if self.among_clients else "the nodes are busy"
        return f"{who}: {_ms(seconds)} for what takes {_ms(base)} at rest"


def _limits(margin: int | None) -> tuple[float, float]:
    """(least window, delay that is put up with)."""
    if margin is None:
        return FLOOR, TARGET_S / 2
    if margin <= 0:
        return OPEN_FLOOR, TARGET_S * OPEN_TARGET
    return FLOOR, TARGET_S * 2 if margin == 1 else TARGET_S


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"
