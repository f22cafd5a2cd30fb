"""Deleted keys are forgotten by all owners, and nothing comes back, whatever breaks off or moves meanwhile."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from objstore.engine.registers import Registers
from objstore.model.clock import ZERO, Ballot
from objstore.model.errors import Unavailable
from objstore.model.ids import NodeId
from objstore.model.records import Register, RegisterKey, Value, encode
from objstore.placement.topology import Topology
from objstore.ports import Buffer
from objstore.register.change import Decision, Outcome, apply, body_of
from objstore.register.proposer import Retry, Send, Target, WriteRound
from objstore.repair.antientropy import AntiEntropy
from objstore.repair.inventory import Inventory
from objstore.repair.reading import look_at
from objstore.repair.record import Record
from objstore.repair.surveyor import Dispute
from objstore.repair.term import _rewrite
from objstore.repair.tombstones import Tombstones
from objstore.wire import messages as m
from tests.sim.loop import run
from tests.unit.repair.acceptors import (
    CODE,
    StillClock,
    World,
    append,
    key_of,
    layout_of,
    make_world,
    words,
)

A, B, C, D, E = map(NodeId, "ABCDE")
LATE_MS = 100_000_000  # every ballot of the tests is old by then


async def take(registers: Registers, key: RegisterKey) -> list[bytes]:
    """Delete the key; returns the words that were in it."""

    def change(body: bytes) -> Outcome:
        return Outcome(body, b"") if body else Outcome()

    return (await registers.change(key, change)).split()


def topology_of(world: World) -> Topology:
    return Topology(world.coordinator.now().map)


def partition_of(world: World, key: RegisterKey) -> int:
    return topology_of(world).partition_of_register(key)


class Collector:
    """With an inventory that knows of every tombstone, as the surveyor tells it."""

    def __init__(self, world: World, wall_ms: int = LATE_MS, age_s: float = 0.0) -> None:
        self.world = world
        self.inventory = Inventory(CODE)
        clock = StillClock(wall_ms)
        self.tombstones = Tombstones(world.acceptors, clock, self.inventory, age_s)

    def survey(self) -> None:
        world = self.world
        for partition in range(world.coordinator.now().map.partitions):
            newest: dict[bytes, tuple[Ballot, bool]] = {}
            for node in world.acceptors.names:
                for key, held in world.acceptors.written(node, partition).items():
                    empty = not body_of(Value(b"", held.state, b""))
                    newest[key] = max(newest.get(key, (ZERO, False)), (held.acceptor.accepted, empty))
            for key in set(self.inventory.records.get(partition, {})) - set(newest):
                self.inventory.set_record(partition, key, None)
            for key, (ballot, empty) in newest.items():
                self.inventory.set_record(partition, key, Record(ballot.pack(), empty=empty))

    async def collect(self, topology: Topology | None = None) -> int:
        """One round over everything. How many registers are forgotten so far."""
        self.survey()
        self.tombstones._due.clear()
        await self.tombstones.collect(topology or topology_of(self.world), lambda: True)
        return self.tombstones.forgotten


def held(world: World) -> set[tuple[str, bytes]]:
    """(node, name) of all registers that are written somewhere."""
    return {
        (str(node), key[17:])
        for node, partition in world.acceptors.registers
        for key in world.acceptors.written(node, partition)
    }


async def deleted(names: str = "ABCDE", keys: int = 4) -> World:
    """Keys written and deleted again, on A B C."""
    world = make_world(names, ["ABC"])
    registers = world.registers(1)
    for number in range(keys):
        await append(registers, key_of(number), b"old%d" % number)
        assert await take(registers, key_of(number)) == [b"old%d" % number]
    return world


def test_deleted_keys_leave_nothing_behind_and_can_be_written_again() -> None:
    async def main() -> None:
        world = await deleted()
        await append(world.registers(2), key_of(9), b"live")
        assert len(held(world)) == 15
        assert await Collector(world).collect() == 4
        assert held(world) == {(node, b"key9") for node in "ABC"}
        again = world.registers(3, wall_ms=5)  # its clock is behind every floor
        for number in (0, 1, 9):
            await append(again, key_of(number), b"new")
        assert [await words(again, key_of(n)) for n in (0, 1, 2, 9)] == [[b"new"], [b"new"], [], [b"live", b"new"]]

    run(main, 1)


def test_what_is_young_is_left_alone() -> None:
    async def main() -> None:
        world = await deleted()
        assert await Collector(world, 1_000_000 + 59_000, age_s=60.0).collect() == 0
        assert not world.acceptors.floors and len(held(world)) == 12
        assert await Collector(world, 1_000_000 + 61_000, age_s=60.0).collect() == 4

    run(main, 2)


def test_a_collector_looks_again_when_the_oldest_tombstone_is_due() -> None:
    async def main() -> None:
        world = await deleted()
        collector = Collector(world, 1_000_000, age_s=60.0)
        calls: list[NodeId] = []
        world.acceptors.before_call = lambda node, request: calls.append(node)
        collector.survey()
        for _ in range(60):
            await collector.tombstones.collect(topology_of(world), lambda: True)
            await asyncio.sleep(1)
            collector.tombstones._clock.now_ms += 1000  # type: ignore[attr-defined]
        assert not calls
        await asyncio.sleep(1)
        collector.tombstones._clock.now_ms += 1000  # type: ignore[attr-defined]
        await collector.tombstones.collect(topology_of(world), lambda: True)
        assert not held(world)

    run(main, 3)


@pytest.mark.parametrize("lost", "ABC")
def test_without_every_owner_nothing_is_forgotten_and_no_floor_rises(lost: str) -> None:
    async def main() -> None:
        world = await deleted()
        world.acceptors.down = {NodeId(lost): None}
        assert await Collector(world).collect() == 0
        assert len(held(world)) == 12 and not world.acceptors.floors

    run(main, 4)


def test_a_replica_that_missed_the_deletion_keeps_the_tombstones() -> None:
    """Else the value that it holds would be the newest one."""

    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        registers = world.registers(1)
        await append(registers, key_of(0), b"old")
        world.acceptors.down = {C: None}
        assert await take(registers, key_of(0)) == [b"old"]
        world.acceptors.down = {}
        assert await Collector(world).collect() == 0
        world.acceptors.down = {A: None}
        assert await words(world.registers(2), key_of(0)) == []

    run(main, 5)


def stop_after(world: World, passes: int, node: NodeId) -> None:
    """`node` goes down once it has answered so many requests to forget."""
    seen = 0

    def count(to: NodeId, request: m.Request) -> None:
        nonlocal seen
        if to == node and isinstance(request, m.RegForget):
            seen += 1
            if seen > passes:
                world.acceptors.down = {node: None}

    world.acceptors.before_call = count


@pytest.mark.parametrize("passes", [0, 1])
def test_passes_that_break_off_are_finished_later(passes: int) -> None:
    async def main() -> None:
        world = await deleted(keys=1)
        stop_after(world, passes, C)
        collector = Collector(world)
        assert await collector.collect() == 0
        assert {node for node, _ in held(world)} == ({"A", "B", "C"} if passes == 0 else {"C"})
        world.acceptors.before_call = lambda node, request: None
        assert await words(world.registers(7), key_of(0)) == []
        assert await collector.collect() == 0
        world.acceptors.down = {}
        assert await collector.collect() == 1
        assert not held(world)

    run(main, 6)


def test_a_tombstone_that_others_have_forgotten_is_not_brought_back_by_repair() -> None:
    async def main() -> None:
        world = await deleted(keys=1)
        stop_after(world, 1, C)
        await Collector(world).collect()
        world.acceptors.before_call = lambda node, request: None
        world.acceptors.down = {}
        assert held(world) == {("C", b"key0")}
        partition, key = partition_of(world, key_of(0)), key_of(0).pack()
        ballot = world.acceptors.table(C, partition)[key].acceptor.accepted.pack()
        assert await heal(world, partition, Dispute(key, ballot, C, (A, B))) == []
        assert held(world) == {("C", b"key0")}

    run(main, 7)


async def heal(world: World, partition: int, *disputes: Dispute) -> list[RegisterKey]:
    """What had to be written anew."""
    rewritten: list[RegisterKey] = []

    async def rewrite(key: RegisterKey, state: bytes, listing: bytes) -> None:
        rewritten.append(key)

    healer = AntiEntropy(world.acceptors, rewrite)
    assert await healer.heal(topology_of(world), partition, disputes) == 0
    return rewritten


@pytest.mark.parametrize("body", [b"live", b""])
def test_a_register_below_the_floor_of_who_lacks_it_is_written_anew(body: bytes) -> None:
    """A live value, or a tombstone above what the other one has forgotten for certain."""

    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        partition, key, five = partition_of(world, key_of(0)), key_of(0).pack(), Ballot(5, 7)
        accept = m.RegAccept(partition, 2, key, five.pack(), b"", encode(Register(body)))
        for node in (A, B):
            world.acceptors.answer(node, accept, b"")
        world.acceptors.floors[C, partition] = Ballot(9, 7)
        world.acceptors.answer(C, m.RegPrepare(partition, 2, key, Ballot(10, 7).pack()), b"")
        if body:
            assert await heal(world, partition, Dispute(key, five.pack(), A, (C,))) == [key_of(0)]
        else:
            assert await heal(world, partition, Dispute(key, five.pack(), A, (C,))) == []
            world.acceptors.floors[C, partition] = Ballot(4, 7)
            assert await heal(world, partition, Dispute(key, five.pack(), A, (C,))) == [key_of(0)]

    run(main, 8)


async def heal_all(world: World, registers: Registers) -> None:
    topology = topology_of(world)
    healer = AntiEntropy(world.acceptors, partial(_rewrite, registers))
    for partition in range(topology.map.partitions):
        owners = topology.meta_view(partition).sets[0]
        tables = {node: world.acceptors.written(node, partition) for node in owners}
        for key in {key for table in tables.values() for key in table}:
            ballots = {node: table[key].acceptor.accepted if key in table else ZERO for node, table in tables.items()}
            newest = max(owners, key=lambda node: ballots[node])
            lagging = tuple(node for node in owners if ballots[node] < ballots[newest])
            if lagging:
                dispute = Dispute(key, ballots[newest].pack(), newest, lagging)
                assert await healer.heal(topology, partition, [dispute]) == 0


# --- operations that may have been forgotten ---------------------------------------------------------------------


def one_round(world: World, round_: WriteRound, missing: NodeId | None = None) -> object:
    """All messages of a round at once; none reach `missing`."""
    sends = list(round_.start())
    while sends:
        send = sends.pop(0)
        if send.node == missing:
            sends += round_.fail(send.node)
        else:
            sends += round_.receive(send.node, *world.acceptors.answer(send.node, send.request, send.payload))
    return round_.outcome


@pytest.mark.parametrize("rows", [["ABC"], ["ADE"], ["CDE"]])
def test_an_operation_whose_result_was_forgotten_is_unknown_and_not_applied_twice(rows: list[str]) -> None:
    """Its answers were lost; others deleted what it had written; the tombstone with its result is no more. Then, maybe,
    the owners change, and one of the new ones is away meanwhile."""

    async def main() -> None:
        world = make_world("ABCDE", ["ABC"])
        key = key_of(0)
        target = Target(key.pack(), partition_of(world, key), 2, ((A, B, C),))
        first = Ballot(1_000_000 << 16, 99)

        def decide_at(ballot: Ballot, first_accept: int | None) -> object:
            change = lambda body: Outcome(b"", body + b"word ", b"l")  # noqa: E731
            return lambda value: apply(value, change, b"o" * 16, ballot, first_accept)

        assert one_round(world, WriteRound(target, first, decide_at(first, None), first=True))  # type: ignore[arg-type]
        assert await take(world.registers(2, 1_000_001), key) == [b"word"]
        assert await Collector(world).collect() == 1 and not held(world)
        if rows != ["ABC"]:
            layout = layout_of("ABCDE", rows)
            assert (await world.transition(2).begin(world.coordinator.now(), layout, ())).held_up == ""
            world.acceptors.down = {E: None}
            assert await world.change_layout(3, layout) == ""
            view = topology_of(world).meta_view(target.partition)
            target = target._replace(tag=view.tag, sets=view.sets)
        later = Ballot(LATE_MS << 16, 99)
        retry = WriteRound(target, later, decide_at(later, first.time), first=False)  # type: ignore[arg-type]
        assert one_round(world, retry, missing=NodeId(rows[0][0])) is Retry.UNKNOWN

    run(main, 9)


def test_a_look_counts_as_made_when_it_began() -> None:
    """A fence or a floor that came between two pages says nothing about the registers of the first."""

    class Pages:
        """Implements engine.calls.Calls."""

        def __init__(self) -> None:
            self.left = [
                m.RegPulled([b"a"], bytes(16), [], [], [], True, 2, bytes(16), b"\x01" * 16),
                m.RegPulled([b"b"], bytes(16), [], [], [], False, 3, bytes(16), b"\x02" * 16),
            ]

        def is_up(self, node: NodeId) -> bool:
            return True

        async def call(
            self, node: NodeId, request: m.Request, payload: Buffer = b"", *, timeout_s: float = 4.0
        ) -> tuple[m.Reply, bytes]:
            return self.left.pop(0), b""

    look = run(lambda: look_at(Pages(), A, 0), 20)[0]
    assert (list(look.ballots), look.fence, look.floor) == ([b"a", b"b"], 2, b"\x01" * 16)


# --- layout changes ----------------------------------------------------------------------------------------------


def floors(world: World, partition: int) -> dict[str, bool]:
    return {str(node): (node, partition) in world.acceptors.floors for node in world.acceptors.names}


@pytest.mark.parametrize("rows", [["ADE"], ["ABD"], ["CBA"]])
def test_new_owners_know_what_old_ones_have_forgotten(rows: list[str]) -> None:
    async def main() -> None:
        world = await deleted()
        await append(world.registers(2), key_of(9), b"live")
        await Collector(world).collect()
        assert await world.change_layout(3, layout_of("ABCDE", rows)) == ""
        known = floors(world, partition_of(world, key_of(0)))
        assert sum(known[name] for name in rows[0]) >= 2
        assert await words(world.registers(4), key_of(9)) == [b"live"]
        assert await words(world.registers(4), key_of(0)) == []
        assert {name for _, name in held(world)} == {b"key9"}, "nothing was written to move what is not there"

    run(main, 10)


def test_a_floor_does_not_shut_live_registers_out_of_the_sync() -> None:
    """Values go first, then the floor: no register had to be written under a new ballot."""

    async def main() -> None:
        world = make_world("ABCDE", ["ABC"])
        registers = world.registers(1)
        for number in range(12):
            await append(registers, key_of(number), b"live")
        for number in range(12, 24):
            await append(registers, key_of(number), b"old")
            await take(registers, key_of(number))
        assert await Collector(world).collect() == 12
        before = {key: one.acceptor.accepted for p in range(4) for key, one in world.acceptors.written(A, p).items()}
        assert await world.change_layout(3, layout_of("ABCDE", ["CDE"])) == ""
        after = {key: one.acceptor.accepted for p in range(4) for key, one in world.acceptors.written(D, p).items()}
        assert before == after and len(before) == 12

    run(main, 11)


def test_a_collector_that_slept_through_a_layout_change_does_no_harm() -> None:
    """Between its passes the owners change. The late ones forget, as they may; the fenced ones refuse."""

    async def main() -> None:
        world = await deleted(keys=1)
        key, partition = key_of(0), partition_of(world, key_of(0))
        stale = topology_of(world)
        gate, asked = asyncio.Event(), asyncio.Event()
        seen = 0
        call = world.acceptors.call

        async def slow(node: NodeId, request: m.Request, *rest: bytes, timeout_s: float = 4.0) -> object:
            nonlocal seen
            if isinstance(request, m.RegForget) and request.keys:
                seen += 1
                if seen == 3:
                    asked.set()
                await gate.wait()
            return await call(node, request, *rest, timeout_s=timeout_s)

        collector = Collector(world)
        world.acceptors.call = slow  # type: ignore[method-assign, assignment]
        passes = asyncio.create_task(collector.collect(stale))
        await asked.wait()
        world.acceptors.call = call  # type: ignore[method-assign]
        world.acceptors.down = {A: None}
        assert await world.change_layout(3, layout_of("ABCDE", ["ADE"])) == ""
        world.acceptors.down = {}
        gate.set()
        assert await passes == 0
        assert key.pack() not in world.acceptors.written(A, partition)
        for away in (A, D, E):
            world.acceptors.down = {away: None}
            assert await words(world.registers(4), key) == []
        world.acceptors.down = {}
        assert await Collector(world).collect() == 1
        assert not {name for name in held(world) if name[0] in "ADE"}

    run(main, 12)


async def joint_accept_that_is_late(joint_fences: bool) -> list[bytes]:
    """A gateway that knows the joint view writes "w": prepared by all, accepts delayed. One with the old map deletes
    the key meanwhile, and a collector with the old map forgets it before anybody is fenced. Then the owners change,
    and the late accept reaches a new one. Returns what is read then, by a majority that includes it."""
    world = make_world("ABCDE", ["ABC"], joint_fences=joint_fences)
    key = key_of(0)
    partition = partition_of(world, key)
    old = world.registers(1, wall_ms=10)
    await append(old, key, b"first")
    stale = topology_of(world)
    layout = layout_of("ABCDE", ["CDE"])
    step = await world.transition(2).begin(world.coordinator.now(), layout, ())
    assert step.held_up == ""
    view = topology_of(world).meta_view(partition)
    ballot = Ballot(20 << 16, 99)

    def decide(value: Value) -> Decision:
        return apply(value, lambda body: Outcome(b"", body + b"w ", b"l"), b"o" * 16, ballot, None)

    round_ = WriteRound(Target(key.pack(), partition, view.tag, view.sets), ballot, decide, first=True)
    accepts: list[Send] = []
    for send in round_.start():
        accepts += round_.receive(send.node, *world.acceptors.answer(send.node, send.request, b""))
    assert accepts

    deleter = world.registers(3, wall_ms=30)
    deleter._peers.topology = stale  # type: ignore[misc]
    deleter._peers.refresh = lambda _known: asyncio.Event().wait()  # type: ignore[method-assign, assignment, misc, return-value]
    deleting = asyncio.create_task(take(deleter, key))
    await asyncio.wait((deleting,), timeout=1.0)
    if joint_fences:
        assert not deleting.done(), "it has to learn of the new map first"
    deleting.cancel()
    await asyncio.gather(deleting, return_exceptions=True)
    await Collector(world).collect(stale)
    world.acceptors.down = {E: None}  # it has no floor then, and needs none
    assert await world.change_layout(4, layout) == ""
    late = next(send for send in accepts if send.node == E)
    world.acceptors.answer(E, late.request, late.payload)
    world.acceptors.down = {C: None}
    return await words(world.registers(5, wall_ms=5_000_000), key)


def test_a_joint_round_stops_a_collector_of_the_old_owners() -> None:
    assert run(lambda: joint_accept_that_is_late(True), 13)[0] in ([b"first"], [b"first", b"w"])


def test_canary_without_that_a_deleted_key_would_come_back() -> None:
    assert run(lambda: joint_accept_that_is_late(False), 13)[0] == [b"first", b"w"]


def test_a_promise_that_was_forgotten_is_still_kept_by_a_layout_change() -> None:
    """B has forgotten, under a floor at 20, that it promised 15; A still has the tombstone, without that promise. C
    accepted 15 and is away. Were A's tombstone simply copied, a write at 8 could pass below C's ballot, and be lost."""

    async def main() -> None:
        world = make_world("ABCDE", ["ABC"])
        key, partition = key_of(0), partition_of(world, key_of(0))
        await append(world.registers(1, wall_ms=4), key, b"old")
        await take(world.registers(2, wall_ms=5), key)
        await asyncio.sleep(1)  # until all have it
        fifteen = Ballot(15 << 16, 77).pack()
        for node in (B, C):
            world.acceptors.answer(node, m.RegPrepare(partition, 2, key.pack(), fifteen), b"")
        stray = m.RegAccept(partition, 2, key.pack(), fifteen, b"l", encode(Register(b"stray ")))
        dead = world.acceptors.table(A, partition)[key.pack()].acceptor.accepted.pack()
        floor = Ballot(20 << 16, 77).pack()
        for node in (A, B, C):
            assert world.acceptors.answer(node, m.RegForget(partition, 2, floor), b"")[0] == m.Ok()
        world.acceptors.answer(C, stray, b"")
        world.acceptors.answer(B, m.RegForget(partition, 2, floor, [key.pack()], dead), b"")
        assert {node for node, _ in held(world)} == {"A", "C"}
        world.acceptors.down = {C: None}
        assert await world.change_layout(2, layout_of("ABCDE", ["CDE"])) == ""
        await append(world.registers(3, wall_ms=8), key, b"acked")
        world.acceptors.down = {D: None}
        assert b"acked" in await words(world.registers(4, wall_ms=3_000_000), key)

    run(main, 14)


# --- everything at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_nothing_comes_back_and_nothing_is_lost_while_everything_moves(seed: int) -> None:
    """Two gateways write and delete, two collectors with lazy maps forget, nodes come and go, leaders die, layouts
    change. Who deletes is told what was there: every word must turn up once."""

    async def main() -> None:
        chance = random.Random(seed)
        world = make_world("ABCDEF", ["ABC"])
        keys = [key_of(number) for number in range(3)]
        acked: set[bytes] = set()
        found: list[bytes] = []
        unknown = 0
        over = False

        async def writer(name: int) -> None:
            nonlocal unknown
            registers = world.registers(100 + name, wall_ms=1_000_000 + 5000 * name * chance.randrange(2))
            for i in range(40):
                key, word = chance.choice(keys), b"g%d.%d" % (name, i)
                deletes = chance.random() < 0.5
                try:
                    if deletes:
                        found.extend(await take(registers, key))
                    else:
                        await append(registers, key, word)
                        acked.add(word)
                except Unavailable:
                    unknown += deletes
                await asyncio.sleep(chance.uniform(0, 0.05))

        async def collector() -> None:
            while not over:
                known = topology_of(world)
                await asyncio.sleep(chance.choice((0, 0, 0.2)))
                life = asyncio.create_task(Collector(world).collect(known))
                await asyncio.wait((life,), timeout=chance.choice((0.001, 0.02, 1.0)))
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)

        async def trouble() -> None:
            while True:
                await asyncio.sleep(chance.uniform(0, 0.2))
                world.acceptors.down = {NodeId(chance.choice("ABCDEF")): None} if chance.random() < 0.4 else {}

        async def leader() -> None:
            for turn, rows in enumerate((["ADE"], ["DEF"], ["ABD"], ["ABC", "CDE"])):
                layout = layout_of("ABCDEF", rows)
                while (now := world.coordinator.now().map).current.layout != layout or now.next is not None:
                    life = asyncio.create_task(world.change_layout(chance.randrange(1 << 30), layout))
                    await asyncio.wait((life,), timeout=chance.uniform(0.001, 0.3))
                    life.cancel()
                    await asyncio.gather(life, return_exceptions=True)
                await asyncio.sleep(0.1 * turn)

        faults = asyncio.create_task(trouble())
        collectors = [asyncio.create_task(collector()) for _ in range(2)]
        await asyncio.gather(writer(0), writer(1), leader())
        faults.cancel()
        over = True
        await asyncio.gather(*collectors)
        world.acceptors.down = {}
        reader = world.registers(999, wall_ms=9_000_000)
        for key in keys:
            found.extend(await take(reader, key))
        assert len(set(found)) == len(found), "a word turned up twice: applied twice, or back from the dead"
        if not unknown:
            assert acked <= set(found), "acknowledged and lost"
        for _ in range(4):
            await heal_all(world, reader)
            await Collector(world).collect()
        await world.transition(1000).forget(world.coordinator.now().map)  # what former owners still hold
        assert not held(world)

    run(main, seed)
