"""One round of a proposer on one register, as a machine: replies in, requests out. Pure.

Protocol and proof sketch: DESIGN.md beside this file. A shell (objstore/engine/registers.py) sends what
`start` and `receive` return, feeds every reply and failure back, and looks at `outcome`. A machine lives for
one attempt under one pinned layout view; retries are new machines with higher ballots (INV-1: a view is
pinned from start to end).

    WriteRound:  prepare --majority--> [fetch data] --> [room] --> accept --majority--> Done
    ReadRound:   read --majority, one ballot--> Done
                 read --majority, ballots differ--> [fetch] --> accept (same ballot, same value) --> Done
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from objstore.model.clock import ZERO, Ballot
from objstore.model.errors import Conflict, NotFound
from objstore.model.ids import NodeId
from objstore.model.records import ABSENT, Register, Value, encode
from objstore.register.change import Decision
from objstore.register.quorum import QuorumTracker, majority_first, members
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


class Target(NamedTuple):
    """Which register, where, under which layout tag."""

    key: bytes  # RegisterKey.pack()
    partition: int
    tag: int
    sets: tuple[tuple[NodeId, ...], ...]


class Send(NamedTuple):
    node: NodeId
    request: Request
    payload: bytes = b""


class Done(NamedTuple):
    value: Value  # as it is chosen now; `data` is complete only where the round asked for it
    result: bytes = b""
    error: NotFound | Conflict | None = None


class Retry(Enum):
    CONTENDED = "a higher ballot was met"
    STALE = "the layout has changed"
    LOST = "no majority answers"
    UNKNOWN = "the operation may or may not have happened"
    FULL = "too few replicas have room"


class _Accepted(NamedTuple):
    ballot: Ballot
    value: Value
    has_data: bool
    floor: bytes  # packed ballot; of the partition, where nothing is accepted


class _Round:
    """What both machines share: counting answers, remembering why not, and the accept phase."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.outcome: Done | Retry | None = None
        self.highest = ZERO  # the highest ballot seen anywhere, for the proposer's clock
        self._tracker = QuorumTracker(target.sets)
        self._phase = ""
        self._refused = self._stale = False
        self._done: Done | None = None  # becomes the outcome when the accept phase succeeds

    def fail(self, node: NodeId) -> list[Send]:
        """No answer will come from this node in this phase."""
        self._tracker.failure(node)
        return self._check()

    def _check(self) -> list[Send]:
        if self.outcome is None and self._tracker.hopeless:
            self.outcome = Retry.STALE if self._stale else Retry.CONTENDED if self._refused else Retry.LOST
        return []

    def _negative(self, node: NodeId, reply: Reply) -> bool:
        if isinstance(reply, RegRefused):
            self.highest = max(self.highest, Ballot.unpack(reply.ballot))
            self._refused = True
        elif isinstance(reply, RegStale):
            self._stale = True
        else:
            return False
        self._tracker.failure(node)
        return True

    def _accept(self, ballot: Ballot, value: Value, done: Done, without: Collection[NodeId] = ()) -> list[Send]:
        self._phase = "accept"
        self._done = done
        self._tracker = QuorumTracker(self.target.sets)
        for node in without:
            self._tracker.failure(node)
        key, partition, tag, sets = self.target
        request = RegAccept(partition, tag, key, ballot.pack(), value.listing, value.state)
        return [Send(node, request, value.data) for node in members(sets) if node not in without]

    def _accept_reply(self, node: NodeId, reply: Reply) -> list[Send]:
        if not self._negative(node, reply):
            assert isinstance(reply, RegAccepted), reply
            self._tracker.success(node)
            if self._tracker.met:
                self.outcome = self._done
        return self._check()


def _state_of(reply: RegState, payload: bytes | memoryview, has_data: bool) -> _Accepted:
    value = Value(reply.listing, reply.state, bytes(payload))
    return _Accepted(Ballot.unpack(reply.accepted), value, has_data, reply.floor)


def _absent(replies: Iterable[_Accepted]) -> Value:
    """What a majority holds that accepted nothing, or forgot it: a tombstone that remembers no operation up to the
    floor (INV-11). One whose first accept is not above it may have been applied, and must not be again (INV-3)."""
    floor = Ballot.unpack(max(reply.floor for reply in replies))
    return ABSENT if floor == ZERO else Value(b"", encode(Register(b"", (), floor.time)), b"")


class ReadRound(_Round):
    """A linearizable read: one round trip when a majority agrees (models: 300,000 reads, no violation).

    With `with_data` the inline data comes from the first node asked; when that node turns out to be behind,
    it is fetched from one that is not. `preferred` flags belong to `members(target.sets)`.
    """

    def __init__(self, target: Target, *, with_data: bool, preferred: Sequence[bool]) -> None:
        super().__init__(target)
        self._with_data = with_data
        self._first, self._rest = majority_first(target.sets, preferred)
        self._replies: dict[NodeId, _Accepted] = {}
        self._fetching: NodeId | None = None
        self._asked_for_data: set[NodeId] = set()  # only their answers bring it, whatever is wanted by now
        self._phase = "read"

    def start(self) -> list[Send]:
        return [self._ask(node, self._with_data and i == 0) for i, node in enumerate(self._first)]

    def _ask(self, node: NodeId, with_data: bool) -> Send:
        key, partition, tag, _ = self.target
        if with_data:
            self._asked_for_data.add(node)
        return Send(node, RegRead(partition, tag, key, with_data))

    def more(self) -> list[Send]:
        """Ask everyone not asked yet: somebody is slow or failed."""
        rest, self._rest = self._rest, []
        return [self._ask(node, self._with_data) for node in rest] if self._phase == "read" else []

    def fail(self, node: NodeId) -> list[Send]:
        if self.outcome is not None:
            return []
        if self._phase == "accept":
            self._tracker.failure(node)
            return self._check()
        return self._without(node)

    def _without(self, node: NodeId) -> list[Send]:
        """Go on with what the others say: this one does not answer, or no longer."""
        if node == self._fetching:
            self._fetching = None
            del self._replies[node]
            self._tracker.withdraw(node)
        self._tracker.failure(node)
        self._check()
        return [] if self.outcome is not None else self.more() or self._settle()

    def receive(self, node: NodeId, reply: Reply, payload: bytes | memoryview) -> list[Send]:
        if self.outcome is not None:
            return []
        if isinstance(reply, RegAccepted) or self._phase == "accept":
            if self._phase != "accept" or isinstance(reply, RegState):
                return []  # a late answer of the other phase
            return self._accept_reply(node, reply)
        if self._negative(node, reply):
            return self._without(node)
        assert isinstance(reply, RegState), reply
        if node not in self._replies or node == self._fetching:
            self._replies[node] = _state_of(reply, payload, node in self._asked_for_data)
            self._tracker.success(node)
        if node == self._fetching:
            self._fetching = None
        return self._settle()

    def _settle(self) -> list[Send]:
        """A majority has answered: agree, fetch what is missing, or write back the highest."""
        if not self._tracker.met or self._fetching is not None:
            return []
        top = max(reply.ballot for reply in self._replies.values())
        holders = [node for node, reply in self._replies.items() if reply.ballot == top]
        agreed = QuorumTracker(self.target.sets)
        for node in holders:
            agreed.success(node)
        best = next((self._replies[n] for n in holders if self._replies[n].has_data), self._replies[holders[0]])
        if agreed.met and (top == ZERO or best.has_data or not self._with_data):
            self.outcome = Done(best.value if top != ZERO else _absent(self._replies.values()))
            return []
        if top != ZERO and not best.has_data:
            # writing back needs the whole value, and so does a caller who asked for it
            self._fetching = holders[0]
            self._with_data = True
            return [self._ask(holders[0], True)]
        return self._accept(top, best.value, Done(best.value))


class WriteRound(_Round):
    """Prepare, decide, accept under one ballot. `decide` is called at most once.

    `first`: the operation has sent no accept before. Only then may a decision to change nothing rest on a
    majority that agrees; otherwise an accept of an earlier round may still sit on one acceptor above that
    majority's ballot and be adopted later, so the value is written again under this round's ballot (INV-3).

    A promise costs its acceptor a write, so only a majority is asked for one: those that are `preferred` (as in
    ReadRound), the rest when one of them fails, refuses or is late (`more`). The value is sent to all.

    Who is full says so with his promise, and is sent no new value. When one is, all are asked, and nothing is sent
    unless a majority has room: of an operation that ends as FULL nobody holds anything. What takes no room (a
    tombstone), what settles what is there, and what an earlier round may have begun goes to everybody.
    """

    def __init__(
        self,
        target: Target,
        ballot: Ballot,
        decide: Callable[[Value], Decision],
        *,
        first: bool,
        preferred: Sequence[bool] = (),
    ) -> None:
        super().__init__(target)
        if not preferred:
            preferred = [True] * len(members(target.sets))
        self._first_asked, self._rest = majority_first(target.sets, preferred)
        self.ballot = ballot
        self._first = first
        self.accept_sent = False
        self._decide = decide
        self._replies: dict[NodeId, _Accepted] = {}
        self._decision: Decision | None = None
        self._waiting: list[NodeId] = []  # holders of the highest value still to be asked for its data
        self._changes = False  # the decision is for another value than the one that is there
        self._new: Value | None = None  # while room for it is looked for
        self._room = QuorumTracker(target.sets)  # of the first answer of each
        self.full: set[NodeId] = set()  # promised, and have no room
        self._phase = "prepare"

    def start(self) -> list[Send]:
        return self._prepare(self._first_asked)

    def _prepare(self, nodes: Sequence[NodeId]) -> list[Send]:
        key, partition, tag, _ = self.target
        request = RegPrepare(partition, tag, key, self.ballot.pack())
        return [Send(node, request) for node in nodes]

    def more(self) -> list[Send]:
        """Ask everyone for a promise who was not asked yet: somebody is slow or failed, or full."""
        if self._phase not in ("prepare", "room") or self.outcome is not None:
            return []
        rest, self._rest = self._rest, []
        return self._prepare(rest)

    def fail(self, node: NodeId) -> list[Send]:
        if self.outcome is not None:
            return []
        self._room.failure(node)
        if self._phase == "fetch":
            return self._fetch() if self._waiting and node == self._waiting[0] else []
        if self._phase == "room":
            return self._look_for_room()
        return super().fail(node) or self.more()

    def receive(self, node: NodeId, reply: Reply, payload: bytes | memoryview) -> list[Send]:
        if self.outcome is not None:
            return []
        if self._phase == "accept":
            late = isinstance(reply, RegState)  # of an earlier phase
            return [] if late else self._accept_reply(node, reply)
        if node not in self._replies:
            self._hear_of_room(node, reply)
        if self._phase == "fetch":
            return self._fetched(node, reply, payload)
        if self._negative(node, reply):
            return self._look_for_room() if self._phase == "room" else self._check() or self.more()
        assert isinstance(reply, RegState), reply
        if self._phase == "room":
            return self._look_for_room()
        self._replies[node] = _state_of(reply, payload, False)
        self._tracker.success(node)
        return self._decided() if self._tracker.met else []

    def _decided(self) -> list[Send]:
        top = max(reply.ballot for reply in self._replies.values())
        assert top < self.ballot, "INV-3: nobody promises below what he has accepted"
        if top == ZERO:
            value = _absent(self._replies.values())
        else:
            value = next(reply.value for reply in self._replies.values() if reply.ballot == top)
        self._decision = decision = self._decide(value)
        self._changes = decision.value is not None and decision.value != value
        if decision.unknown:
            self.outcome = Retry.UNKNOWN
            return []
        holders = [node for node, reply in self._replies.items() if reply.ballot == top]
        if decision.value is None:
            chosen = QuorumTracker(self.target.sets)
            for node in holders:
                chosen.success(node)
            if chosen.met and self._first:
                self.outcome = Done(value, decision.result, decision.error)
                return []
        if top != ZERO and (decision.value is None or decision.keep_data):
            self._waiting = [holders[0], *holders]  # _fetch drops the first
            return self._fetch()
        return self._write(decision.value if decision.value is not None else value)

    def _fetch(self) -> list[Send]:
        self._phase = "fetch"
        self._waiting = self._waiting[1:]
        if not self._waiting:
            self.outcome = Retry.LOST
            return []
        key, partition, tag, _ = self.target
        return [Send(self._waiting[0], RegRead(partition, tag, key, True))]

    def _fetched(self, node: NodeId, reply: Reply, payload: bytes | memoryview) -> list[Send]:
        if not self._waiting or node != self._waiting[0]:
            return []
        if self._negative(node, reply):
            self.outcome = Retry.STALE if self._stale else Retry.CONTENDED
            return []
        assert isinstance(reply, RegState) and self._decision is not None, reply
        if Ballot.unpack(reply.accepted) != self._replies[node].ballot:
            self.outcome = Retry.CONTENDED  # it accepted a ballot above ours since it promised
            return []
        value = _state_of(reply, payload, True).value
        new = self._decision.value
        return self._write(value if new is None else new._replace(data=self._decision.joined(value.data)))

    def _write(self, value: Value) -> list[Send]:
        if self._changes and self._first and (value.listing or value.data):
            self._new = value
            return self._look_for_room()
        return self._send_value(value)

    def _hear_of_room(self, node: NodeId, reply: Reply) -> None:
        if not isinstance(reply, RegState):
            self._room.failure(node)
        elif reply.full:
            self._room.failure(node)
            self.full.add(node)
        else:
            self._room.success(node)

    def _look_for_room(self) -> list[Send]:
        assert self._new is not None
        if self._room.met:
            return self._send_value(self._new, without=self.full)
        self._phase = "room"
        if self._room.hopeless:
            self.outcome = Retry.STALE if self._stale else Retry.CONTENDED if self._refused else Retry.FULL
        return self.more()

    def _send_value(self, value: Value, without: Collection[NodeId] = ()) -> list[Send]:
        assert self._decision is not None
        self.accept_sent = True
        return self._accept(self.ballot, value, Done(value, self._decision.result, self._decision.error), without)
