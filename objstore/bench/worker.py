"""One process of the load: `python -m objstore.bench.worker`. Reads jobs as lines, writes ticks and results as lines.

Every connection asks, waits for the answer, and asks again; or, at a given rate, when the next operation is due. What
is measured is from the first byte sent (or from when it was due, so that waiting for a slow server counts) to the last
byte received, with the one other attempt that a refusal or a broken connection gets.

There is no event loop and there are no tasks: what the load spends on the machine of the server is taken away from what
it measures, and one `epoll` over plain sockets spends the least. SIGTERM ends a phase early, with what was measured.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from objstore.bench.connection import BUFFER_BYTES, Answer, Connection, open_connection
from objstore.bench.histogram import Histogram
from objstore.bench.model import Done, Job, Tick, decode_job, encode_line
from objstore.bench.steps import Request, Steps

TICK_S = 0.5
RETRY_PAUSE_S = 0.05
TIMEOUT_S = 60.0
_READABLE, _WRITABLE = select.POLLIN, select.POLLOUT  # equal to those of epoll


class _Line:
    """One connection and what it is about."""

    __slots__ = ("again", "began", "connection", "deadline", "descriptor", "request", "writing")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.descriptor = -1
        self.request: Request | None = None
        self.began = self.deadline = 0.0
        self.again = False  # it is the second attempt
        self.writing = False  # the socket is watched for room


class Load:
    """One job."""

    def __init__(self, job: Job) -> None:
        self.job, self.phase = job, job.phase
        self._steps = Steps(job, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        self._poller = Poller()
        self._buffer = bytearray(BUFFER_BYTES)
        self._lines: dict[int, _Line] = {}  # by descriptor
        self._idle: list[_Line] = []  # until an operation is due
        self._pausing: list[tuple[float, int, _Line]] = []  # (until, number, line), a heap
        self._numbers = itertools.count()
        self._end = job.begin_s + self.phase.warmup_s + self.phase.seconds
        self._busy = 0  # lines that are not over
        rate = self.phase.rate * job.connections / max(1, self.phase.connections)
        self._gap_s = 1 / rate if rate else 0.0  # between operations that are due, on average
        self._due = job.begin_s
        self._chance = random.Random(job.seed + job.process)
        self.ops = self.bytes = self.retried = 0
        self.errors: dict[str, int] = {}
        self.latency, self.first_byte, self._recent = Histogram(), Histogram(), Histogram()
        self._tick_ops = self._tick_bytes = self._tick_errors = 0

    def end_early(self) -> None:
        """What is under way ends, nothing else begins."""
        self._end = time.monotonic()

    # --- the whole ---

    def run(self) -> Done:
        lines = [_Line() for _ in range(self.job.connections)]
        for line in lines:
            self._connect(line)
        time.sleep(max(0.0, self.job.begin_s - time.monotonic()))
        measured_from = self.job.begin_s + self.phase.warmup_s
        self._busy = len(lines)
        for line in lines:
            self._proceed(line)
        tick_at = time.monotonic() + TICK_S
        began, cpu = 0.0, 0.0
        while self._busy or not began:
            now = time.monotonic()
            if not began and (now >= measured_from or not self._busy):
                began, cpu = now, _cpu_s()
                self._forget_warmup()
            if now >= tick_at:
                self._tick(now - measured_from)
                self._give_up(now)
                tick_at += TICK_S
            self._wake(now)
            until = min(tick_at, measured_from if not began else tick_at, self._next_wake())
            for descriptor, events in self._poller.wait(max(0.0, until - time.monotonic())):
                if line_ := self._lines.get(descriptor):
                    self._event(line_, events)
        seconds = time.monotonic() - began
        for line in lines:
            self._hang_up(line)
        self._poller.close()
        steps = self._steps
        return Done(
            ops=self.ops, bytes=self.bytes, errors=self.errors, retried=self.retried,
            verified=steps.verified, mismatches=steps.mismatches, seconds=seconds, cpu_s=_cpu_s() - cpu,
            written=steps.written, counts=self.latency.counts, total_us=self.latency.total_us,
            longest_us=self.latency.longest_us, first_counts=self.first_byte.counts, keys=steps.keys,
        )  # fmt: skip

    def _forget_warmup(self) -> None:
        self.ops = self.bytes = self.retried = 0
        self.errors = {}
        self.latency, self.first_byte = Histogram(), Histogram()
        self._steps.forget_counts()

    def _tick(self, at_s: float) -> None:
        p50, p99 = self._recent.quantile_us(0.5), self._recent.quantile_us(0.99)
        try:
            say(Tick(at_s, self._tick_ops, self._tick_bytes, self._tick_errors, p50, p99))
        except BrokenPipeError:
            os._exit(1)  # nobody is left who would end this
        self._recent = Histogram()
        self._tick_ops = self._tick_bytes = self._tick_errors = 0

    # --- when something is to be done without a socket that says so ---

    def _next_wake(self) -> float:
        found = self._pausing[0][0] if self._pausing else float("inf")
        return min(found, self._due if self._idle else found, self._end if self._idle else found)

    def _wake(self, now: float) -> None:
        while self._pausing and self._pausing[0][0] <= now:
            line = heapq.heappop(self._pausing)[2]
            if line.request is not None:
                self._ask(line)
            else:
                self._proceed(line)
        while self._idle and (self._due <= now or now >= self._end):
            self._start(self._idle.pop(), self._due)
            self._due += self._chance.expovariate(1 / self._gap_s)

    def _pause(self, line: _Line) -> None:
        heapq.heappush(self._pausing, (time.monotonic() + RETRY_PAUSE_S, next(self._numbers), line))

    def _give_up(self, now: float) -> None:
        for line in list(self._lines.values()):
            if line.request is not None and now >= line.deadline:
                self._failed(line, "TimeoutError")

    # --- one line ---

    def _proceed(self, line: _Line) -> None:
        if self._gap_s:
            self._idle.append(line)
        else:
            self._start(line, time.monotonic())

    def _start(self, line: _Line, began: float) -> None:
        request = self._steps.next() if time.monotonic() < self._end else None
        if request is None:
            self._busy -= 1
            return
        line.request, line.began, line.again = request, began, False
        self._ask(line)

    def _ask(self, line: _Line) -> None:
        request = line.request
        assert request is not None
        line.deadline = time.monotonic() + TIMEOUT_S
        if request.sink is not None:
            request.sink.reset()
        if line.connection is None and not self._connect(line):
            self._failed(line, "ConnectionError")
            return
        assert line.connection is not None
        try:
            sent = line.connection.begin(
                request.head, request.pieces(), keep=request.keep, bodyless=request.bodyless,
                sink=request.sink.update if request.sink is not None else None,
            )  # fmt: skip
        except OSError as error:
            self._failed(line, type(error).__name__)
            return
        if sent == line.writing:
            self._watch(line, writing=not sent)

    def _event(self, line: _Line, events: int) -> None:
        connection, request = line.connection, line.request
        if connection is None:
            return
        try:
            if events & ~_WRITABLE:
                if request is None:
                    self._hang_up(line)  # the server has closed it, or says what was not asked
                    return
                answer = connection.receive()
                if answer is not None:
                    self._answered(line, request, answer)
                    return
            if events & _WRITABLE and line.writing and connection.send():
                self._watch(line, writing=False)
        except OSError as error:
            self._failed(line, type(error).__name__)

    def _answered(self, line: _Line, request: Request, answer: Answer) -> None:
        if line.connection is not None and not line.connection.is_open:
            self._hang_up(line)
        if answer.status >= 300:
            self._failed(line, f"{answer.status} {_code(answer)}", keeps=True)
            return
        if request.operation in ("get", "range"):
            self.first_byte.record(round(answer.first_byte_s * 1e6))
        us = round((time.monotonic() - line.began) * 1e6)
        moved = self._steps.take(request, answer)
        self.latency.record(us)
        self._recent.record(us)
        self.ops += 1
        self._tick_ops += 1
        self.bytes += moved
        self._tick_bytes += moved
        line.request = None
        self._steps.finish(request, done=True)
        self._proceed(line)

    def _failed(self, line: _Line, problem: str, *, keeps: bool = False) -> None:
        """Asked once more, but for what the request itself is to blame for. `keeps`: the connection can be used on."""
        if not keeps:
            self._hang_up(line)
        request = line.request
        assert request is not None
        if not line.again and not problem.startswith("4"):
            line.again = True
            self.retried += 1
            self._pause(line)
            return
        self.errors[problem] = self.errors.get(problem, 0) + 1
        self._tick_errors += 1
        line.request = None
        self._steps.finish(request, done=False)
        self._pause(line)

    # --- its socket ---

    def _connect(self, line: _Line) -> bool:
        endpoint = self.job.endpoint
        try:
            connection = open_connection(endpoint.host, endpoint.port, tls=endpoint.tls, buffer=self._buffer)
        except OSError:
            return False
        line.connection, line.descriptor, line.writing = connection, connection.fileno(), False
        self._lines[line.descriptor] = line
        self._poller.watch(line.descriptor, _READABLE, known=False)
        return True

    def _hang_up(self, line: _Line) -> None:
        connection, line.connection = line.connection, None
        if connection is None:
            return
        del self._lines[line.descriptor]
        self._poller.forget(line.descriptor)
        connection.close()

    def _watch(self, line: _Line, *, writing: bool) -> None:
        line.writing = writing
        self._poller.watch(line.descriptor, _READABLE | _WRITABLE if writing else _READABLE, known=True)


class Poller:
    """epoll; where there is none, poll."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = select.poll() if self._epoll is None else None

    def watch(self, descriptor: int, events: int, *, known: bool) -> None:
        watched = self._epoll or self._poll
        assert watched is not None
        if known:
            watched.modify(descriptor, events)
        else:
            watched.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """It may be closed already."""
        watched = self._epoll or self._poll
        assert watched is not None
        with contextlib.suppress(OSError):
            watched.unregister(descriptor)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        if self._epoll is not None:
            return self._epoll.poll(seconds)
        assert self._poll is not None
        return self._poll.poll(seconds * 1000)

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


def _code(answer: Answer) -> str:
    _, _, rest = bytes(answer.body).partition(b"<Code>")
    return rest.partition(b"</Code>")[0].decode(errors="replace")[:60] if rest else ""


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(line: Tick | Done) -> None:
    sys.stdout.buffer.write(encode_line(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """One job per line of standard input, until it ends."""
    for raw in sys.stdin.buffer:
        load = Load(decode_job(raw))
        signal.signal(signal.SIGTERM, _ending(load))
        say(load.run())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it was for the phase that has just ended


def _ending(load: Load) -> Callable[[int, FrameType | None], None]:
    return lambda _signal, _frame: load.end_early()


if __name__ == "__main__":
    main()
