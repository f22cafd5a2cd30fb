"""A leader that forgets the explorer's register when it is a tombstone, as repair/tombstones.py does.

What may go is decided by the real rule (objstore/register/forgetting.py). A generator like the mover: several may run,
each with a view that may be old by the time it acts on it, and its messages may come late, twice or never.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING

from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.register.change import body_of
from objstore.register.forgetting import Forgetting, Look, forgettable
from objstore.wire.messages import Reply
from tests.sim.register_model import KEY, Held

if TYPE_CHECKING:
    from tests.sim.explorer import World

_ALL = b"\xff" * 16
CONFIRM_STEPS = 20


class Collector:
    def __init__(self, world: World) -> None:
        self._world = world

    def run(self) -> Generator[None, None, None]:
        """For ever: round after round."""
        while True:
            at = self._world.published
            yield
            if at % 2 == 0:
                yield from self.collect(at)

    def collect(self, at: int) -> Generator[None, None, None]:
        world = self._world
        tag, (owners,) = world.views[at]
        plan = yield from self._plan(tag, owners)
        if plan is None:
            return
        floor = Ballot.unpack(plan.floor)
        if (yield from self._tell(owners, tag, floor, None)) < len(owners):
            return
        ballot = Ballot.unpack(plan.registers[0][1])
        if (yield from self._tell(owners, tag, floor, ballot)) == len(owners):
            world.seen["forgotten"] += 1
            world.tell("all of %s have forgotten", owners)

    def _plan(self, tag: int, owners: tuple[NodeId, ...]) -> Generator[None, None, Forgetting | None]:
        world = self._world
        looks: list[Look] = []
        empty: dict[bytes, bytes] = {}
        enough = len(owners) // 2 + 1 if world.bug == "a majority is looked at" else len(owners)
        order = sorted(owners, key=lambda node: world.dice.random())
        for node in order[:enough]:
            yield
            if not world.reach(node):
                return None
            held: Held = world.acceptors[node].durable
            if held.fence > tag:
                return None
            looks.append(held.look)
            if not body_of(held.value) and not held.value.listing:
                top = held.state.accepted.pack()
                empty[KEY] = max(empty.get(KEY, top), top)
        return forgettable(looks, empty, before=_ALL, limit=1)

    def _tell(
        self, owners: tuple[NodeId, ...], tag: int, floor: Ballot, ballot: Ballot | None
    ) -> Generator[None, None, int]:
        """How many have done it. What does not get through may come much later."""
        world = self._world
        done: set[NodeId] = set()
        for node in sorted(owners, key=lambda node: world.dice.random()):
            yield
            forget = partial(world.acceptors[node].forget, tag, floor, ballot, partial(_confirm, done, node))
            if not world.reach(node):
                world.later(node, forget)
                continue
            forget()
            if world.dice.random() < 0.1:
                world.later(node, forget)
        for _ in range(CONFIRM_STEPS):
            if len(done) == len(owners):
                break
            yield
        return len(done)


def _confirm(done: set[NodeId], node: NodeId, reply: Reply | None, payload: bytes) -> None:
    if reply is None:  # else it is fenced
        done.add(node)
