"""The scrub: all that the node stores is read back by and by, so that rot is found while the other shards are there.

Round after round over the sources (`objstore.node.scrub_sources`): index rows, journal records, fragments. Slowly, and
behind everything else: at a bounded rate, and at a fraction of it while the node has something to commit or answers
clients, unless the round is late. A round is over in less than `CYCLE_S`, whatever rate was set: the rate rises with
what there is to read. Between two rounds is a rest, the longer the longer a round takes. How far it got is written down
now and then (`objstore.node.scrub_place`), so that a node that restarts often goes on where it was.

Wall clocks tell only when the next round begins, when a pause ends, and what people are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from objstore.model.errors import ObjstoreError
from objstore.model.scrubbing import CYCLE_S, ScrubControl, ScrubFound, ScrubMode, ScrubReport, ScrubState
from objstore.node.scrub_place import Place, Places, begun, completed, resumed
from objstore.ports import Clock

logger = logging.getLogger(__name__)

REST_MIN_S = 60.0  # between two rounds
REST_MAX_S = 86_400.0
REST_PER_ROUND = 10.0  # times what the round took
MARGIN = 1.2  # a round that must not take longer than CYCLE_S aims at less
SAVE_S = 30.0
RETRY_S = 1.0
LOOK_S = 1.0  # while it rests: how often it looks whether it should go on
NAP_S = 0.05  # it does not sleep for less
BUSY_NAP_S = 0.02
BUSY_TIMES = 15  # as long as its share of the rate allows, beside others: it goes on at a sixteenth of the rate
BUSY_TIMES_ASKED = 1  # ... when somebody waits for the round


class Step(NamedTuple):
    """Where a source has got to, how many bytes were looked at for that, and what was found."""

    at: bytes
    read: int
    found: ScrubFound = ScrubFound()


class Source(Protocol):
    def size(self, mode: ScrubMode) -> int:
        """Bytes that a round will look at, about."""

    async def step(self, at: bytes, mode: ScrubMode) -> Step | None:
        """Look at a little behind `at` (b"" = the beginning). None: there is no more."""


class Scrub:
    """`run` until cancelled. `rate`: bytes per second, as configured. `is_busy`: others have work for the disk.
    `calls`: how many of clients came so far; reads need the processor, which the scrub would take half of."""

    def __init__(
        self,
        sources: Sequence[Source],
        places: Places,
        clock: Clock,
        rate: int,
        is_busy: Callable[[], bool],
        calls: Callable[[], int] = lambda: 0,
    ) -> None:
        assert rate > 0
        self._sources = sources
        self._places = places
        self._clock = clock
        self._configured = rate
        self._is_busy = is_busy
        self._calls = calls
        self._calls_seen = 0
        self._control = ScrubControl()
        self._steered = asyncio.Event()
        self._place = Place()
        self._saved_at = clock.monotonic()
        self._owed_s = 0.0  # of sleep, for what was read
        self._granted_s = 0.0  # to others, for what was read

    # --- what is told and asked ---

    def steer(self, control: ScrubControl) -> None:
        """What an operator wants of all nodes."""
        if control != self._control:
            self._control = control
            self._steered.set()

    def report(self) -> ScrubReport:
        place = self._place
        total = self._total(place.mode)
        return ScrubReport(
            state=self._state(),
            mode=place.mode,
            done_bytes=min(place.done_bytes, total) if place.started_ms else 0,
            total_bytes=total,
            rate=self._rate(),
            started_ms=place.started_ms,
            found=place.found,
            found_ever=place.found_ever,
            last=place.last,
            obeyed=place.obeyed,
            since_ms=place.since_ms,
        )

    def _state(self) -> ScrubState:
        if self._control.pauses(self._clock.wall_ms()):
            return "paused"
        return "running" if self._place.started_ms else "idle"

    def _total(self, mode: ScrubMode) -> int:
        return sum(source.size(mode) for source in self._sources)

    def _rate(self) -> int:
        """So that a round ends in time in any case."""
        return max(self._control.rate or self._configured, int(self._total("full") * MARGIN / CYCLE_S))

    # --- work ---

    async def run(self) -> None:
        self._place = await self._places.load(self._clock.wall_ms())
        try:
            while True:
                try:
                    await self._turn()
                except (OSError, ObjstoreError) as error:  # it is overloaded, or ends
                    logger.info("the scrub waits: %s", error)
                    await asyncio.sleep(RETRY_S)
        finally:
            with contextlib.suppress(OSError):
                self._places.save_now(self._place)

    async def _turn(self) -> None:
        control, now_ms = self._control, self._clock.wall_ms()
        if control.pauses(now_ms):
            await self._rest(LOOK_S)
            return
        if control.start not in (0, self._place.asked):
            self._place = begun(self._place, now_ms, control.mode, control.start)
            await self._save()
        elif not self._place.started_ms:
            if not is_due(self._place, now_ms):
                await self._rest(LOOK_S)
                return
            self._place = begun(self._place, now_ms, "full", 0)
            await self._save()
        await self._step()
        if self._clock.monotonic() - self._saved_at >= SAVE_S:
            await self._save()

    async def _step(self) -> None:
        await self._let_others_go_first()
        place = self._place
        if place.source >= len(self._sources):
            await self._finish()
            return
        step = await self._sources[place.source].step(place.cursor, place.mode)
        if step is None:
            self._place = place.at_source(place.source + 1)
            return
        self._place = place.after(step.at, step.read, step.found)
        if step.found.total:
            await self._save()
        took_s = step.read / self._rate()
        self._owed_s += took_s
        self._granted_s += took_s * (BUSY_TIMES_ASKED if place.answers else BUSY_TIMES)
        if self._owed_s >= NAP_S:
            owed, self._owed_s = self._owed_s, 0.0
            await self._rest(owed)

    async def _finish(self) -> None:
        now_ms = self._clock.wall_ms()
        place = self._place
        what = f"a {place.mode} round of the scrub is complete: {place.done_bytes} bytes"
        logger.log(logging.WARNING if place.found.total else logging.INFO, "%s, found: %s", what, place.found)
        self._place = resumed(completed(place, now_ms))
        await self._save()

    async def _save(self) -> None:
        """Losing it costs reading a little again, so a full disk is no reason to stop."""
        self._saved_at = self._clock.monotonic()
        try:
            await self._places.save(self._place)
        except OSError as error:
            logger.warning("how far the scrub got cannot be written down now: %s", error)

    async def _let_others_go_first(self) -> None:
        """Of the time granted to them as much as they use."""
        while self._granted_s >= BUSY_NAP_S and self._is_in_the_way() and not self._is_late():
            await asyncio.sleep(BUSY_NAP_S)
            self._granted_s -= BUSY_NAP_S
        if self._granted_s >= BUSY_NAP_S:
            self._granted_s = 0.0

    def _is_in_the_way(self) -> bool:
        before, self._calls_seen = self._calls_seen, self._calls()
        return self._is_busy() or self._calls_seen != before

    def _is_late(self) -> bool:
        """At this pace the round would take too long."""
        elapsed_s = (self._clock.wall_ms() - self._place.started_ms) / 1000
        return self._place.done_bytes * CYCLE_S < self._total(self._place.mode) * MARGIN * elapsed_s

    async def _rest(self, seconds: float) -> None:
        """Cut short when an operator wants something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._steered.wait()
        self._steered.clear()


def is_due(place: Place, now_ms: int) -> bool:
    """Whether the next round begins. A clock that went back does not hold it up."""
    took_s = max(0, place.last.finished_ms - place.last.started_ms) / 1000
    rest_s = min(REST_MAX_S, max(REST_MIN_S, REST_PER_ROUND * took_s))
    return not 0 <= now_ms - place.last.finished_ms < rest_s * 1000
