"""How fast a cluster makes again what a dead node held, and what its clients notice of it meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from objstore.bench.model import Mark, Measured, Phase, Quantiles, Second, Tick
from objstore.bench.processes import Meter
from objstore.bench.session import Act, Ended, Progress, Series, Session, summary
from objstore.model.errors import Unavailable

LOOK_S = 0.25
REPAIR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Of the present repair. `seconds`: what it took, once it is done."""

    state: Literal["waiting", "working", "done"]
    objects: int
    bytes: int
    seconds: float = 0.0
    text: str = ""


Look = Callable[[], Awaitable[Rebuilt]]


async def measure_repair(session: Session, phase: Phase, progress: Progress, harm: Act, look: Look) -> Measured:
    """`harm`: ends a node for good. With `phase.rate` GETs go on at that rate, for `phase.seconds` before it and for as
    long as the repair works. Unavailable if it does not end."""
    await session.fill(phase, progress)
    if session.is_over:
        raise Ended("it was ended before the node was")
    before: Quantiles | None = None
    if phase.rate:
        calm = await session.measure(msgspec.structs.replace(phase, operation="get"), progress)
        before = calm.latency
    meter = Meter(session.pids) if session.pids is not None else None
    seen = _Seen(phase, progress)
    seen.mark(await harm())
    readers: asyncio.Task[Measured] | None = None
    try:
        while (found := await look()).state != "done" and not session.is_over:
            if found.state == "working" and not seen.works:
                seen.works = True
                seen.mark("repair begins")
                if meter is not None:
                    meter.look()
                if phase.rate:
                    during = msgspec.structs.replace(phase, operation="get", seconds=REPAIR_S, warmup_s=0.0)
                    readers = asyncio.create_task(session.measure(during, lambda *_: None))
            seen.add(found)
            if seen.passed > REPAIR_S:
                raise Unavailable(f"the cluster is not whole after {REPAIR_S:.0f} s: {found.text}")
            await asyncio.sleep(LOOK_S)
        seen.add(found)
        if meter is not None:
            meter.look()
        seen.mark(found.text or "whole again")
        reads = None
        if readers is not None:
            session.end_phase()
            reads = await readers
    finally:
        if readers is not None:
            readers.cancel()
    result = summary(phase, [], seen.series, seen.marks, meter if seen.works else None)
    result = msgspec.structs.replace(
        result, ops=found.objects, bytes=found.bytes, seconds=found.seconds, before=before, early=session.is_over
    )
    if reads is None:
        return result
    return msgspec.structs.replace(
        result, latency=reads.latency, first_byte=reads.first_byte, errors=reads.errors, retried=reads.retried,
        verified=reads.verified, mismatches=reads.mismatches, client_cpu_s=reads.client_cpu_s,
        processes=reads.processes,
    )  # fmt: skip


class _Seen:
    """What was rebuilt, over time."""

    def __init__(self, phase: Phase, progress: Progress) -> None:
        self._phase = phase
        self._series = Series(phase, progress)
        self._began = time.monotonic()
        self._objects = self._bytes = 0
        self.works = False
        self.marks: list[Mark] = []

    @property
    def passed(self) -> float:
        return time.monotonic() - self._began

    def mark(self, text: str) -> None:
        self.marks.append(Mark(round(self.passed, 2), text))

    def add(self, found: Rebuilt) -> None:
        objects, moved = max(0, found.objects - self._objects), max(0, found.bytes - self._bytes)
        self._objects, self._bytes = max(found.objects, self._objects), max(found.bytes, self._bytes)
        self._series.add(0, Tick(self.passed, objects, moved, 0, 0.0, 0.0))

    @property
    def series(self) -> list[Second]:
        return self._series.until(int(self.passed) + 1)
