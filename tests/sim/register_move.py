"""A leader that moves the explorer's register from one set of acceptors to the next, as repair/transition.py does.

A generator: each step touches one acceptor, and anything may happen between two of them. Several may run at once, and
one may go on long after others finished what it began: tags and the compare-and-swap of the map must hold it back.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from objstore.model.clock import ZERO, Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Value
from objstore.wire.messages import Reply
from tests.sim.register_model import KEY, Held

if TYPE_CHECKING:
    from tests.sim.explorer import World

Steps = Generator[None, None, bool]
SETTLE_STEPS = 200
COMMIT_STEPS = 20


class Mover:
    def __init__(self, world: World) -> None:
        self._world = world

    def run(self) -> Generator[None, None, None]:
        """Until the last layout holds."""
        world = self._world
        while True:
            at = world.published
            if at % 2:
                if (yield from self._move(at)) and world.publish(at, at + 1):
                    world.seen["moves"] += 1
                    yield from self._forget(at + 1)
            elif at + 2 < len(world.views):
                yield from self._begin(at)
            else:
                yield from self._forget(at)
                return
            yield

    def _begin(self, at: int) -> Generator[None, None, None]:
        """Newcomers forget what they know, durably, before anybody can know of the joint view (INV-6)."""
        world = self._world
        old, new = world.sets[at // 2 : at // 2 + 2]
        if sorted(old) == sorted(new):
            world.publish(at, at + 2)
            return
        tag, _ = world.views[at + 1]
        if world.bug != "newcomers do not forget":
            yield from self._on_all([node for node in new if node not in old], "drop", tag)
        world.publish(at, at + 1)

    def _forget(self, at: int) -> Generator[None, None, None]:
        """Former owners drop what they hold: best effort."""
        world = self._world
        tag, (owners,) = world.views[at]
        for node in world.nodes:
            if node not in owners and world.dice.random() < 0.7:
                yield
                if world.reach(node):
                    world.acceptors[node].drop(tag, _ignore)

    def _on_all(self, nodes: Sequence[NodeId], method: str, tag: int) -> Generator[None, None, None]:
        done: set[NodeId] = set()
        while len(done) < len(nodes):
            yield
            node = self._world.pick(nodes)
            if node not in done and self._world.reach(node):
                getattr(self._world.acceptors[node], method)(tag, partial(_confirm, done, node))

    def _move(self, at: int) -> Steps:
        """Fence and sync. False: something was in the way, begin again."""
        world = self._world
        tag, (old, new) = world.views[at]
        fenced: set[NodeId] = set()
        need = 1 if world.bug == "a sync from one acceptor" else len(old) // 2 + 1
        if world.bug != "no fence":
            while len(fenced) < need:
                yield
                node = world.pick(old)
                if world.reach(node):
                    world.acceptors[node].fence(tag, partial(_confirm, fenced, node))
        looked = yield from self._look(dict.fromkeys((*(fenced or old), *new)))
        sources = {n: held for n, held in looked.items() if n in old and (held.fence >= tag or world.bug == "no fence")}
        targets = {n: held for n, held in looked.items() if n in new}
        if len(sources) < need or len(targets) <= len(new) // 2:
            return False
        source = max(sources, key=lambda node: sources[node].state.accepted)
        ballot = sources[source].state.accepted
        settle = self._has_promised_more(sources, ballot)
        if world.bug == "a sync does not settle":
            settle = False
        if ballot != ZERO and not settle:
            lagging = [node for node, held in targets.items() if held.state.accepted < ballot]
            yield from self._copy(tag, source, lagging, sources[source])
            looked = yield from self._look(lagging)
            targets.update(looked)
            settle = sum(held.state.accepted >= ballot for held in targets.values()) <= len(new) // 2
            if world.bug == "an install is not looked at":
                settle = False
        if settle and not (yield from self._settle(at)):
            return False
        return (yield from self._raise_floor(tag, sources, targets, len(new)))

    def _has_promised_more(self, sources: dict[NodeId, Held], ballot: Ballot) -> bool:
        """Who has forgotten the register may have promised anything up to the floor."""
        if ballot == ZERO:
            floor = max(held.floor for held in sources.values())
            return any(held.state.promised > floor for held in sources.values())
        if self._world.bug == "a sync copies what others have forgotten":
            return any(held.state.promised > ballot for held in sources.values())
        return any(held.look.promised(KEY) > ballot.pack() for held in sources.values())

    def _raise_floor(self, tag: int, sources: dict[NodeId, Held], targets: dict[NodeId, Held], owners: int) -> Steps:
        """A majority of the new owners knows what has been forgotten."""
        world = self._world
        floor = max(held.floor for held in sources.values())
        if floor == ZERO or world.bug == "the floor stays behind":
            return True
        knowing: set[NodeId] = set()
        for node in sorted(targets, key=lambda node: world.dice.random()):
            yield
            if len(knowing) <= owners // 2 and world.reach(node):
                world.acceptors[node].forget(tag, floor, None, partial(_confirm, knowing, node))
        for _ in range(COMMIT_STEPS):
            if len(knowing) > owners // 2:
                return True
            yield
        return False

    def _look(self, nodes: Sequence[NodeId] | dict[NodeId, None]) -> Generator[None, None, dict[NodeId, Held]]:
        """What these acceptors hold durably, each at another moment. Those that do not answer are missing."""
        world = self._world
        found: dict[NodeId, Held] = {}
        order = sorted(nodes)
        world.dice.shuffle(order)
        for node in order:
            yield
            if world.reach(node):
                found[node] = world.acceptors[node].durable
        return found

    def _copy(self, tag: int, source: NodeId, nodes: Sequence[NodeId], seen: Held) -> Generator[None, None, None]:
        """Values are read anew, so they may be newer by now. An install may arrive much later, or never."""
        world = self._world
        yield
        held = world.acceptors[source].durable if world.dice.random() < 0.7 else seen
        if held.state.accepted == ZERO:
            return
        for node in nodes:
            yield
            install = partial(self._install, node, tag, held.state.accepted, held.value)
            if world.reach(node):
                install()
                if world.dice.random() < 0.2:
                    world.later(node, install)
            else:
                world.later(node, install)

    def _install(self, node: NodeId, tag: int, ballot: Ballot, value: Value) -> None:
        self._world.acceptors[node].install(tag, ballot, value, _ignore)

    def _settle(self, at: int) -> Steps:
        world = self._world
        world.seen["settled"] += 1
        proposer = world.settler(at)
        for _ in range(SETTLE_STEPS):
            yield
            if proposer.machine is None:
                return proposer.settled
            if proposer.machine.outcome is not None or world.dice.random() < 0.1:
                proposer.tick()
        world.forget_calls(proposer)
        return False


def _confirm(done: set[NodeId], node: NodeId, reply: Reply | None, payload: bytes) -> None:
    if reply is None:  # else it is stale: somebody is ahead
        done.add(node)


def _ignore(reply: Reply | None, payload: bytes) -> None:
    pass
