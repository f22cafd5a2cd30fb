"""A layout change loses no chosen value: step by step, with a crash at every step, and under concurrent writes."""

from __future__ import annotations

import asyncio
import random

import pytest

from objstore.model.clock import Ballot
from objstore.model.errors import Unavailable
from objstore.model.ids import NodeId
from objstore.model.records import Register, encode
from objstore.placement.topology import Topology
from objstore.wire import messages as m
from tests.sim.loop import run
from tests.unit.repair.acceptors import Crash, World, append, key_of, layout_of, make_world, words

MOVES = {"all": ["DEF"], "two": ["ADE"], "one": ["ABD"], "none": ["CBA"], "mixed": ["ABC", "DEF", "BCD", "ACF"]}


async def fill(world: World, keys: int = 6) -> dict[int, list[bytes]]:
    registers = world.registers(1)
    stored: dict[int, list[bytes]] = {}
    for number in range(keys):
        stored[number] = [b"w%d" % number, b"x%d" % number]
        for word in stored[number]:
            await append(registers, key_of(number), word)
    return stored


async def check(world: World, stored: dict[int, list[bytes]]) -> None:
    registers = world.registers(99)
    for number, expected in stored.items():
        assert await words(registers, key_of(number)) == expected


@pytest.mark.parametrize("rows", MOVES.values(), ids=MOVES.keys())
def test_after_a_change_the_new_owners_alone_have_everything(rows: list[str]) -> None:
    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        assert await world.change_layout(2, layout_of("ABCDEF", rows)) == ""
        now = world.coordinator.now().map
        assert now.next is None and now.current.epoch == 2 and now.synced == b""
        topology = Topology(now)
        for partition in range(now.partitions):
            owners = topology.meta_owners(partition, now.current)
            for node in world.acceptors.names:
                if node not in owners:
                    assert not world.acceptors.table(node, partition), "a former owner still holds registers"
        await check(world, stored)

    run(main, 1)


def test_old_tags_are_refused_once_a_majority_is_fenced() -> None:
    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        await fill(world)
        late = world.registers(7)  # has the old map
        assert await world.change_layout(2, layout_of("ABCDEF", ["DEF"])) == ""
        await append(late, key_of(0), b"late")  # learns the new map from the refusal
        assert await words(world.registers(8), key_of(0)) == [b"w0", b"x0", b"late"]
        assert not world.acceptors.table(NodeId("A"), 0)

    run(main, 2)


@pytest.mark.parametrize("deaf", ["DE", "D", "EF", "DEF"])
@pytest.mark.parametrize("row", ["ADE", "DEF", "ABD"])
def test_new_owners_that_took_no_install_do_not_count_as_synced(row: str, deaf: str) -> None:
    """Installs to some of the new owners are lost for a while. A partition that was marked as synced with one owner
    less than a majority would lose what was acknowledged with the next owner that is away (INV-1)."""

    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        lost = [40]

        def before(node: NodeId, request: m.Request) -> None:
            if isinstance(request, m.RegInstall) and node in deaf and lost[0] > 0:
                lost[0] -= 1
                raise Unavailable("the message is lost")

        world.acceptors.before_call = before
        assert await world.change_layout(2, layout_of("ABCDEF", [row])) == ""
        world.acceptors.before_call = lambda node, request: None
        for away in row:
            world.acceptors.down = {NodeId(away): None}
            await check(world, stored)

    run(main, 3)


def test_a_change_waits_for_a_majority_of_the_old_owners_and_then_goes_on() -> None:
    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        world.acceptors.down = {NodeId("A"): None, NodeId("B"): None}
        why = await world.change_layout(2, layout_of("ABCDEF", ["CDE"]))
        assert why == "metadata cannot move: of 3 old owners of a partition only 1 answer; bring back one of A B"
        assert world.coordinator.now().map.next is not None
        del world.acceptors.down[NodeId("B")]
        assert await world.change_layout(3, layout_of("ABCDEF", ["CDE"])) == ""
        await check(world, stored)

    run(main, 3)


def test_a_new_owner_that_dies_during_the_change_does_not_hold_it_up() -> None:
    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        transition = world.transition(2)
        step = await transition.begin(world.coordinator.now(), layout_of("ABCDEF", ["DEF"]), ())
        assert step.held_up == "" and step.now.map.next is not None
        world.acceptors.down = {NodeId("F"): None}
        assert await world.change_layout(3, layout_of("ABCDEF", ["DEF"])) == ""
        await check(world, stored)
        world.acceptors.down = {NodeId("E"): None}  # F is back, knows nothing, and is enough together with D
        await check(world, stored)

    run(main, 4)


def test_a_newcomer_that_cannot_be_made_to_forget_is_left_out() -> None:
    """INV-6: what it accepted in an earlier membership must never count again."""

    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        world.acceptors.down = {NodeId("D"): None}
        await world.change_layout(2, layout_of("ABCDEF", ["ABD"]))
        now = world.coordinator.now().map
        assert now.current.out == (NodeId("D"),)
        assert all(NodeId("D") not in Topology(now).meta_owners(p, now.current) for p in range(now.partitions))
        await check(world, stored)

    run(main, 5)


def test_what_a_newcomer_held_from_an_earlier_time_is_forgotten() -> None:
    async def main() -> None:
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world)
        partition = Topology(world.coordinator.now().map).partition_of_register(key_of(0))
        ghost = m.RegAccept(partition, 2, key_of(0).pack(), Ballot(1 << 60, 5).pack(), b"", encode(Register(b"ghost ")))
        world.acceptors.answer(NodeId("D"), ghost, b"")
        assert await world.change_layout(2, layout_of("ABCDEF", ["ABD"])) == ""
        await check(world, stored)

    run(main, 6)


# --- accepted, but never chosen ------------------------------------------------------------------------------


async def stray_then_later_write(show_promises: bool) -> list[bytes]:
    """Chosen: w. A proposer has B's and A's promise for ballot 10 and reached only A, then died. B and C are fenced
    and synced without A. A gateway with a slow clock then writes at ballot 8, through D and E alone."""
    world = make_world("ABCDE", ["ABC"], show_promises=show_promises)
    key = key_of(0)
    partition = Topology(world.coordinator.now().map).partition_of_register(key)
    await append(world.registers(1, wall_ms=5), key, b"w")
    base = world.acceptors.table(NodeId("B"), partition)[key.pack()]
    ten = Ballot(10 << 16, 77).pack()
    for node in ("A", "B"):
        reply, _ = world.acceptors.answer(NodeId(node), m.RegPrepare(partition, 2, key.pack(), ten), b"")
        assert isinstance(reply, m.RegState)
    stray = encode(Register(b"w stray "))
    world.acceptors.answer(NodeId("A"), m.RegAccept(partition, 2, key.pack(), ten, b"l", stray), b"")
    assert base.acceptor.accepted < Ballot.unpack(ten) == base.acceptor.promised

    world.acceptors.down = {NodeId("A"): None}
    assert await world.change_layout(2, layout_of("ABCDE", ["ADE"])) == ""
    slow = world.registers(3, wall_ms=8)
    await append(slow, key, b"acked")
    world.acceptors.down = {NodeId("D"): None}  # the next majority is A and E
    return await words(world.registers(4, wall_ms=3_000_000), key)


def test_a_stray_accept_on_an_unfenced_owner_never_hides_a_later_write() -> None:
    assert run(lambda: stray_then_later_write(True), 7)[0] == [b"w", b"acked"]


def test_canary_without_promises_in_the_sync_that_write_would_be_lost() -> None:
    assert run(lambda: stray_then_later_write(False), 7)[0] == [b"w", b"stray"]


# --- crashes -------------------------------------------------------------------------------------------------


def crash_at(world: World, number: int, after: bool) -> None:
    """The leader dies at its `number`-th call or put; `after`: the call itself still arrives."""
    count = 0

    def maybe(arrive: object = None) -> None:
        nonlocal count
        count += 1
        if count == number:
            if after and callable(arrive):
                arrive()
            raise Crash

    def before_call(node: NodeId, request: m.Request) -> None:
        safe = not isinstance(request, m.RegInstall)  # its payload is not known here
        maybe((lambda: world.acceptors.answer(node, request, b"")) if safe else None)

    world.acceptors.before_call = before_call
    world.coordinator.before_put = maybe


def no_crash(world: World) -> None:
    world.acceptors.before_call = lambda node, request: None
    world.coordinator.before_put = lambda: None


def died(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(died(inner) for inner in error.exceptions)
    return isinstance(error, Crash)


@pytest.mark.parametrize("after", [False, True])
def test_a_leader_may_die_at_any_step_and_the_next_goes_on(after: bool) -> None:
    async def attempt(number: int) -> bool:
        """False: the change ended before the leader's `number`-th step."""
        world = make_world("ABCDEF", ["ABC"])
        stored = await fill(world, 3)
        layout = layout_of("ABCDEF", ["ADE", "DEF"])
        crash_at(world, number, after)
        try:
            await world.change_layout(2, layout)
            return False
        except (Crash, BaseExceptionGroup) as error:
            assert died(error)
        no_crash(world)
        await append(world.registers(50 + number), key_of(0), b"between")
        stored[0] = [*stored[0], b"between"]
        assert await world.change_layout(3, layout) == ""
        now = world.coordinator.now().map
        assert now.next is None and now.current.layout == layout
        await check(world, stored)
        return True

    async def main() -> None:
        number = 1
        while await attempt(number):
            number += 1
        assert number > 40

    run(main, 8)


@pytest.mark.parametrize("seed", range(40))
def test_concurrent_writers_lose_nothing_while_layouts_change(seed: int) -> None:
    """Two gateways with clocks apart and lazy maps, nodes that come and go, leaders that die, four changes."""

    async def main() -> None:
        chance = random.Random(seed)
        world = make_world("ABCDEF", ["ABC"])
        acked: dict[int, list[bytes]] = {0: [], 1: []}

        async def writer(name: int) -> None:
            registers = world.registers(100 + name, wall_ms=1_000_000 + 5000 * name * chance.randrange(2))
            for i in range(25):
                number, word = i % 2, b"g%d.%d" % (name, i)
                try:
                    await append(registers, key_of(number), word)
                except Unavailable:
                    continue  # it may have happened: then it may be there
                acked[number].append(word)
                await asyncio.sleep(chance.uniform(0, 0.05))

        async def trouble() -> None:
            while True:
                await asyncio.sleep(chance.uniform(0, 0.2))
                world.acceptors.down = {NodeId(chance.choice("ABCDEF")): None} if chance.random() < 0.6 else {}

        async def leader() -> None:
            for turn, rows in enumerate((["ADE"], ["DEF"], ["ABD"], ["ABC", "CDE"])):
                layout = layout_of("ABCDEF", rows)
                while (now := world.coordinator.now().map).current.layout != layout or now.next is not None:
                    life = asyncio.create_task(world.change_layout(chance.randrange(1 << 30), layout))
                    await asyncio.wait((life,), timeout=chance.uniform(0.001, 0.3))
                    life.cancel()
                    await asyncio.gather(life, return_exceptions=True)
                await asyncio.sleep(0.05 * turn)

        faults = asyncio.create_task(trouble())
        await asyncio.gather(writer(0), writer(1), leader())
        faults.cancel()
        world.acceptors.down = {}
        reader = world.registers(999, wall_ms=9_000_000)
        for number, expected in acked.items():
            found = await words(reader, key_of(number))
            assert len(set(found)) == len(found), "an operation applied twice"
            missing = [word for word in expected if word not in found]
            assert not missing, f"acknowledged and lost: {missing}"
            mine = [[w for w in found if w.startswith(b"g%d." % name) and w in expected] for name in (0, 1)]
            assert all(sorted(one, key=lambda w: int(w.split(b".")[1])) == one for one in mine)

    run(main, seed)
