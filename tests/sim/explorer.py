"""Message-level explorer of the pure register code: random schedules, one register, checked results.

Drives the real machines of objstore/register (acceptor rules, rounds, change, quorum) with a network that
loses, repeats and reorders, acceptors that answer from what is durable, and, on request, a layout change with
fence, sync and reset of joining acceptors. A counter is the object: every increment must be applied once, and
results must respect real time. No asyncio, no clock: one schedule is one seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from objstore.model.clock import Ballot, BallotClock
from objstore.model.errors import PreconditionFailed
from objstore.model.ids import NodeId
from objstore.model.records import ABSENT, Register, Value, decode
from objstore.register import acceptor
from objstore.register.change import Decision, Outcome, apply, body_of
from objstore.register.proposer import Done, ReadRound, Retry, Send, Target, WriteRound
from objstore.register.quorum import members
from objstore.wire.messages import (
    RegAccept,
    RegAccepted,
    RegPrepare,
    RegRead,
    RegRefused,
    RegStale,
    RegState,
    Reply,
    Request,
)

KEY = bytes(17) + b"counter"


@dataclass
class Acceptor:
    """One durable register and its fence."""

    state: acceptor.AcceptorState = acceptor.EMPTY
    value: Value = ABSENT
    fence: int = 0

    def handle(self, request: Request) -> tuple[Reply, bytes]:
        if request.tag < self.fence:  # type: ignore[union-attr]
            return RegStale(self.fence), b""
        match request:
            case RegRead():
                return self._report(request.with_data)
            case RegPrepare():
                self.state, granted = acceptor.prepare(self.state, Ballot.unpack(request.ballot))
                return self._report(request.with_data) if granted else self._refusal()
            case RegAccept():
                ballot = Ballot.unpack(request.ballot)
                fresh = ballot != self.state.accepted
                self.state, granted = acceptor.accept(self.state, ballot)
                if granted and fresh:
                    self.value = Value(request.listing, request.state, b"")
                return (RegAccepted(), b"") if granted else self._refusal()
        raise AssertionError(request)

    def _report(self, with_data: bool) -> tuple[Reply, bytes]:
        return RegState(self.state.accepted.pack(), self.value.listing, self.value.state), self.value.data

    def _refusal(self) -> tuple[Reply, bytes]:
        return RegRefused(max(self.state.promised, self.state.accepted).pack()), b""

    def reset(self, tag: int) -> None:
        if self.fence < tag:
            self.fence, self.state, self.value = tag, acceptor.EMPTY, ABSENT


@dataclass
class Event:
    start: int
    end: int
    kind: str
    result: int
    begun: int = 0  # increments begun by anyone until the end


@dataclass
class Proposer:
    name: int
    world: World
    clock: BallotClock
    kind: str = ""
    op: bytes = b""
    count: int = 0
    started: int = 0
    age: int = 0
    first_accept: int | None = None
    machine: ReadRound | WriteRound | None = None
    view: int = 0  # what this proposer believes of the layout: 0 old, 1 joint, 2 new

    def tick(self) -> None:
        if self.machine is None:
            if self.count < self.world.operations:
                self._begin()
            return
        self.age += 1
        if self.age > 12 or self.machine.outcome is not None:
            self._again()
        elif isinstance(self.machine, ReadRound) and self.age == 4:
            self.world.send(self, self.machine, self.machine.more())

    def _begin(self) -> None:
        self.count += 1
        self.kind = self.world.random.choice(("increment", "increment", "conditional", "read"))
        self.world.begun += self.kind != "read"
        self.op = bytes((self.name, self.count)) * 8
        self.started = self.world.now
        self.first_accept = None
        self._start(fresh=True)

    def _target(self) -> Target:
        tag, sets = self.world.views[self.view]
        return Target(KEY, 0, tag, sets)

    def _start(self, *, fresh: bool) -> None:
        self.age = 0
        if self.kind == "read" and fresh:
            target = self._target()
            up = [self.world.random.random() < 0.8 for _ in members(target.sets)]
            self.machine = ReadRound(target, with_data=False, preferred=up)
        else:
            ballot = self.clock.next(self.world.now // 40)

            def decide(value: Value) -> Decision:
                if self.kind == "read":
                    return Decision(value, keep_data=True)
                change = increment if self.kind == "increment" else increment_if_even
                return apply(value, change, self.op, ballot, self.first_accept)

            first = self.first_accept is None or self.world.canary == "shortcut after an accept"
            self.machine = WriteRound(self._target(), ballot, decide, first=first)
        self.world.send(self, self.machine, self.machine.start())

    def _again(self) -> None:
        machine = self.machine
        assert machine is not None
        if isinstance(machine, WriteRound) and machine.accept_sent and self.first_accept is None:
            self.first_accept = machine.ballot.time
        self.clock.observe(machine.highest)
        outcome = machine.outcome
        if outcome is Retry.STALE:
            self.view = max(self.view, self.world.published)
        if outcome is Retry.UNKNOWN:
            self.machine = None  # the client is told that the outcome is unknown
            self.world.unknown.append(self.op)
            return
        if self.world.canary == "retry with a new id":
            self.op = self.world.random.randbytes(16)
        self._start(fresh=self.kind == "read" and outcome is not Retry.CONTENDED)

    def advance(self, machine: ReadRound | WriteRound) -> None:
        if machine is not self.machine or not isinstance(machine.outcome, Done):
            return
        done = machine.outcome
        if self.kind == "read":
            body = body_of(done.value)
            result = int(body) if body else 0
        elif done.error is not None:
            self.world.refused.append(self.op)
            self.machine = None
            return
        else:
            result = int(done.result)
        kind = "read" if self.kind == "read" else "increment"
        self.world.history.append(Event(self.started, self.world.now, kind, result, self.world.begun))
        self.machine = None


def increment_if_even(body: bytes) -> Outcome:
    if body and int(body) % 2:
        raise PreconditionFailed("odd")
    return increment(body)


def increment(body: bytes) -> Outcome:
    number = int(body) + 1 if body else 1
    return Outcome(b"%d" % number, b"%d" % number, b"visible")


@dataclass
class World:
    seed: int
    old: tuple[str, ...] = ("a", "b", "c")
    new: tuple[str, ...] | None = None  # a layout change happens when given
    proposers: int = 3
    operations: int = 4
    steps: int = 700
    loss: float = 0.06
    repeat: float = 0.03
    canary: str = ""
    now: int = 0
    published: int = 0
    history: list[Event] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        new = self.new or self.old
        names = dict.fromkeys((*self.old, *new))
        self.acceptors = {NodeId(name): Acceptor() for name in names}
        old_set, new_set = tuple(map(NodeId, self.old)), tuple(map(NodeId, new))
        self.views = {0: (2, (old_set,)), 1: (3, (old_set, new_set)), 2: (4, (new_set,))}
        self.pulled: dict[NodeId, tuple[Ballot, Value]] = {}
        self.installed: set[NodeId] = set()
        self._net: list[Callable[[], None]] = []
        self._actors = [Proposer(i, self, BallotClock(i + 1)) for i in range(self.proposers)]
        for node in new_set:
            if node not in old_set and self.random.random() < 0.5:
                # it was a member long ago and left a value that nobody chose, above all ballots to come
                ghost = Ballot(self.random.choice((1, 1 << 60)), 99)
                self.acceptors[node].state = acceptor.AcceptorState(ghost, ghost)
                self.acceptors[node].value = Value(b"", b"", b"")

    def send(self, actor: Proposer, machine: ReadRound | WriteRound, sends: list[Send]) -> None:
        for send in sends:
            for _ in range(2 if self.random.random() < self.repeat else 1):
                if self.random.random() >= self.loss:
                    self._net.append(lambda send=send: self._deliver(actor, machine, send))  # type: ignore[misc]

    def _deliver(self, actor: Proposer, machine: ReadRound | WriteRound, send: Send) -> None:
        reply, payload = self.acceptors[send.node].handle(send.request)

        def back() -> None:
            self.send(actor, machine, machine.receive(send.node, reply, payload))
            actor.advance(machine)

        if self.random.random() >= self.loss:
            self._net.append(back)

    def run(self) -> str:
        """ "" or what is wrong."""
        for _ in range(self.steps):
            self.now += 1
            dice = self.random.random()
            if dice < 0.7 and self._net:
                self._net.pop(self.random.randrange(len(self._net)))()
            elif dice < 0.9 or self.new is None or self.now < 60:
                self.random.choice(self._actors).tick()
            else:
                self._reconfigure()
        return check(self.history) or self._check_refused()

    def _check_refused(self) -> str:
        """An operation that was refused never shows up in the value."""
        value = max((one.state.accepted, one.value) for one in self.acceptors.values())[1]
        applied = {record.op for record in decode(value.state, Register).ops} if value.state else set()
        return "a refused operation was applied" if applied & set(self.refused) else ""

    def _reconfigure(self) -> None:
        """One random step of the layout change (objstore/repair/transition.py does the same)."""
        old, new = self.views[1][1]
        joining = [node for node in new if node not in old]
        if self.published == 0:
            if self.canary != "no reset of joining acceptors":
                for node in joining:
                    self.acceptors[node].reset(3)
            self.published = 1
            return
        dice = self.random.random()
        if dice < 0.3 and self.canary != "no fence":
            node = self.random.choice(old)
            self.acceptors[node].fence = max(self.acceptors[node].fence, 3)
        elif dice < 0.7 and self.published == 1:
            self._sync(old, new)
        else:
            actor = self.random.choice(self._actors)
            if actor.view < self.published and self.random.random() < 0.5:
                actor.view = self.published

    def _sync(self, old: tuple[NodeId, ...], new: tuple[NodeId, ...]) -> None:
        need = 1 if self.canary == "sync from one acceptor" else len(old) // 2 + 1
        if len(self.pulled) < need:
            node = self.random.choice(old)
            source = self.acceptors[node]
            if source.fence >= 3 or self.canary == "no fence":
                self.pulled[node] = (source.state.accepted, source.value)
            return
        ballot, value = max(self.pulled.values(), key=lambda pair: pair[0])
        node = self.random.choice(new)
        target = self.acceptors[node]
        if self.canary == "install ignores promises" and ballot > target.state.accepted:
            target.state, taken = acceptor.AcceptorState(max(target.state.promised, ballot), ballot), True
        else:
            target.state, taken = acceptor.install(target.state, ballot)
        if taken:
            target.value = value
        if target.state.accepted >= ballot:  # else a rival holds a promise: look again when it is through
            self.installed.add(node)
        if len(self.installed) > len(new) // 2:
            self.published = 2


def check(history: list[Event]) -> str:
    """Increments give distinct results, and nobody sees less than what ended before he began."""
    results = [event.result for event in history if event.kind == "increment"]
    if len(set(results)) != len(results):
        return "an increment was lost: two have the same result"
    for earlier in history:
        for later in history:
            if earlier.end < later.start:
                if later.result < earlier.result:
                    return f"{later} went back behind {earlier}"
                if later.kind == "increment" and later.result == earlier.result:
                    return f"{later} repeats {earlier}"
    if any(event.result > event.begun for event in history):
        return "an increment was applied twice"
    increments = sum(event.kind == "increment" for event in history)
    return "" if increments else "nothing was done"


CHANGES: tuple[tuple[str, ...] | None, ...] = (None, ("d", "e", "f"), ("a", "d", "e"), ("a", "b", "d"))


def explore(seeds: range, canary: str = "") -> tuple[int, str] | None:
    """The first failing seed with its reason; None when all pass."""
    for seed in seeds:
        new = CHANGES[seed % len(CHANGES)]
        wrong = World(seed, new=new, canary=canary).run()
        if wrong and wrong != "nothing was done":
            return seed, wrong
    return None
