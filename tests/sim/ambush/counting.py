"""Counters as a test of registers: clients add one and read through all gateways, and then the answers are judged.

What is counted is tickets: the register holds the numbers of all additions that were applied, in order. So one that
was applied twice, or told and lost, is seen whatever the sum is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from objstore.engine.engine import Engine
from objstore.model.errors import ObjstoreError, PreconditionFailed
from objstore.model.ids import SYSTEM_BUCKET
from objstore.model.records import RegisterKey, Space
from objstore.register.change import Outcome, body_of
from tests.sim.cluster import SimCluster

WIDTH = 2  # bytes of a ticket
PATIENCE = 6  # failed reads of 5 s each, before a register counts as unreadable


class Answer(NamedTuple):
    start: float
    end: float
    is_read: bool
    result: int


@dataclass
class Counter:
    """One register of the system bucket, which lies in one partition."""

    cluster: SimCluster
    name: bytes = b"counter"
    begun: int = 0  # additions that may have happened
    told: dict[bytes, int] = field(default_factory=dict)  # ticket -> result, of those that were answered
    last: list[bytes] = field(default_factory=list)  # tickets as they were read last
    answers: list[Answer] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    removed: dict[bytes, float] = field(default_factory=dict)  # ticket -> when its removal was told
    refused: dict[bytes, None] = field(default_factory=dict)
    clears: int = 0
    unknown_clears: int = 0

    @property
    def key(self) -> RegisterKey:
        return RegisterKey(SYSTEM_BUCKET, Space.BUCKET, self.name)

    async def add(self, engine: Engine) -> None:
        """Raises what the operation raises; then it may have happened."""
        start = self.cluster.loop.time()
        self.begun += 1
        ticket = self.begun.to_bytes(WIDTH, "big")
        result = int(await engine.registers.change(self.key, lambda body: _append(body, ticket)))
        self.told[ticket] = result
        self.answers.append(Answer(start, self.cluster.loop.time(), False, result))

    async def add_to_even(self, engine: Engine) -> None:
        """An addition on condition; when that is refused, it must never show up."""
        self.begun += 1
        ticket = self.begun.to_bytes(WIDTH, "big")
        try:
            result = await engine.registers.change(self.key, lambda body: _append_to_even(body, ticket))
        except PreconditionFailed:
            self.refused[ticket] = None
        else:
            self.told[ticket] = int(result)

    async def read(self, engine: Engine) -> None:
        start = self.cluster.loop.time()
        body = body_of(await engine.registers.read(self.key))
        self.answers.append(Answer(start, self.cluster.loop.time(), True, len(body) // WIDTH))
        tickets = [body[at : at + WIDTH] for at in range(0, len(body), WIDTH)]
        if len(set(tickets)) < len(tickets):
            self.wrong.append(f"{self.name.decode()}: an addition was applied twice: {_numbers(tickets)}")
        if back := [ticket for ticket in tickets if self.removed.get(ticket, start) < start]:
            self.wrong.append(f"{self.name.decode()}: additions {_numbers(back)} came back after their removal")
        if applied := [ticket for ticket in tickets if ticket in self.refused]:
            self.wrong.append(f"{self.name.decode()}: additions {_numbers(applied)} were refused and applied")
        self.last = tickets

    async def clear(self, engine: Engine) -> None:
        """Delete the register, with all that was counted."""
        self.clears += 1
        self.unknown_clears += 1
        body = await engine.registers.change(self.key, lambda body: Outcome(body, b"") if body else Outcome())
        self.unknown_clears -= 1
        for at in range(0, len(body), WIDTH):
            ticket = body[at : at + WIDTH]
            if ticket in self.removed:
                self.wrong.append(f"{self.name.decode()}: addition {_numbers([ticket])} was removed twice")
            self.removed[ticket] = self.cluster.loop.time()

    async def client(
        self, engine: Engine, until: float, pause_s: float = 0.2, reads: float = 0.3, clears: float = 0.0
    ) -> None:
        """`reads` and `clears`: the share of them."""
        random, loop = self.cluster.random, self.cluster.loop
        while loop.time() < until:
            await asyncio.sleep(random.uniform(0, pause_s))
            try:
                action = random.random()
                if action < clears:
                    await self.clear(engine)
                else:
                    await (self.read(engine) if action < clears + reads else self.add(engine))
            except ObjstoreError:
                continue

    async def finish(self) -> list[str]:
        """A last look through every gateway once all is well; then everything that is wrong."""
        for engine in self.cluster.engines:
            for tries_left in range(PATIENCE, -1, -1):
                try:
                    await self.read(engine)
                    break
                except ObjstoreError as error:
                    if not tries_left:
                        return [*self.wrong, f"{self.name.decode()} cannot be read though all is well: {error}"]
        lost = _numbers([ticket for ticket in self.told if ticket not in self.last and ticket not in self.removed])
        if lost and not self.unknown_clears:
            self.wrong.append(f"{self.name.decode()}: additions {lost} were acknowledged and are gone")
        return self.judge()

    def judge(self) -> list[str]:
        """Additions have distinct results, and nobody sees less than what ended before he began."""
        wrong = list(self.wrong)
        if self.clears:
            return wrong  # results count from the last one
        results: dict[int, Answer] = {}
        for answer in self.answers:
            if not answer.is_read and results.setdefault(answer.result, answer) is not answer:
                wrong.append(f"{self.name.decode()}: {answer} and {results[answer.result]} have the same result")
        ended = sorted(self.answers, key=lambda answer: answer.end)
        highest, at = None, 0
        for answer in sorted(self.answers, key=lambda answer: answer.start):
            while at < len(ended) and ended[at].end < answer.start:
                if highest is None or ended[at].result > highest.result:
                    highest = ended[at]
                at += 1
            if highest is not None and answer.result < highest.result + (not answer.is_read):
                wrong.append(f"{self.name.decode()}: {answer} went back behind {highest}")
        return wrong


def _append(body: bytes, ticket: bytes) -> Outcome:
    after = body + ticket
    return Outcome(b"%d" % (len(after) // WIDTH), after)


def _append_to_even(body: bytes, ticket: bytes) -> Outcome:
    if len(body) // WIDTH % 2:
        raise PreconditionFailed("odd")
    return _append(body, ticket)


def _numbers(tickets: list[bytes]) -> list[int]:
    return [int.from_bytes(ticket, "big") for ticket in tickets]
