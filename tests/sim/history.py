"""What clients of a simulated cluster saw, and the judgement of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from objstore.engine.engine import Engine
from objstore.model import limits
from tests.sim.cluster import SimCluster
from tests.sim.linearize import Op, Operation, check

T = TypeVar("T")

# How long an operation may take, in rounds on registers that may follow each other; each ends in OPERATION_TIMEOUT_S.
# Bodies have time-outs of their own (BODY_S).
ROUNDS = {
    "put": 3,  # bucket; commit; bucket again, which may take a mark away (one more read and one more change)
    "delete": 2,
    "get": 4,  # bucket, key; and again if the bucket may have been made anew
    "list": 3,  # bucket; a page; keys whose replicas differ
    "upload": 2,
    "part": 4,  # bucket, upload; part; upload again
    "complete": 12,  # three attempts in the worst case
    "abort": 6,
    "bucket": 4,
}
BODY_S = 100.0  # four segments, each of which looks for nodes until it has tried all that may answer
MARGIN_S = 5.0  # local work of slow disks and clients


def etag_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class History:
    cluster: SimCluster
    ops: dict[str, list[Operation]] = field(default_factory=dict)  # what is linearizable by itself -> operations
    contents: dict[str, bytes] = field(default_factory=dict)  # ETag -> body, of every body ever sent
    wrong: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)  # kind -> seconds
    failed: int = 0  # operations that ended in Unavailable
    done: int = 0

    def now(self) -> float:
        return self.cluster.loop.time()

    def add(self, name: str, op: Operation) -> None:
        self.ops.setdefault(name, []).append(op)

    def complain(self, what: str) -> None:
        self.wrong.append(f"at {self.now():.3f}: {what}")

    def body(self, data: bytes) -> str:
        """Remember a body that is sent; returns its ETag."""
        etag = etag_of(data)
        self.contents[etag] = data
        return etag

    async def run(self, kind: str, gateway: str, operation: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Through a gateway, and in time."""
        start = self.now()
        self.done += 1
        try:
            return await self.cluster.at(gateway, operation)
        finally:
            took = self.now() - start - self.cluster.paused_s(gateway, start)
            self.longest[kind] = max(self.longest.get(kind, 0.0), took)
            body_s = BODY_S if kind in ("put", "part", "get") else 0.0
            if took > ROUNDS[kind] * limits.OPERATION_TIMEOUT_S + body_s + MARGIN_S:
                self.complain(f"{kind} through {gateway} hung for {took:.1f} s")

    def judge(self) -> list[str]:
        """What is wrong with all that was seen; [] if nothing is."""
        out = list(self.wrong)
        for name, ops in sorted(self.ops.items()):
            if not check(ops):
                lines = "\n".join(f"  {_line(op)}" for op in sorted(ops, key=lambda op: op.start))
                out.append(f"{name} is not linearizable:\n{lines}")
        return out


def _line(op: Operation) -> str:
    if not isinstance(op, Op):
        return str(op)
    value = str(op.value)[:8] if op.value is not None else "nothing"
    told = "" if op.ok else "  refused"
    demand = f"  if {op.condition[:8]}" if op.condition else ""
    found = "" if op.found is None else f"  found {op.found}"
    return f"{op.start:10.4f} .. {op.end:10.4f}  {op.kind:5} {value}{demand}{told}{found}"
