"""Operations over several rounds: what a client is told holds, whatever its earlier rounds left behind (INV-3)."""

from __future__ import annotations

import asyncio

import pytest

from objstore.model.clock import Ballot
from objstore.model.errors import InsufficientStorage, NotFound, Unreachable
from objstore.model.ids import NodeId
from objstore.model.records import Register, RegisterKey, encode
from objstore.placement.topology import Topology
from objstore.register.change import Outcome
from objstore.wire import messages as m
from tests.sim.loop import run
from tests.unit.repair.acceptors import World, append, key_of, make_world, words

A, B, C = map(NodeId, "ABC")


def reach_a_alone(world: World, key: RegisterKey, partition: int, promised: tuple[NodeId, ...]) -> None:
    """A write appends "x", and its value arrives nowhere else."""
    stray = Ballot(10 << 16, 77).pack()
    for node in promised:
        world.acceptors.answer(node, m.RegPrepare(partition, 2, key.pack(), stray), b"")
    value = encode(Register(b"w x "))
    world.acceptors.answer(A, m.RegAccept(partition, 2, key.pack(), stray, b"l", value), b"")


def test_a_refusal_is_not_told_while_an_earlier_accept_may_still_win() -> None:
    """The first round adopts a value that only A holds, applies the operation to it and reaches A alone; a rival stops
    it at B. The second round finds B and C, without that value, where the operation has nothing to apply to. A plain
    read agrees with that; but the accept on A stands above it and would be adopted when A is back: a refusal told now
    would become untrue (INV-3)."""

    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        key = key_of(0)
        partition = Topology(world.coordinator.now().map).partition_of_register(key)
        await append(world.registers(1, wall_ms=5), key, b"w")
        reach_a_alone(world, key, partition, promised=(A, B))
        away = [C]

        def before(node: NodeId, request: m.Request) -> None:
            if node in away:
                raise Unreachable("away")
            if away == [C] and node == B and isinstance(request, m.RegAccept):
                rival = Ballot(Ballot.unpack(request.ballot).time + 1, 88).pack()
                world.acceptors.answer(B, m.RegPrepare(partition, 2, key.pack(), rival), b"")
                asyncio.get_running_loop().call_later(0.0001, away.__setitem__, 0, A)

        def change(body: bytes) -> Outcome:
            if b"x" not in body:
                raise NotFound("no x")
            return Outcome(b"", body + b"mine ", b"l")

        world.acceptors.before_call = before
        try:
            await world.registers(3).change(key, change)
            done = True
        except NotFound:
            done = False
        assert away == [A], "the second round never came"
        away.clear()
        found = await words(world.registers(4, wall_ms=9_000_000), key)
        assert (b"mine" in found) == done, (done, found)

    run(main, 5)


def test_a_read_settles_what_full_replicas_lack() -> None:
    """A write reached A alone. B and C, which are full, refuse it from a read; a round of its own they let pass."""

    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        key = key_of(0)
        partition = Topology(world.coordinator.now().map).partition_of_register(key)
        await append(world.registers(1, wall_ms=5), key, b"w")
        reach_a_alone(world, key, partition, promised=(A,))
        world.acceptors.full = {B, C}
        asked: list[str] = []
        world.acceptors.before_call = lambda node, request: asked.append(type(request).__name__)
        world.acceptors.down = {C: None}  # so that A is among those who are asked
        assert await words(world.registers(3), key) == [b"w", b"x"] and "RegPrepare" in asked

    run(main, 5)


def test_a_write_without_room_on_a_majority_is_refused_and_nowhere() -> None:
    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        key = key_of(0)
        await append(world.registers(1, wall_ms=5), key, b"w")
        world.acceptors.full = {B, C}
        with pytest.raises(InsufficientStorage, match="No room for new metadata: B C keep this key and are full"):
            await append(world.registers(2), key, b"x")
        for absent in ("", "A", "B", "C"):
            world.acceptors.down = {NodeId(node): None for node in absent}
            assert await words(world.registers(4), key) == [b"w"]
        world.acceptors.down = {}
        world.acceptors.full = {B}
        await append(world.registers(5), key, b"y")
        assert await words(world.registers(6), key) == [b"w", b"y"]
        world.acceptors.full = {A, B, C}
        await world.registers(7).change(key, lambda body: Outcome(b"", b""))
        assert await words(world.registers(8), key) == []

    run(main, 5)
