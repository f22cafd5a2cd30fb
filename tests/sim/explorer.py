"""Message-level explorer of the pure register code: random schedules, one register, checked results.

Drives the real machines of objstore/register with a network that loses, repeats, delays and reorders, acceptors that
crash, proposers that stall, die and come back, and leaders that move the register from one set of acceptors to the
next. Every seed draws a *personality* (which trouble, how much of it), and lives through *phases* in which some
messages do not get through: most bugs need an order that even dice never throw. At the end the network heals, the
layout change must end, and reads must agree with all that was said. No asyncio, no clock: one schedule is one seed.

    python -m tests.sim.explorer --schedules 100000 --jobs 2      explore; exit 1 and how to replay on a failure
    python -m tests.sim.explorer --seed 4711                      one schedule, told step by step
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from objstore.model import limits
from objstore.model.clock import Ballot, BallotClock
from objstore.model.ids import NodeId
from objstore.model.records import Value
from objstore.register.acceptor import AcceptorState
from objstore.register.change import apply, body_of
from objstore.register.proposer import ReadRound, Send, WriteRound
from objstore.register.quorum import members
from objstore.wire.messages import RegAccept, RegPrepare, Reply
from tests.sim import register_history as history
from tests.sim.register_collect import Collector
from tests.sim.register_history import APPEND, DELETE, READ, SETTLE, Op
from tests.sim.register_model import Acceptor, Held, Ledger, brief
from tests.sim.register_moods import Draw, draw, draw_sharp
from tests.sim.register_move import Mover
from tests.sim.register_proposer import Call, Proposer

HEAL_STEPS = 2000
PART = 500  # schedules that a process takes at a time
READS_OF_READER = 6
LATE_STEPS = 100  # mean delay of a late message
CLOSING_STEPS = 120  # after healing, for the operations that are still under way

PREPARES, ACCEPTS, READS, REPLIES, MOVES = range(0, 80, 16)  # + index of the node = code of a message
_KIND: dict[type, int] = {RegPrepare: PREPARES, RegAccept: ACCEPTS}


class World:
    """Network, acceptors, the published map, and the dice."""

    def __init__(self, seed: int, bug: str = "", *, told: bool = False, draw: Draw = draw) -> None:
        self.dice = random.Random(seed)
        self.mood = mood = draw(self.dice)
        self.bug = bug
        self.now = self.settles = 0
        self.calm = False
        self.remembers = mood.leap <= 1 and mood.skew < limits.OPS_KEPT_MS  # results of operations, to the end
        self.published = 0  # index of the newest view
        self.sets = [tuple(map(NodeId, one)) for one in mood.layout]
        self.views = _views(self.sets)
        self.nodes = tuple(dict.fromkeys(node for one in self.sets for node in one))
        self._ledger = Ledger()
        self.acceptors = {node: Acceptor(lazy=mood.lazy > 0, ledger=self._ledger, bug=bug) for node in self.nodes}
        self.ops: list[Op] = []
        self.wrong = ""
        self.seen: Counter[str] = Counter()
        self.told: list[str] | None = [] if told else None
        self._index = {node: i for i, node in enumerate(self.nodes)}
        self._processes = 0
        self._net: list[tuple[int, Call | partial[None]]] = []
        self._late: list[tuple[float, int, Call | partial[None]]] = []
        self._blocked: frozenset[int] = frozenset()
        self._paused: Proposer | None = None
        self._plot = list(mood.plot)
        self._phase_ends = 0
        self._victim = self.dice.randrange(len(self.nodes))  # most trouble is about this node
        self._drops = False  # what does not get through is lost, not late
        self._pace = mood.tick + mood.move
        self.actors = [Proposer(self, i, mood.operations) for i in range(mood.proposers)]
        if self.dice.random() < 0.5:
            self.actors.append(Proposer(self, mood.proposers, READS_OF_READER))
            self.actors[-1].kinds = (READ,)
        self._movers = [Mover(self).run() for _ in range(mood.leaders)] if len(self.sets) > 1 else []
        self.born: dict[int, int] = {}  # operation -> ballot time when the client began it
        self._collecting = self.dice.choice((0.0, 0.1, 0.3, 0.6)) if DELETE in mood.kinds else 0.0
        self._collectors = [Collector(self).run() for _ in range(self.dice.choice((1, 2)))] if self._collecting else []
        self._full = random.Random(f"full {seed}")  # dice of their own: other schedules stay what they are
        self._fullness = self._full.choice((0.0, 0.0, 0.0, 0.3, 0.7))
        self._leave_ghosts()
        self._begin_with(self.dice.choice((0, 0, 1, 2)))

    @property
    def forgets(self) -> bool:
        """Whether leaders try to forget the register when it is a tombstone."""
        return bool(self._collectors)

    def _begin_with(self, length: int) -> None:
        """Operations that were through before all trouble."""
        value, clock = Value(b"", b"", b""), self.new_clock()
        dies = self._collecting and self.dice.random() < 0.5
        for number in range(length):
            op = self.new_op(DELETE if dies and number == length - 1 else APPEND)
            ballot = clock.next(0)
            done = apply(value, history.change_of(op), bytes((op.number,)) * 16, ballot, None)
            value = done.value or value
            self.note(op, done.result)
            for node in self.sets[0]:
                acceptor = self.acceptors[node]
                acceptor.held = acceptor.durable = Held(AcceptorState(ballot, ballot), value, 0)

    def _leave_ghosts(self) -> None:
        """A later member was one long ago, and kept a value that nobody chose, above or below all ballots to come."""
        for node in self.nodes:
            if node not in self.sets[0] and self.dice.random() < 0.4:
                ghost = Ballot(self.dice.choice((1, 1 << 60)), 99)
                acceptor = self.acceptors[node]
                acceptor.held = acceptor.durable = Held(AcceptorState(ghost, ghost), Value(b"", b"", b""), 0)

    # --- what proposers and leaders ask of it ---

    def new_clock(self) -> BallotClock:
        self._processes += 1
        return BallotClock(self._processes)

    def settler(self, view: int) -> Proposer:
        """A process that runs a full round and changes nothing, for a leader."""
        proposer = Proposer(self, len(self.actors), 0)
        proposer.view = view
        self.settles += 1
        proposer.begin(Op(256 - self.settles, SETTLE, self.now))
        return proposer

    def wall_ms(self, number: int) -> int:
        return self.now * self.mood.leap + number * self.mood.skew

    def pick(self, nodes: Sequence[NodeId]) -> NodeId:
        return nodes[int(self.dice.random() * len(nodes))]

    def reach(self, node: NodeId) -> bool:
        """Does a leader's call to this node succeed now?"""
        return self.calm or (MOVES + self._index[node] not in self._blocked and self.dice.random() >= self.mood.loss)

    def publish(self, before: int, after: int) -> bool:
        """Compare and swap of the map."""
        if self.published != before:
            return False
        self.published = after
        self.tell("the map has view %d now: %s", after, self.views[after])
        return True

    def new_op(self, kind: str) -> Op:
        self.ops.append(Op(len(self.ops), kind, self.now))
        return self.ops[-1]

    def another(self, op: Op, began: int) -> Op:
        """A second answer to the same client, who sent `op` twice."""
        self.ops.append(Op(op.number, op.kind, began))
        return self.ops[-1]

    def note(self, op: Op, result: bytes, *, refused: bool = False) -> None:
        op.end, op.result, op.refused = self.now, result, refused
        self.seen["refused" if refused else op.kind] += 1
        self.tell("answered: %s", op)

    def note_never(self, op: Op) -> None:
        op.end, op.never = self.now, True
        self.seen["no room"] += 1
        self.tell("refused for lack of room: %s", op)

    def check_refusal(self, op: Op) -> None:
        """What was refused must not be in the newest accepted value: whoever comes next would choose it (INV-3)."""
        owners = members(self.views[self.published][1])
        newest = max((self.acceptors[node].held for node in owners), key=lambda held: held.state.accepted)
        if op.number in body_of(newest.value):
            self.fault(f"refused, and about to be applied: {op}")

    def note_read(self, op: Op, value: Value, *, whole: bool) -> None:
        body = body_of(value)
        if mismatch := history.check_parts(body, value.listing, value.data if whole else None, self.ops):
            self.fault(mismatch)
        self.note(op, body)

    def fault(self, what: str) -> None:
        self.wrong = self.wrong or what
        self.tell("!!! %s", what)

    def tell(self, text: str, *args: object) -> None:
        if self.told is not None:
            self.told.append(f"{self.now:4d} {text % args}")

    # --- network ---

    def send(self, actor: Proposer, machine: ReadRound | WriteRound, sends: list[Send]) -> None:
        for one in sends:
            call = Call(actor, machine, one)
            actor.calls.append(call)
            self._put(_KIND.get(type(one.request), READS) + self._index[one.node], call)

    def later(self, node: NodeId, action: partial[None]) -> None:
        self._put(MOVES + self._index[node], action)

    def _put(self, code: int, what: Call | partial[None]) -> None:
        if self.mood.late and not self.calm and self.dice.random() < self.mood.late:
            self._late.append((self.now + self.dice.expovariate(1 / LATE_STEPS), code, what))
        else:
            self._net.append((code, what))

    def fail(self, call: Call) -> None:
        """No answer will come, whatever became of the request."""
        if call.open:
            call.open = False
            self.send(call.actor, call.machine, call.machine.fail(call.node))
            call.actor.advance(call.machine)

    def forget_calls(self, actor: Proposer) -> None:
        """The process is gone; its requests are on their way all the same."""
        for *_, call in (*self._net, *self._late):
            if isinstance(call, Call) and call.actor is actor:
                call.open = False
        for call in actor.calls:
            call.open = False

    def _deliver(self) -> bool:
        """One message that gets through, drawn evenly. False when none was found."""
        net, dice = self._net, self.dice.random
        for _ in range(min(4, len(net))):
            at = int(dice() * len(net))
            code, what = net[at]
            if code in self._blocked:
                if self._drops and isinstance(what, Call):
                    net[at] = net[-1]
                    net.pop()
                    self.fail(what)
                    return True
                continue
            if not isinstance(what, Call):
                net[at] = net[-1]
                net.pop()
                what()
                return True
            if what.reply is not None and what.actor is self._paused:
                continue
            net[at] = net[-1]
            net.pop()
            if what.reply is not None:
                self._arrive(what)
            else:
                self._serve(code, what)
            return True
        return False

    def _serve(self, code: int, call: Call) -> None:
        if not self.calm:
            dice, mood = self.dice.random, self.mood
            if dice() < mood.loss:
                self.fail(call)
                return
            if mood.repeat and dice() < mood.repeat:
                again = Call(call.actor, call.machine, Send(call.node, call.request, call.data))
                again.open = False
                self._net.append((code, again))
        acceptor, request, answer = self.acceptors[call.node], call.request, partial(self._answer, call)
        if isinstance(request, RegAccept) and acceptor.has_no_room(request, call.data):
            if call.open:
                call.actor.met_full = call.actor.met_full or call.machine is call.actor.machine
                self.fail(call)
        elif isinstance(request, RegAccept):
            acceptor.accept(request, call.data, answer)
        else:
            acceptor.handle(request, answer)
        if self.told is not None:
            self.tell("%d -> %s %s; it has %s", call.actor.number, call.node, brief(request), acceptor.held.brief())

    def _answer(self, call: Call, reply: Reply | None, payload: bytes) -> None:
        if call.open:
            if not self.calm and self.dice.random() < self.mood.loss:
                self.fail(call)
                return
            call.reply, call.payload = reply, payload
            self._net.append((REPLIES + self._index[call.node], call))

    def _arrive(self, call: Call) -> None:
        if call.open:
            call.open = False
            assert call.reply is not None
            if self.told is not None:
                self.tell("%d <- %s %s", call.actor.number, call.node, brief(call.reply))
            self.send(call.actor, call.machine, call.machine.receive(call.node, call.reply, call.payload))
            call.actor.advance(call.machine)

    # --- trouble ---

    def _turn(self) -> None:
        """Another phase begins."""
        dice, mood = self.dice, self.mood
        self._phase_ends = self.now + 1 + int(dice.expovariate(1 / mood.phase))
        self._paused = dice.choice(self.actors) if dice.random() < 0.2 else None
        if self._plot:
            names = self._plot.pop(0).split(", ")
        else:
            names = [dice.choice(mood.phases)]
            if dice.random() < 0.3:
                names += ["another", dice.choice(mood.phases)]
        self._blocked = frozenset([code for name in names for code in self._trouble(name)])
        self._drops = "hold" not in names and dice.random() < 0.5
        hurry = 0 if "still" in names else 3 if "rush" in names else dice.choice((0, 1, 1, 3))
        self._pace = mood.tick + mood.move * hurry
        self._set_fullness()
        self._net += [(code, what) for due, code, what in self._late if due <= self.now]
        self._late = [one for one in self._late if one[0] > self.now]

    def _set_fullness(self) -> None:
        for acceptor in self.acceptors.values():
            acceptor.full = self._full.random() < self._fullness

    def _trouble(self, name: str) -> list[int]:
        """The messages that do not get through."""
        dice = self.dice
        every = range(len(self.nodes))
        if name == "another":
            self._victim = dice.randrange(len(self.nodes))
        one = self._victim
        blocked: list[int] = []
        if name == "starve":
            blocked = [kind + one for kind in (PREPARES, ACCEPTS, READS, *dice.choice(((), (MOVES,))))]
        elif name == "lonely accepts":
            blocked = [ACCEPTS + node for node in every if node != one]
        elif name == "only prepares":
            blocked = [ACCEPTS + node for node in every]
        elif name == "no replies":
            blocked = [REPLIES + node for node in every if node != one]
        elif name == "split":
            few = dice.sample(every, len(every) // 2)
            blocked = [kind + node for node in few for kind in (PREPARES, ACCEPTS, READS, MOVES)]
        elif name == "pause":
            self._paused = dice.choice(self.actors)
        self.tell("--- %s %s", name, self.nodes[one])
        return blocked

    def _step(self) -> None:
        """One thing happens."""
        self.now += 1
        dice, mood = self.dice.random, self.mood
        if self.now >= self._phase_ends and not self.calm:
            self._turn()
        fate = dice()
        if fate < mood.tick:
            actor = self.actors[int(dice() * len(self.actors))]
            if actor is not self._paused:
                actor.tick()
        elif fate < self._pace:
            self._lead()
        elif self._collectors and dice() < self._collecting:
            next(self._collectors[int(dice() * len(self._collectors))])
        elif mood.lazy and dice() < mood.lazy:
            self.acceptors[self.pick(self.nodes)].commit()
        elif not self.calm and mood.crash and dice() < mood.crash:
            self._cut_power(self.nodes if dice() < 0.3 else (self.pick(self.nodes),))
        elif not self.calm and mood.restart and dice() < mood.restart:
            self.seen["restarts"] += 1
            actor = self.actors[int(dice() * len(self.actors))]
            actor.restart()
            self.tell("%d restarts", actor.number)
        elif not self._deliver() and not self._net:
            self.actors[int(dice() * len(self.actors))].tick()

    def _cut_power(self, nodes: Sequence[NodeId]) -> None:
        for node in nodes:
            self.seen["crashes"] += 1
            self.acceptors[node].crash(self.dice)
            self.tell("%s crashes and has %s", node, self.acceptors[node].held.brief())

    def _lead(self) -> None:
        if self._movers:
            mover = self._movers[int(self.dice.random() * len(self._movers))]
            if next(mover, True):
                self._movers.remove(mover)

    # --- one schedule ---

    def run(self) -> str:
        """ "" or what is wrong."""
        for _ in range(self.mood.steps):
            self._step()
            if not self._net and not self._movers and all(actor.is_done for actor in self.actors):
                break
        self._heal()
        self.seen["unknown"] += sum(op.end > self.now for op in self.ops)
        return self.wrong or self._ledger.wrong or history.check(self.ops)

    def _heal(self) -> None:
        """Everything works again: changes end, operations may, and reads show what has become of it all."""
        self.calm = True
        self._blocked, self._paused = frozenset(), None
        self.tell("--- healed")
        if self.bug == "a lack of room is told too late":  # else what it keeps from ending hides what it spoils
            self._fullness = 0.0
            self._set_fullness()
        ending = self.dice.choice(("all is lost", "all arrives", "all goes on"))
        if ending == "all is lost":
            self._net.clear()
            self._late.clear()
        for _ in range(HEAL_STEPS):  # proposers wait and leaders take turns: nothing here backs off
            if not self._movers:
                break
            if next(self._movers[0], True):
                self._movers.pop(0)
            self._flush()
        else:
            self.fault("the layout change does not end")
            return
        for _ in range(CLOSING_STEPS if ending == "all goes on" else 0):
            if all(actor.machine is None for actor in self.actors):
                break
            self._step()
        for actor in self.actors:
            actor.left = 0
        if self._collectors and self.dice.random() < 0.5:
            for _ in Collector(self).collect(self.published):
                self._flush()
        self._last_read()
        self._last_read()
        self._net += [(code, what) for _, code, what in self._late]
        while self._net:  # what was late comes after the read, and must not matter to the next one
            self._flush()
        self._last_read()

    def _flush(self) -> None:
        """One message, and every commit."""
        self.now += 1
        self._deliver()
        if self.mood.lazy:
            for acceptor in self.acceptors.values():
                acceptor.commit()

    def _last_read(self) -> None:
        reader = Proposer(self, len(self.actors), 0)
        reader.avoids = self.pick(self.views[self.published][1][-1])
        self.now += 1
        reader.begin(self.new_op(READ))
        for _ in range(HEAL_STEPS):
            if reader.machine is None:
                return
            if self.dice.random() < 0.2:
                reader.tick()
            self._flush()
        self.fault("a read does not end although everything works")


def _views(sets: Sequence[tuple[NodeId, ...]]) -> list[tuple[int, tuple[tuple[NodeId, ...], ...]]]:
    """(tag, acceptor sets): each layout alone at the even places, two together between them."""
    views: list[tuple[int, tuple[tuple[NodeId, ...], ...]]] = []
    for i, one in enumerate(sets):
        if i:
            views.append((2 * i + 1, (sets[i - 1], one)))
        views.append((2 * i + 2, (one,)))
    return views


def explore(seeds: range, bug: str = "", *, sharp: bool = False) -> tuple[int, str] | None:
    """The first failing seed with its reason; None when all pass. `sharp`: one kind of trouble only."""
    failures, _ = _explore(bug, seeds, draw_sharp if sharp else draw)
    return failures[0] if failures else None


def _explore(bug: str, seeds: range, draw: Draw = draw) -> tuple[list[tuple[int, str]], Counter[str]]:
    """(the first failure, if any; how often what was seen)"""
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed, bug, draw=draw)
        wrong = world.run()
        seen.update(world.seen)
        seen["schedules"] += 1
        if wrong:
            return [(seed, wrong)], seen
    return [], seen


def show(seed: int, bug: str) -> int:
    world = World(seed, bug, told=True)
    wrong = world.run()
    print(world.mood, *(world.told or []), wrong or "nothing is wrong", sep="\n")
    return int(bool(wrong))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.explorer", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--bug", default="", help="plant this one: see tests/unit/register/test_explorer.py")
    parser.add_argument("--seed", type=int, help="one schedule, told step by step")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return show(options.seed, options.bug)
    end = options.start + options.schedules
    parts = [range(first, min(first + PART, end)) for first in range(options.start, end, PART)]
    began = time.perf_counter()
    seen: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for found, counts in pool.imap_unordered(partial(_explore, options.bug), parts):
            seen.update(counts)
            failures += found
    took = time.perf_counter() - began
    print(f"{seen.pop('schedules')} schedules in {took:.0f} s, {options.schedules / took:.0f} per second")
    print(", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
    bug = f" --bug '{options.bug}'" if options.bug else ""
    for seed, wrong in sorted(failures):
        print(f"WRONG: {wrong}\n  python -m tests.sim.explorer --seed {seed}{bug}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
