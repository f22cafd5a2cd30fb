"""The brakes of repair: operations in flight (adaptive, `throttle`), bytes per second (the budget), and its eyes:
how long nodes take to answer. One per term; jobs get a `Work` each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from objstore.engine.calls import Calls
from objstore.engine.rebuilding import WINDOW_BYTES
from objstore.model.errors import DeadlineExceeded, Unreachable
from objstore.model.ids import NodeId
from objstore.model.limits import MIB
from objstore.model.survey import Budget
from objstore.ports import Buffer, Clock
from objstore.repair.throttle import Throttle
from objstore.wire.messages import FragHead, FragPut, FragRead, FragWrite, NodeStats, NodeStatsReply, Reply, Request

BURST_S = 0.25  # over which the budget is averaged
UNLIMITED = 1e9
SMALL_WINDOW_BYTES = MIB
WHOLE_BYTES = SMALL_WINDOW_BYTES // 4  # written: an operation that counts as one among clients; smaller ones as less,
WEIGHT_MIN = 0.125  # ... down to this: many small ones keep nobody waiting for longer than one large one does
TIMED = (FragHead, FragPut, FragRead, FragWrite, NodeStats)
"""Calls whose time depends on their size and on what else is going on, and on nothing else."""


class Pace:
    def __init__(self, clock: Clock, budget: Budget) -> None:
        self.budget = budget
        self._clock = clock
        self._throttle = Throttle()
        self._paid_until = 0.0
        self._in_flight = 0.0  # weight of the operations
        self._most_in_flight = 0.0  # since the last step
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    # --- what is told ---

    def observe(self, request: Request, size: int, seconds: float) -> None:
        self._throttle.observe(self._clock.monotonic(), (type(request), size.bit_length()), seconds)

    def hear(self, node: NodeId, stats: NodeStatsReply) -> None:
        self._throttle.hear(self._clock.monotonic(), (node, stats.boot), stats.client_calls)

    def step(self, margin: int | None) -> None:
        """Call it often. margin: as in Throttle.step."""
        self._throttle.step(self._clock.monotonic(), margin=margin, in_use=self._most_in_flight)
        self._most_in_flight = self._in_flight
        self._let_in()

    # --- what is asked ---

    @property
    def window(self) -> float:
        return UNLIMITED if self.budget == "unlimited" else self._throttle.window

    @property
    def window_bytes(self) -> int:
        """What an operation may read: a client that comes while it goes on waits for most of it."""
        shared = self.budget != "unlimited" and self._throttle.among_clients
        return SMALL_WINDOW_BYTES if shared else WINDOW_BYTES

    @property
    def why_slow(self) -> str:
        """Why it goes slower than it could, or ""."""
        if isinstance(self.budget, int) and self._paid_until - self._clock.monotonic() > BURST_S:
            return f"at the budget of {_size(self.budget)}/s"
        return "" if self.budget == "unlimited" else self._throttle.why

    def work(self, on_written: Callable[[int], None]) -> Work:
        return Work(self, self._clock, on_written)

    # --- operations ---

    async def enter(self, size: int) -> float:
        """Wait until an operation that writes so many bytes may begin; returns its weight."""
        await self._spend(size)
        weight = self._weight(size)
        if self._waiting or not self._has_room(weight):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((weight, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave(weight)
                raise
        else:
            self._take(weight)
        return weight

    def leave(self, weight: float) -> None:
        self._in_flight -= weight
        self._let_in()

    def _weight(self, size: int) -> float:
        if self.budget == "unlimited" or not self._throttle.among_clients:
            return 1.0
        return min(1.0, max(WEIGHT_MIN, size / WHOLE_BYTES))

    def _has_room(self, weight: float) -> bool:
        return self._in_flight + weight <= self.window or not self._in_flight

    def _take(self, weight: float) -> None:
        self._in_flight += weight
        self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def _let_in(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            weight, turn = self._waiting.popleft()
            if not turn.done():
                self._take(weight)
                turn.set_result(None)

    async def _spend(self, size: int) -> None:
        if not isinstance(self.budget, int):
            return
        now = self._clock.monotonic()
        self._paid_until = max(now, self._paid_until) + size / self.budget
        if (pause := self._paid_until - now - BURST_S) > 0:
            await asyncio.sleep(pause)


class Work:
    """One job: how long it has held the machines, and how much of it is written."""

    def __init__(self, pace: Pace, clock: Clock, on_written: Callable[[int], None]) -> None:
        self.held_s = 0.0
        self.written = 0
        self._pace = pace
        self._clock = clock
        self._on_written = on_written

    @asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        weight = await self._pace.enter(size)
        began = self._clock.monotonic()
        try:
            yield
        finally:
            seconds = self._clock.monotonic() - began
            self.held_s += seconds
            self._pace.leave(weight)
        if size:
            self.written += size
            self._on_written(size)


class Timed:
    """Calls, and the pace sees how long they take."""

    def __init__(self, calls: Calls, pace: Pace, clock: Clock) -> None:
        self._calls = calls
        self._pace = pace
        self._clock = clock
        self.is_up = calls.is_up

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[Reply, bytes | memoryview]:
        if not isinstance(request, TIMED):
            return await self._calls.call(node, request, payload, timeout_s=timeout_s)
        began = self._clock.monotonic()
        try:
            reply, data = await self._calls.call(node, request, payload, timeout_s=timeout_s)
        except DeadlineExceeded:
            self._pace.observe(request, len(payload), self._clock.monotonic() - began)
            raise
        except Unreachable:
            raise  # at once, or when a connection broke: says nothing of how busy it is
        self._pace.observe(request, len(payload) + len(data), self._clock.monotonic() - began)
        if isinstance(reply, NodeStatsReply):
            self._pace.hear(node, reply)
        return reply, data


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
