"""One process of the load: `python -m objstore.bench.worker`. Reads jobs as lines, writes ticks and results as lines.

Every connection asks, waits for the answer, and asks again. What is measured is from the first byte sent to the last
byte received, with the one other attempt that a refusal or a broken connection gets.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
import time
from collections.abc import Iterator

import xxhash

from objstore.bench.connection import Answer, Connection, Sink, open_connection
from objstore.bench.content import Content
from objstore.bench.histogram import Histogram
from objstore.bench.model import Done, Job, Tick, decode_job, encode_line
from objstore.bench.presign import Signer

TICK_S = 0.5
RETRY_PAUSE_S = 0.05
MIXED = {"get": 45, "head": 30, "put": 15, "delete": 10}  # of 100


def key_of(process: int, number: int) -> str:
    return f"{process:02d}/{number:09d}"


class Load:
    """One job under way."""

    def __init__(self, job: Job) -> None:
        self.job, self.phase = job, job.phase
        self._content = Content(job.seed)
        endpoint = job.endpoint
        host = endpoint.host if endpoint.port in (80, 443) else f"{endpoint.host}:{endpoint.port}"
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._signer = Signer(endpoint.access_key, endpoint.secret, endpoint.region, host, now)
        self._tail = f" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: objstore-bench\r\n".encode()
        self._random = random.Random(f"{job.seed} {job.process} {job.phase.operation}")
        self._written = job.written[job.process] if job.process < len(job.written) else 0
        self._next = self._written
        self._again: list[int] = []  # numbers whose object could not be written
        self._idle = list(range(self._written))  # objects that nobody uses now; of a mixed load, where some are deleted
        self._weights = [0]
        for count in job.written:
            self._weights.append(self._weights[-1] + count)
        self._deleted = 0
        self.ops = self.bytes = self.retried = self.verified = self.mismatches = self.keys = 0
        self.errors: dict[str, int] = {}
        self.latency, self.first_byte, self._recent = Histogram(), Histogram(), Histogram()
        self._tick_ops = self._tick_bytes = self._tick_errors = 0
        self._digests: dict[str, bytes] = {}

    # --- the whole ---

    async def run(self) -> Done:
        measured_from = self.job.begin_s + self.phase.warmup_s
        end = measured_from + self.phase.seconds
        connections = [asyncio.create_task(self._use(end)) for _ in range(self.job.connections)]
        ticking = asyncio.create_task(self._tick(measured_from))
        await asyncio.sleep(max(0.0, measured_from - time.monotonic()))
        self._forget_warmup()
        cpu = _cpu_s()
        began = time.monotonic()
        await asyncio.gather(*connections)
        seconds = time.monotonic() - began
        ticking.cancel()
        return Done(
            ops=self.ops, bytes=self.bytes, errors=self.errors, retried=self.retried,
            verified=self.verified, mismatches=self.mismatches, seconds=seconds, cpu_s=_cpu_s() - cpu,
            written=self._next, counts=self.latency.counts, total_us=self.latency.total_us,
            longest_us=self.latency.longest_us, first_counts=self.first_byte.counts, keys=self.keys,
        )  # fmt: skip

    def _forget_warmup(self) -> None:
        self.ops = self.bytes = self.retried = self.keys = 0
        self.errors = {}
        self.latency, self.first_byte = Histogram(), Histogram()

    async def _tick(self, measured_from: float) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            at = time.monotonic() - measured_from
            p50, p99 = self._recent.quantile_us(0.5), self._recent.quantile_us(0.99)
            try:
                say(Tick(at, self._tick_ops, self._tick_bytes, self._tick_errors, p50, p99))
            except BrokenPipeError:
                os._exit(1)  # nobody is left who would end this
            self._recent = Histogram()
            self._tick_ops = self._tick_bytes = self._tick_errors = 0

    async def _use(self, end: float) -> None:
        """One connection until the time is over, or nothing is left to do."""
        await asyncio.sleep(max(0.0, self.job.begin_s - time.monotonic()))
        connection: Connection | None = None
        while time.monotonic() < end and (step := self._step()) is not None:
            began = time.perf_counter()
            for attempt in (0, 1):
                problem, moved = "", 0
                try:
                    if connection is None or not connection.is_open:
                        connection = await open_connection(
                            self.job.endpoint.host, self.job.endpoint.port, tls=self.job.endpoint.tls
                        )
                    answer, moved = await self._do(connection, *step)
                    if answer.status >= 300:
                        problem = f"{answer.status} {_code(answer)}"
                except (OSError, TimeoutError) as error:
                    connection, problem = None, type(error).__name__
                if not problem or attempt or problem.startswith("4"):
                    break
                self.retried += 1
                await asyncio.sleep(RETRY_PAUSE_S)
            self._count(problem, moved, time.perf_counter() - began)
            self._return(*step, done=not problem)
            if problem:
                await asyncio.sleep(RETRY_PAUSE_S)
        if connection is not None:
            connection.close()

    def _count(self, problem: str, moved: int, seconds: float) -> None:
        if problem:
            self.errors[problem] = self.errors.get(problem, 0) + 1
            self._tick_errors += 1
            return
        us = round(seconds * 1e6)
        self.latency.record(us)
        self._recent.record(us)
        self.ops += 1
        self._tick_ops += 1
        self.bytes += moved
        self._tick_bytes += moved

    # --- one operation ---

    def _step(self) -> tuple[str, int] | None:
        """(operation, number of our object, or -1: any of any process); None: there is nothing left."""
        operation = self.phase.operation
        if operation == "mixed":
            operation = self._random.choices(list(MIXED), list(MIXED.values()))[0] if self._idle else "put"
            return operation, self._new() if operation == "put" else self._take()
        if operation == "delete":
            if self._deleted >= self._written:
                return None
            self._deleted += 1
            return operation, self._deleted - 1
        if operation == "put":
            if self.job.objects and self._next - self._written >= self.job.objects and not self._again:
                return None
            return operation, self._new()
        return operation, -1

    def _return(self, operation: str, number: int, *, done: bool) -> None:
        if operation == "put" and not done:
            self._again.append(number)
        elif self.phase.operation == "mixed" and operation != "delete":
            self._idle.append(number)

    def _new(self) -> int:
        if self._again:
            return self._again.pop()
        self._next += 1
        return self._next - 1

    def _take(self) -> int:
        """For one connection alone: what another deletes meanwhile could not be read."""
        place = self._random.randrange(len(self._idle))
        self._idle[place], self._idle[-1] = self._idle[-1], self._idle[place]
        return self._idle.pop()

    def _some(self) -> str:
        """Any object of any process."""
        place = self._random.randrange(self._weights[-1])
        process = next(i for i, upper in enumerate(self._weights[1:]) if place < upper)
        return key_of(process, place - self._weights[process])

    async def _do(self, connection: Connection, operation: str, number: int) -> tuple[Answer, int]:
        """The answer, and the bytes of objects that were moved."""
        key = key_of(self.job.process, number) if number >= 0 else self._some()
        size, path = self.phase.size, f"/{self.job.bucket}/{self.job.prefix}{key}"
        match operation:
            case "put":
                return await connection.ask(*self._put(path, key, size)), size
            case "get":
                return await self._get(connection, path, key, size)
            case "range":
                length = self.phase.range_size or max(1, size // 8)
                start = self._random.randrange(max(1, size - length + 1))
                more = b"Range: bytes=%d-%d\r\n" % (start, start + length - 1)
                answer = await connection.ask(self._head("GET", path, more))
                self.first_byte.record(round(answer.first_byte_s * 1e6))
                return answer, answer.size
            case "head":
                return await connection.ask(self._head("HEAD", path), bodyless=True), 0
            case "list":
                return await self._list(connection)
            case _:
                return await connection.ask(self._head("DELETE", path)), 0

    def _head(self, method: str, path: str, more: bytes = b"", query: tuple[tuple[str, str], ...] = ()) -> bytes:
        return method.encode() + b" " + self._signer.target(method, path, query).encode() + self._tail + more + b"\r\n"

    def _put(self, path: str, key: str, size: int) -> tuple[bytes, Iterator[memoryview]]:
        head = self._head("PUT", path, b"Content-Length: %d\r\n" % size)
        pieces = self._content.pieces(key, size)
        if size <= 64 * 1024:
            return head + b"".join(pieces), iter(())
        return head, pieces

    async def _get(self, connection: Connection, path: str, key: str, size: int) -> tuple[Answer, int]:
        found = xxhash.xxh3_128() if self.phase.verify else None
        sink: Sink | None = found.update if found is not None else None
        answer = await connection.ask(self._head("GET", path), sink=sink)
        self.first_byte.record(round(answer.first_byte_s * 1e6))
        if found is not None and answer.status == 200:
            self.verified += 1
            if answer.size != size or found.digest() != self._digest(key, size):
                self.mismatches += 1
        return answer, answer.size

    def _digest(self, key: str, size: int) -> bytes:
        if len(self._digests) > 100_000:
            self._digests.clear()
        if key not in self._digests:
            self._digests[key] = self._content.digest(key, size)
        return self._digests[key]

    async def _list(self, connection: Connection) -> tuple[Answer, int]:
        """A page that begins anywhere."""
        after = self.job.prefix + self._some()
        query = (("list-type", "2"), ("max-keys", str(self.phase.keys)), ("start-after", after))
        answer = await connection.ask(self._head("GET", f"/{self.job.bucket}", query=query), keep=True)
        self.keys += answer.body.count(b"<Key>")
        return answer, 0


def _code(answer: Answer) -> str:
    _, _, rest = bytes(answer.body).partition(b"<Code>")
    return rest.partition(b"</Code>")[0].decode(errors="replace")[:60] if rest else ""


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def say(line: Tick | Done) -> None:
    sys.stdout.buffer.write(encode_line(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """One job per line of standard input, until it ends."""
    for line in sys.stdin.buffer:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            say(runner.run(Load(decode_job(line)).run()))


if __name__ == "__main__":
    main()
