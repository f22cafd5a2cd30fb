"""What repair says of itself: its state in one word and one line, progress, receipts, events. Pure.

Two kinds of work have *episodes*: a repair, while shards or metadata replicas are missing, and a rebalance, while
something is not where it belongs. Each begins when there is work and ends when its debt is zero; what is shown is the
repair if there is one. Who takes over as leader goes on with the episodes of the last survey: the debt is measured
anew, what was done is carried over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from objstore.model.cluster import ErasureCode
from objstore.model.survey import (
    EVENTS_KEPT,
    RECEIPTS_KEPT,
    Budget,
    Episode,
    Event,
    Kind,
    Receipt,
    RepairProgress,
    RepairState,
    Survey,
)
from objstore.repair.progress import Speed
from objstore.repair.tally import Left

_NOTHING = Left()


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the state of repair is judged from."""

    code: ErasureCode
    members: int
    live: int
    debt: int = 0  # objects, and parts of uploads, that miss something
    misplaced: int = 0  # ... that are whole, but not where they belong
    left: Left = _NOTHING  # of the repair
    left_to_move: Left = _NOTHING
    in_flight: Left = _NOTHING  # what jobs that go on have done already: it is still counted as left
    restored: int = 0  # objects that left the debt since this leader began
    rehomed: int = 0  # objects that are where they belong since this leader began
    in_work: int = 0  # segments
    only_moves: bool = False  # ... and all of them are whole
    waiting: int = 0
    blocked: int = 0
    no_room: int = 0
    full: Sequence[str] = ()  # names of members that have no room for what is parked
    hopeless: int = 0  # objects, and parts of uploads, that too few shards are left of
    rescuers: Sequence[str] = ()  # names of members that do not answer and may make some of these readable
    retrying: int = 0
    failed: int = 0
    last_error: str = ""
    moving: str = ""  # a layout change is under way: how far it is
    moving_held_up: str = ""
    silent: Sequence[str] = ()  # names of members that may come back
    rebuild_in_s: float | None = None  # when the first of these is given up
    why_slow: str = ""  # why it is held back, or ""
    paused: bool = False
    rebalance_paused: bool = False
    paused_for_s: float | None = None  # the pause ends by itself then
    budget: Budget = "auto"
    orders: int = 0
    breaker_tripped: bool = False

    @property
    def kind(self) -> Kind:
        return "rebalance" if self.only_moves or (self.misplaced and not self.debt) else "repair"


def judge(now: Situation) -> tuple[RepairState, str]:
    """The word and the line. What stops repair comes before what it does, and that before what it waits for."""
    if now.paused:
        return "paused", f"paused by an operator{_for(now)}; {_backlog(now)}"
    if now.moving_held_up:
        return "blocked", now.moving_held_up
    if now.in_work:
        return ("throttled", now.why_slow) if now.why_slow else ("running", "")
    if now.moving:
        return "running", now.moving
    if now.debt + now.misplaced == 0:
        return "idle", "deletions are at their hourly limit; garbage stays for now" if now.breaker_tripped else ""
    if now.failed and now.failed >= now.retrying:
        return "failed", f"{_count(now.failed, 'segment')} failed many times; the last error: {now.last_error}"
    if now.retrying:
        return "running", f"{_count(now.retrying, 'segment')} failed, to be tried again soon: {now.last_error}"
    if now.hopeless:
        return _unreadable(now)
    if now.debt:
        return _idle_with_debt(now)
    if now.no_room:
        return "waiting", f"{_full(now)}: {_count(now.misplaced, 'object')} whole, but not at home until there is room"
    if now.rebalance_paused:
        waiting = f"{_count(now.misplaced, 'object')} {'is' if now.misplaced == 1 else 'are'} whole, but not at home"
        return "paused", f"moves are paused by an operator{_for(now)}; {waiting}"
    return "running", ""


def _for(now: Situation) -> str:
    if now.paused_for_s is None:
        return ""
    minutes, seconds = divmod(round(now.paused_for_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f" for {left} more"


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
    if now.no_room:
        return "blocked", f"{_full(now)}, and no other node can take its shards: delete objects or add nodes"
    if now.blocked or now.live < now.code.nodes_min:
        return "blocked", f"EC {now.code} needs {now.code.nodes_min} nodes, {now.live} are up"
    return "running", "metadata replicas are brought up to date"


def _full(now: Situation) -> str:
    return f"{' '.join(now.full) or 'a node'} {'is' if len(now.full) < 2 else 'are'} full (NODE_FULL)"


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


@dataclass(slots=True)
class _Episode:
    """`before`: objects, bytes and retries that earlier leaders did in this episode. `zero`: the same figures of
    this leader when all was well last."""

    kind: Kind
    started_ms: int = 0
    before: tuple[int, int, int] = (0, 0, 0)
    zero: tuple[int, int, int] = (0, 0, 0)
    speed: Speed = field(default_factory=Speed)
    worked_s: float = 0.0

    def done(self, figures: tuple[int, int, int]) -> tuple[int, int, int]:
        objects, size, retries = (b + f - z for b, f, z in zip(self.before, figures, self.zero, strict=True))
        return objects, size, retries

    def end(self, figures: tuple[int, int, int]) -> None:
        self.started_ms = 0
        self.worked_s = 0.0
        self.before = (0, 0, 0)
        self.zero = figures


def _hides_moves(now: Situation) -> bool:
    """Who is away wants its shards when it is back, and what is damaged may have to move once it is whole."""
    return bool(now.silent) or now.debt > now.hopeless


RESTED_S = 3.0  # after so long without work of a kind its old rate says nothing
TAIL_S = 0.5  # from the last byte until it was seen that all is well, and published


class Ledger:
    """The present episodes, and what happened lately."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.receipts: deque[Receipt] = deque(maxlen=RECEIPTS_KEPT)
        self.written: dict[Kind, int] = {"repair": 0, "rebalance": 0}  # bytes stored, since this leader began
        self._both: dict[Kind, _Episode] = {"repair": _Episode("repair"), "rebalance": _Episode("rebalance")}
        self._retries: dict[Kind, int] = {"repair": 0, "rebalance": 0}
        self._worked_at: dict[Kind, float] = {}

    def take_over(self, last: Survey | None) -> None:
        if last is None:
            return
        self.events.extend(last.events)
        self.receipts.extend(last.receipts or ([last.receipt] if last.receipt else []))
        for one in last.episodes:
            episode = self._both[one.kind]
            episode.started_ms = one.started_ms
            episode.before = (one.objects, one.bytes, one.retries)
            episode.worked_s = one.worked_s

    def note(self, now_ms: int, text: str) -> None:
        if not self.events or self.events[-1].text != text:
            self.events.append(Event(now_ms, text))

    # --- what jobs tell ---

    def moved(self, now: float, kind: Kind, traffic: float, written: int) -> None:
        """A part of a job is done."""
        self._both[kind].speed.moved(now, traffic, written)

    def finished(self, now: float, kind: Kind, traffic: float, held_s: float, stored: int) -> None:
        """A job is done; its bytes are on their disks and were read back."""
        self.written[kind] += stored
        self._both[kind].speed.finished(now, traffic, held_s)

    def failed(self, kind: Kind) -> None:
        self._retries[kind] += 1

    # --- what is shown ---

    @property
    def receipt(self) -> Receipt | None:
        return self.receipts[-1] if self.receipts else None

    def episodes(self, now: Situation) -> list[Episode]:
        return [
            Episode(kind, one.started_ms, *one.done(self._figures(kind, now)), worked_s=round(one.worked_s, 1))
            for kind, one in self._both.items()
            if one.started_ms
        ]

    def progress(self, now: float, now_ms: int, situation: Situation) -> RepairProgress:
        works = bool(situation.in_work or situation.moving)
        self._follow(now, now_ms, "repair", situation, situation.debt, works=works and situation.kind == "repair")
        self._follow(now, now_ms, "rebalance", situation, situation.misplaced, works=bool(situation.in_work))
        state, reason = judge(situation)
        kind = situation.kind
        episode = self._both[kind]
        if situation.in_work:
            since = now - self._worked_at.get(kind, float("-inf"))
            if since > RESTED_S:
                episode.speed.begin(now)
            else:
                episode.worked_s += since
            self._worked_at[kind] = now
        moved = self._both["rebalance"].done(self._figures("rebalance", situation))[1]
        plain = RepairProgress(
            state=state,
            reason=reason,
            kind=kind,
            throttle=situation.why_slow,
            budget=situation.budget,
            orders=situation.orders,
            rebalance_paused=situation.rebalance_paused,
            misplaced=situation.misplaced,
            moved_bytes=moved,
            paused_until_ms=now_ms + round(1000 * situation.paused_for_s) if situation.paused_for_s else 0,
        )
        debt = situation.debt if kind == "repair" else situation.misplaced
        if debt == 0 and not works:
            return plain
        return self._with_numbers(plain, now, episode, situation, debt)

    def _with_numbers(
        self, plain: RepairProgress, now: float, episode: _Episode, situation: Situation, debt: int
    ) -> RepairProgress:
        done, size, retries = episode.done(self._figures(episode.kind, situation))
        left = situation.left if episode.kind == "repair" else situation.left_to_move
        flying = situation.in_flight
        rates = episode.speed.rates(now)
        eta = None
        if plain.state in ("running", "throttled"):
            eta = episode.speed.eta_s(now, left.segments, left.traffic - flying.traffic)
        return msgspec.structs.replace(
            plain,
            done=done,
            total=done + debt,
            bytes_done=size + flying.to_write,
            bytes_total=size + max(left.to_write, flying.to_write),
            bytes_per_s=round(rates[2], 1) if rates else 0.0,
            items_per_s=round(rates[0], 1) if rates else 0.0,
            eta_s=round(eta + TAIL_S, 1) if eta is not None else None,
            retrying=situation.retrying,
            failed=situation.failed,
            retries=retries,
            started_ms=episode.started_ms,
        )

    def _figures(self, kind: Kind, now: Situation) -> tuple[int, int, int]:
        return now.restored if kind == "repair" else now.rehomed, self.written[kind], self._retries[kind]

    def _follow(self, now: float, now_ms: int, kind: Kind, situation: Situation, debt: int, *, works: bool) -> None:
        """Begin the episode, or end it."""
        episode = self._both[kind]
        if kind == "rebalance" and episode.started_ms and _hides_moves(situation):
            return
        if debt or works:
            if works and not episode.started_ms and (debt or kind == "repair"):
                episode.started_ms = now_ms
                if debt:
                    self.note(now_ms, f"{kind} started: {_count(debt, 'object')}")
            return
        figures = self._figures(kind, situation)
        done, size, retries = episode.done(figures)
        if (episode.started_ms and done) or size:
            started = episode.started_ms or now_ms
            worked_s = round(episode.worked_s, 1)
            self.receipts.append(Receipt(started, now_ms, done, size, retries, kind, worked_s=worked_s))
            took = f"{(now_ms - started) / 1000:.0f} s"
            self.note(now_ms, f"{kind} finished: {_count(done, 'object')}, {_size(size)} in {took}")
        episode.end(figures)
