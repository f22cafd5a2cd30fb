"""How fast repair goes and how long it will take. Pure: `now` is given.

A small object costs calls and a large one bytes, so neither count alone tells how long the rest takes. What an
item costs, in bytes that would take as long, is learnt from how long jobs held the machines (their slots): a line
through size and time. The speed is what was done in the last seconds, in such bytes; so is what is left.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 15.0
SETTLE_S = 2.0  # a rate over less than this says nothing
JOBS_MIN = 3

# What is believed before anything was seen: an item costs as much as so many bytes. It counts as two jobs, one with no
# bytes and a large one, that took as long as this says for machines that are as fast as those that were seen.
_GUESS = 1 << 20
_GUESS_SIZE = 8 << 20
_FADES = 0.995  # per job: what was long ago counts less


class ItemCost:
    """The line t = item + byte * size, by least squares of relative errors."""

    def __init__(self) -> None:
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # of weight times 1, x, xx, t, xt
        self._pace = (0.0, 0.0)  # jobs, and of each the seconds per byte if the guess were right

    def add(self, size: int, seconds: float) -> None:
        self._sums = _plus(self._sums, _terms(size, seconds), _FADES)
        jobs, per_byte = self._pace
        self._pace = jobs * _FADES + 1, per_byte * _FADES + seconds / (_GUESS + size)

    @property
    def bytes_per_item(self) -> float:
        if not self._pace[0]:
            return _GUESS
        guess = self._pace[1] / self._pace[0]
        sums = self._sums
        for size in (0, _GUESS_SIZE):
            sums = _plus(sums, _terms(size, guess * (_GUESS + size)), 1.0)
        n, x, xx, t, xt = sums
        per_byte = max((n * xt - x * t) / (n * xx - x * x), guess / 20)
        per_item = max((t - per_byte * x) / n, guess * _GUESS / 20)
        return per_item / per_byte


_Sums = tuple[float, float, float, float, float]


def _terms(size: float, seconds: float) -> _Sums:
    weight = 1 / (_GUESS + size) ** 2
    return weight, weight * size, weight * size * size, weight * seconds, weight * size * seconds


def _plus(old: _Sums, new: _Sums, fades: float) -> _Sums:
    n, x, xx, t, xt = (a * fades + b for a, b in zip(old, new, strict=True))
    return n, x, xx, t, xt


class Speed:
    """Items and bytes done over the last WINDOW_S. Bytes: read and written, as `Flaw.traffic`."""

    def __init__(self) -> None:
        self.cost = ItemCost()
        self._done: deque[tuple[float, int, float, int]] = deque()  # when, items, traffic, written
        self._began: float | None = None
        self._jobs = 0

    def begin(self, now: float) -> None:
        """An episode starts: what was done before says nothing, what an item costs does."""
        self._done.clear()
        self._began = now
        self._jobs = 0

    def moved(self, now: float, traffic: float, written: int) -> None:
        self._done.append((now, 0, traffic, written))

    def finished(self, now: float, traffic: float, held_s: float) -> None:
        """One item, whose bytes were told by `moved` before."""
        if self._began is None:
            self._began = now
        self._jobs += 1
        self._done.append((now, 1, 0, 0))
        self.cost.add(round(traffic), held_s)

    def rates(self, now: float) -> tuple[float, float, float] | None:
        """(items, traffic, written bytes) per second; None while there is too little to tell."""
        while self._done and self._done[0][0] < now - WINDOW_S:
            self._done.popleft()
        if self._began is None or not self._done or now - self._began < SETTLE_S:
            return None
        span = min(WINDOW_S, now - self._began)
        return (
            sum(items for _, items, _, _ in self._done) / span,
            sum(traffic for _, _, traffic, _ in self._done) / span,
            sum(written for *_, written in self._done) / span,
        )

    def eta_s(self, now: float, items_left: int, traffic_left: float) -> float | None:
        """None: not known."""
        rates = self.rates(now)
        if rates is None or items_left <= 0 or self._jobs + len(self._done) < JOBS_MIN:
            return None
        per_item = self.cost.bytes_per_item
        speed = rates[0] * per_item + rates[1]
        return (items_left * per_item + max(0.0, traffic_left)) / speed if speed > 0 else None
