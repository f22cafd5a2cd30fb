"""A process that runs operations on the explorer's register: the real rounds, retried as engine/registers.py does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from objstore.model.clock import Ballot
from objstore.model.errors import GivenUp
from objstore.model.ids import NodeId
from objstore.model.records import Value
from objstore.register.change import Decision, apply
from objstore.register.proposer import Done, ReadRound, Retry, Send, Target, WriteRound
from objstore.register.quorum import members
from objstore.wire.messages import Reply
from tests.sim import register_history as history
from tests.sim.register_history import APPEND, DELETE, EVEN, KEEP, NEW, READ, SETTLE, Op

if TYPE_CHECKING:
    from tests.sim.explorer import World

KEY = bytes(17) + b"list"
HEAL_PATIENCE = 40


class Call:
    """One request on its way; at most one answer comes back, or the word that none will."""

    __slots__ = ("actor", "data", "machine", "node", "open", "payload", "reply", "request")

    def __init__(self, actor: Proposer, machine: ReadRound | WriteRound, send: Send) -> None:
        self.actor, self.machine = actor, machine
        self.node, self.request, self.data = send
        self.open = True
        self.reply: Reply | None = None
        self.payload = b""


class Proposer:
    """A process that serves one client after another; `world` is everything it cannot see."""

    def __init__(self, world: World, number: int, operations: int) -> None:
        self.world = world
        self.number = number
        self.left = operations
        self.kinds = world.mood.kinds
        self.clock = world.new_clock()
        self.view = world.published  # what it believes of the layout
        self.op: Op | None = None
        self.op_id = b""
        self.repeats: list[Op] = []  # operations of other proposers that the client sends here again
        self.first_accept: int | None = None
        self.machine: ReadRound | WriteRound | None = None
        self.calls: list[Call] = []  # of the machine
        self.began = self.age = 0
        self.with_data = self.settled = False
        self.met_full = False  # a replica has refused the machine's value for lack of room
        self.avoids: NodeId | None = None  # asked last when reading

    @property
    def is_done(self) -> bool:
        return self.machine is None and not self.left and not self.repeats

    def tick(self) -> None:
        machine, world = self.machine, self.world
        if machine is None:
            if self.repeats:
                self.begin(self.repeats.pop())
            elif self.left:
                self.left -= 1
                self.begin(world.new_op(self.kinds[int(world.dice.random() * len(self.kinds))]))
            return
        if machine.outcome is not None:
            self._again(machine)
            return
        self.age += 1
        if self.age == 2:
            world.send(self, machine, machine.more())
            self.advance(machine)
        elif self.age > 2 and not any(call.open for call in self.calls):
            world.fault(f"{self.number} waits for an answer that nobody owes")
        elif self.age > (HEAL_PATIENCE if world.calm else world.mood.patience):
            if not world.calm and world.dice.random() < world.mood.quit:
                self._give_up()  # the client is told that the outcome is unknown; the round goes on by itself
            else:
                self.age = 0
                for call in self.calls:
                    world.fail(call)

    def begin(self, op: Op) -> None:
        self.op = op
        self.op_id = bytes((op.number,)) * 16
        self.clock.observe(Ballot(self.world.born.get(op.number, 0), 0))
        self.first_accept = None
        self.began = self.world.now
        self._start(fresh=True)

    def _start(self, *, fresh: bool) -> None:
        world, op = self.world, self.op
        assert op is not None
        self.age = 0
        self.calls = []
        self.met_full = False
        tag, sets = world.views[self.view]
        target = Target(KEY, 0, tag, sets)
        dice = world.dice.random
        if op.kind == READ and fresh:
            up = [node != self.avoids and dice() < 0.7 for node in members(sets)]
            self.with_data = dice() < 0.5
            self.machine = ReadRound(target, with_data=self.with_data, preferred=up)
        else:
            ballot = self.clock.next(world.wall_ms(self.number))
            first = self.first_accept is None or world.bug == "a shortcut after an accept"
            born = world.born.setdefault(op.number, ballot.time - 1)
            repeated = self.began > op.start  # what was forgotten of it, nobody can tell (see change.py)
            decide = partial(_decide, op, self.op_id, ballot, self.first_accept, born if repeated else None)
            up = [dice() < 0.7 for _ in members(sets)]
            self.machine = WriteRound(target, ballot, decide, first=first, preferred=up)
        world.send(self, self.machine, self.machine.start())

    def _again(self, machine: ReadRound | WriteRound) -> None:
        outcome = machine.outcome
        world, op = self.world, self.op
        assert op is not None
        self.clock.observe(machine.highest)
        if isinstance(machine, WriteRound) and machine.accept_sent and self.first_accept is None:
            self.first_accept = machine.ballot.time
        if outcome is Retry.STALE:
            self.view = world.published
        late = outcome is Retry.LOST and not world.calm and world.dice.random() < world.mood.quit
        if outcome is Retry.UNKNOWN or late:
            self._give_up()
            return
        late_word = world.bug == "a lack of room is told too late" and self.met_full and op.kind == APPEND
        if outcome is Retry.FULL or (late_word and outcome is Retry.LOST):
            self._refused_for_room()
            return
        if world.bug == "a retry with a new id":
            self.op_id = world.dice.randbytes(16)
        self._start(fresh=op.kind == READ and outcome is not Retry.CONTENDED and not self.met_full)

    def _refused_for_room(self) -> None:
        """Never for what takes none, and then nothing of it is anywhere."""
        world, op = self.world, self.op
        assert op is not None
        if op.kind in (READ, DELETE, SETTLE):
            world.fault(f"refused for lack of room: {op}")
        if self.began > op.start:  # what the client sent before may be there
            self._give_up()
            return
        self.op = self.machine = None
        world.note_never(op)

    def _give_up(self) -> None:
        """The client may send the operation again somewhere else, as the same one (a Complete of an upload)."""
        world, op = self.world, self.op
        assert op is not None
        self.op = self.machine = None
        world.tell("%d gives up %s", self.number, op)
        if op.kind in (APPEND, KEEP, EVEN, NEW) and world.remembers and world.dice.random() < 0.3:
            world.actors[int(world.dice.random() * len(world.actors))].repeats.append(op)

    def restart(self) -> None:
        """The process dies, and another takes its place: other ballots, nothing remembered, no call answered."""
        self.world.forget_calls(self)
        self.op = self.machine = None
        self.repeats.clear()
        self.clock = self.world.new_clock()
        self.view = self.world.published

    def advance(self, machine: ReadRound | WriteRound) -> None:
        done = machine.outcome
        if machine is not self.machine or not isinstance(done, Done):
            return
        op, world = self.op, self.world
        assert op is not None
        self.op = self.machine = None
        if op.kind == SETTLE:
            self.settled = True
        elif op.kind == READ:
            world.note_read(op, done.value, whole=self.with_data or isinstance(machine, WriteRound))
        elif done.error is None:
            world.note(op, done.result)
        elif isinstance(done.error, GivenUp):
            world.tell("%d has to give up %s", self.number, op)
        else:
            if self.began > op.start:  # what the client sent before may still be applied
                op = world.another(op, self.began)
            else:
                world.check_refusal(op)
            world.note(op, bytes.fromhex(str(done.error)), refused=True)


def _decide(op: Op, op_id: bytes, ballot: Ballot, first_accept: int | None, born: int | None, value: Value) -> Decision:
    if op.kind == READ:
        return Decision(value, keep_data=True)
    return apply(value, history.change_of(op), op_id, ballot, first_accept, born)
