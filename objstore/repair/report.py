"""What repair says of itself: its state in one word and one line, progress of the present repair, events. Pure.

A repair (an *episode*) begins when there is work and ends when the debt is zero. Who takes over as leader goes on
with the episode of the last survey: the debt is measured anew, what was done is carried over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from objstore.model.cluster import ErasureCode
from objstore.model.survey import EVENTS_KEPT, Event, Receipt, RepairProgress, RepairState, Survey
from objstore.repair.progress import RateWindow


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the state of repair is judged from."""

    code: ErasureCode
    members: int
    live: int
    debt: int = 0  # objects, and parts of uploads, that are not as they should be
    bytes_left: int = 0
    restored: int = 0  # objects that left the debt since this leader began
    in_work: int = 0  # segments
    waiting: int = 0
    blocked: int = 0
    hopeless: int = 0  # objects, and parts of uploads, that too few shards are left of
    rescuers: Sequence[str] = ()  # names of members that do not answer and may make some of these readable
    retrying: int = 0
    failed: int = 0
    retries: int = 0  # since this leader began
    last_error: str = ""
    moving: str = ""  # a layout change is under way: how far it is
    moving_held_up: str = ""
    silent: Sequence[str] = ()  # names of members that may come back
    rebuild_in_s: float | None = None  # when the first of these is given up
    throttled: bool = False
    paused: bool = False
    breaker_tripped: bool = False


def judge(now: Situation) -> tuple[RepairState, str]:
    """The word and the line. What stops repair comes before what it does, and that before what it waits for."""
    if now.paused:
        return "paused", f"paused by an operator; {_backlog(now)}"
    if now.moving_held_up:
        return "blocked", now.moving_held_up
    if now.in_work:
        return ("throttled", "at the bandwidth limit") if now.throttled else ("running", "")
    if now.moving:
        return "running", now.moving
    if now.debt == 0:
        return "idle", "deletions are at their hourly limit; garbage stays for now" if now.breaker_tripped else ""
    if now.failed and now.failed >= now.retrying:
        return "failed", f"{_count(now.failed, 'segment')} failed many times; the last error: {now.last_error}"
    if now.retrying:
        return "running", f"{_count(now.retrying, 'segment')} failed, to be tried again soon: {now.last_error}"
    if now.hopeless:
        return _unreadable(now)
    return _idle_with_debt(now)


def _unreadable(now: Situation) -> tuple[RepairState, str]:
    objects = _count(now.hopeless, "object")
    if now.rescuers:
        return "blocked", f"too few shards of {objects} answer: {' '.join(now.rescuers)} must return"
    return "failed", f"too many shards of {objects} are damaged; restore or delete them"


def _idle_with_debt(now: Situation) -> tuple[RepairState, str]:
    if now.silent:
        names = " ".join(now.silent)
        when = f" in {now.rebuild_in_s:.0f} s" if now.rebuild_in_s is not None else ""
        if len(now.silent) > 1:
            return "waiting", f"{names} do not answer; their share is rebuilt elsewhere{when} unless they return"
        return "waiting", f"{names} does not answer; its share is rebuilt elsewhere{when} unless it returns"
    if now.blocked or now.live < now.code.nodes_min:
        return "blocked", f"EC {now.code} needs {now.code.nodes_min} nodes, {now.live} are up"
    return "running", "metadata replicas are brought up to date"


def _backlog(now: Situation) -> str:
    if not now.debt:
        return "nothing waits"
    return f"{_count(now.debt, 'object')} {'waits' if now.debt == 1 else 'wait'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class Ledger:
    """The present episode, and what happened lately."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.receipt: Receipt | None = None
        self._rate = RateWindow()
        self._started_ms = 0
        self._before = (0, 0)  # objects and bytes that earlier leaders did in this episode
        self._bytes = 0  # since this leader began
        self._zero = (0, 0, 0)  # restored, bytes and retries when all was well last
        self._last_restored = 0

    def take_over(self, last: Survey | None) -> None:
        if last is None:
            return
        self.events.extend(last.events)
        self.receipt = last.receipt
        self._started_ms = last.repair.started_ms
        if self._started_ms:
            self._before = (last.repair.done, last.repair.bytes_done)

    def note(self, now_ms: int, text: str) -> None:
        if not self.events or self.events[-1].text != text:
            self.events.append(Event(now_ms, text))

    def stored(self, now: float, size: int) -> None:
        self._bytes += size
        self._rate.add(now, size)

    def progress(self, now: float, now_ms: int, situation: Situation) -> RepairProgress:
        state, reason = judge(situation)
        works = bool(situation.in_work or situation.moving)
        if situation.restored > self._last_restored:
            self._rate.add(now, 0, situation.restored - self._last_restored)
        self._last_restored = situation.restored
        done = self._before[0] + situation.restored - self._zero[0]
        size = self._before[1] + self._bytes - self._zero[1]
        if situation.debt == 0 and not works:
            self._all_is_well(now_ms, done, size, situation)
            return RepairProgress(state=state, reason=reason)
        if works and not self._started_ms:
            self._started_ms = now_ms
            self._rate.begin(now)
            if situation.debt:
                self.note(now_ms, f"repair started: {_count(situation.debt, 'object')}")
        rates = self._rate.rates(now)
        return RepairProgress(
            state=state,
            reason=reason,
            done=done,
            total=done + situation.debt,
            bytes_done=size,
            bytes_total=size + situation.bytes_left,
            bytes_per_s=round(rates[0], 1) if rates else 0.0,
            eta_s=self._eta(now, state, situation),
            retrying=situation.retrying,
            failed=situation.failed,
            started_ms=self._started_ms,
        )

    def _eta(self, now: float, state: RepairState, situation: Situation) -> float | None:
        if state not in ("running", "throttled"):
            return None
        left = self._rate.eta_s(now, situation.bytes_left, situation.debt)
        return round(left, 1) if left is not None else None

    def _all_is_well(self, now_ms: int, done: int, size: int, situation: Situation) -> None:
        """Ends the episode, if one was going on."""
        if (self._started_ms and done) or size:
            started = self._started_ms or now_ms
            self.receipt = Receipt(started, now_ms, done, size, situation.retries - self._zero[2])
            took = f"{(now_ms - started) / 1000:.0f} s"
            self.note(now_ms, f"repair finished: {_count(done, 'object')}, {_size(size)} in {took}")
        self._started_ms = 0
        self._before = (0, 0)
        self._zero = (situation.restored, self._bytes, situation.retries)
