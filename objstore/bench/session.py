"""One endpoint under load: its own bucket, phase after phase, and the bucket removed whatever happens.

A phase that reads needs objects: those that an earlier phase of the same size wrote, or else some that are written
for it and not measured.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from objstore.bench.connection import Answer, Connection, open_connection
from objstore.bench.histogram import Histogram
from objstore.bench.model import Done, Endpoint, Job, Mark, Measured, Phase, Quantiles, Second, Tick
from objstore.bench.presign import Signer
from objstore.bench.processes import BEGIN_AFTER_S, Meter, Workers
from objstore.model.errors import InvalidRequest, ObjstoreError, Unavailable

PREFIX = "objstore-bench-"
FILL_BYTES = 256 << 20  # written for phases that read
FILL_OBJECTS = (16, 5000)  # at least, at most
FILL_CONNECTIONS = 16  # at least
FILL_S = 24 * 3600.0
_KEYS = re.compile(rb"<Key>([^<]*)</Key>")

Progress = Callable[[Phase, float, Tick], None]  # (phase, seconds since its begin, all processes together)
Act = Callable[[], Awaitable[str]]  # does something to the cluster, says what


@dataclass(frozen=True, slots=True)
class Happening:
    """`act` is done `at_s` seconds after the measured time of a phase began."""

    at_s: float
    act: Act


class Ended(ObjstoreError):
    """Somebody wanted no more of it."""


class Session:
    """`async with`: makes the bucket, and removes it with all that is in it."""

    def __init__(
        self, endpoint: Endpoint, workers: Workers, processes: int, pids: Callable[[], Sequence[int]] | None = None
    ) -> None:
        """`pids`: of the server's processes, asked anew again and again."""
        self.endpoint = endpoint
        self.bucket = PREFIX + secrets.token_hex(6)
        self.is_over = False  # nothing more is to be measured
        self.pids = pids
        self._workers, self._processes = workers, processes
        self._seed = secrets.randbits(48)
        self._connection: Connection | None = None
        self._written: dict[int, list[int]] = {}  # by size, then by process

    async def __aenter__(self) -> Session:
        answer = await self._ask("PUT", "")
        if answer.status != 200:
            self._hang_up()
            raise InvalidRequest(f"{self.endpoint.name} does not make a bucket: {_problem(answer)}")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.shield(self._remove())
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def end_early(self) -> None:
        """The phase under way ends now, with what it has measured."""
        self.is_over = True
        self.end_phase()

    def end_phase(self) -> None:
        """As `end_early`; others may follow."""
        self._workers.end_early()

    async def measure(self, phase: Phase, progress: Progress, happenings: Sequence[Happening] = ()) -> Measured:
        if phase.operation != "put":
            await self.fill(phase, progress)
        if self.is_over:
            raise Ended("it was ended before the phase began")
        if phase.operation == "delete":  # each object once
            phase = msgspec.structs.replace(phase, warmup_s=0.0)
        series = Series(phase, progress)
        marks: list[Mark] = []
        waiting = asyncio.create_task(_happen(happenings, phase, marks))
        meter = Meter(self.pids) if self.pids is not None else None
        looking = asyncio.create_task(_look(meter, BEGIN_AFTER_S + phase.warmup_s))
        try:
            done = await self._run(phase, series.add)
            if meter is not None:
                meter.look()
        finally:
            waiting.cancel()
            looking.cancel()
        await asyncio.gather(waiting, looking, return_exceptions=True)
        if phase.operation in ("delete", "mixed"):
            self._written.clear()
            await self._remove_objects()  # what is left has gaps that readers would not know
        found = summary(phase, done, series.seconds, marks, meter)
        return msgspec.structs.replace(found, early=self.is_over)

    async def fill(self, phase: Phase, progress: Progress) -> None:
        """Writes what a phase needs and nobody has written."""
        have = sum(self._written.get(phase.size, []))
        wanted = phase.prepared or max(FILL_OBJECTS[0], min(FILL_OBJECTS[1], FILL_BYTES // max(1, phase.size)))
        if have >= wanted or (have and phase.operation == "delete"):
            return
        fill = msgspec.structs.replace(
            phase, operation="put", connections=max(phase.connections, FILL_CONNECTIONS), seconds=FILL_S, warmup_s=0.0,
            objects=wanted - have, verify=False, rate=0.0,
        )  # fmt: skip
        done = await self._run(fill, Series(fill, progress).add)
        if errors := _errors(done):
            raise Unavailable(f"{self.endpoint.name} does not take the objects to read: {errors}")

    async def _run(self, phase: Phase, told: Callable[[int, Tick], None]) -> list[Done]:
        count = min(self._processes, phase.connections)
        written = self._written.get(phase.size, [])
        jobs = [
            Job(
                endpoint=self.endpoint, bucket=self.bucket, prefix=f"{phase.size}/", phase=phase, seed=self._seed,
                process=number, connections=_share(phase.connections, count, number), written=written,
                objects=_share(phase.objects, count, number) if phase.objects else 0,
            )
            for number in range(count)
        ]  # fmt: skip
        done = await self._workers.do(jobs, told)
        if phase.operation == "put":
            self._written[phase.size] = [one.written for one in done]
        return done

    # --- the bucket ---

    async def _ask(
        self, method: str, path: str, query: tuple[tuple[str, str], ...] = (), body: bytes = b"", more: bytes = b""
    ) -> Answer:
        endpoint = self.endpoint
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        signer = Signer(endpoint.access_key, endpoint.secret, endpoint.region, endpoint.authority, now)
        target = signer.target(method, f"/{self.bucket}{path}", query)
        length = b"Content-Length: %d\r\n" % len(body)
        head = f"{method} {target} HTTP/1.1\r\nHost: {endpoint.authority}\r\n".encode() + length + more + b"\r\n"
        loop = asyncio.get_running_loop()
        for attempt in (0, 1):
            connection, self._connection = self._connection, None  # one that was given up is not used again
            try:
                if connection is None or not connection.is_open:
                    opened = partial(open_connection, endpoint.host, endpoint.port, tls=endpoint.tls)
                    connection = await loop.run_in_executor(None, opened)
                asked = partial(connection.ask, head, (body,) if body else (), keep=True)
                answer = await loop.run_in_executor(None, asked)
            except OSError as error:
                if attempt:
                    raise Unavailable(f"{endpoint.name} ({endpoint.authority}) does not answer: {error}") from None
            else:
                self._connection = connection
                return answer
        raise AssertionError

    async def _remove_objects(self) -> None:
        while True:
            page = await self._ask("GET", "", (("list-type", "2"),))
            keys = [html.unescape(key.decode()) for key in _KEYS.findall(bytes(page.body))]
            if page.status != 200 or not keys:
                return
            named = "".join(f"<Object><Key>{html.escape(key)}</Key></Object>" for key in keys)
            body = f"<Delete><Quiet>true</Quiet>{named}</Delete>".encode()
            digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest())
            answer = await self._ask("POST", "", (("delete", ""),), body, b"Content-MD5: " + digest + b"\r\n")
            if answer.status != 200 or b"<Error>" in answer.body:
                raise Unavailable(f"objects of the bucket {self.bucket} are left: {_problem(answer)}")

    async def _remove(self) -> None:
        await self._remove_objects()
        answer = await self._ask("DELETE", "")
        if answer.status not in (204, 200, 404):
            raise Unavailable(f"the bucket {self.bucket} is left: {_problem(answer)}")


class Series:
    """The ticks of all processes, as seconds of the phase."""

    def __init__(self, phase: Phase, progress: Progress) -> None:
        self._phase, self._progress = phase, progress
        self._found: dict[int, list[int]] = {}

    def add(self, process: int, tick: Tick) -> None:
        del process
        self._progress(self._phase, tick.at_s, tick)
        if tick.at_s > 0:
            second = self._found.setdefault(max(0, int(tick.at_s - 1e-3)), [0, 0, 0])
            for place, count in enumerate((tick.ops, tick.bytes, tick.errors)):
                second[place] += count

    @property
    def seconds(self) -> list[Second]:
        return self.until(int(self._phase.seconds))  # a part of a second would look like a slow one

    def until(self, last: int) -> list[Second]:
        return [Second(float(at), *counts) for at, counts in sorted(self._found.items()) if at < last]


async def _look(meter: Meter | None, after_s: float) -> None:
    """From when the measured time begins."""
    await asyncio.sleep(after_s)
    if meter is not None:
        await meter.watch()


async def _happen(happenings: Sequence[Happening], phase: Phase, marks: list[Mark]) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time() + BEGIN_AFTER_S + phase.warmup_s
    for one in sorted(happenings, key=lambda one: one.at_s):
        await asyncio.sleep(max(0.0, begin + one.at_s - loop.time()))
        at = loop.time() - begin
        try:
            text = await one.act()
        except ObjstoreError as error:
            text = f"failed: {error}"
        marks.append(Mark(round(at, 2), text))


def summary(
    phase: Phase, done: Sequence[Done], series: list[Second], marks: list[Mark], meter: Meter | None
) -> Measured:
    latency, first = Histogram(), Histogram()
    for one in done:
        latency.merge(Histogram(one.counts, one.total_us, one.longest_us))
        longest = max((place for place, _ in one.first_counts), default=0)
        first.merge(Histogram(one.first_counts, 0, 1 << 62 if longest else 0))
    return Measured(
        phase=phase,
        seconds=max((one.seconds for one in done), default=0.0),
        ops=sum(one.ops for one in done),
        bytes=sum(one.bytes for one in done),
        errors=_errors(done),
        retried=sum(one.retried for one in done),
        latency=quantiles(latency),
        first_byte=Quantiles(*(first.quantile_us(share) / 1000 for share in (0.5, 0.9, 0.99, 0.999))),
        series=series,
        client_cpu_s=sum(one.cpu_s for one in done),
        processes=len(done),
        server_cpu_s=meter.cpu_s if meter is not None else None,
        server_rss_bytes=meter.rss_bytes if meter is not None else None,
        verified=sum(one.verified for one in done),
        mismatches=sum(one.mismatches for one in done),
        keys=sum(one.keys for one in done),
        marks=marks,
    )


def quantiles(found: Histogram) -> Quantiles:
    p50, p90, p99, p999 = (found.quantile_us(share) / 1000 for share in (0.5, 0.9, 0.99, 0.999))
    return Quantiles(p50, p90, p99, p999, found.longest_us / 1000, found.mean_us / 1000)


def _errors(done: Sequence[Done]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in done:
        for name, count in one.errors.items():
            found[name] = found.get(name, 0) + count
    return found


def _share(whole: int, count: int, number: int) -> int:
    return whole // count + (number < whole % count)


def _problem(answer: Answer) -> str:
    return f"{answer.status} {bytes(answer.body)[:300].decode(errors='replace')}"
