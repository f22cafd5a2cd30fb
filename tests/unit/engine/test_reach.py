"""What health checks of a gateway say: measured, shared, and no worse than it is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from objstore.cluster.directory import Directory
from objstore.cluster.port import NODES
from objstore.engine.peers import Peers
from objstore.engine.reach import FRESH_S, PATIENCE_S, Reachability, judge
from objstore.engine.types import Reach
from objstore.model.cluster import encode_lease
from objstore.placement.topology import Topology
from tests.unit.engine.test_peers import NAMES, World, lease, make_map, play

TOPOLOGY = Topology(make_map())  # EC 2+1 on seven nodes: three metadata replicas, of which two must answer
IDS = TOPOLOGY.node_ids


def owners(partition: int) -> frozenset[str]:
    return frozenset(TOPOLOGY.meta_view(partition).sets[0])


def test_with_everybody_there_all_works() -> None:
    assert judge(TOPOLOGY, IDS) == Reach()
    assert judge(TOPOLOGY, IDS[1:]) == Reach(), "EC 2+1 survives one"


def test_without_a_majority_of_some_partition_some_keys_are_lost_and_the_rest_is_served() -> None:
    gone = set(sorted(owners(0))[:2])
    hit = sum(len(owners(p) & gone) >= 2 for p in range(TOPOLOGY.map.partitions))
    assert 0 < hit <= TOPOLOGY.map.partitions // 2
    found = judge(TOPOLOGY, set(IDS) - gone)
    assert found.read and found.write and not found.serve


def test_with_most_partitions_lost_the_gateway_does_not_serve() -> None:
    found = judge(TOPOLOGY, IDS[:2])
    assert found.read and found.write and found.serve


def test_with_fewer_than_k_nodes_nothing_works() -> None:
    found = judge(TOPOLOGY, IDS[:1])
    assert "read" in found.read and "write" in found.write and found.serve == found.read


def test_where_too_few_take_new_data_only_writes_fail() -> None:
    assert judge(TOPOLOGY, IDS, full=IDS[:4]) == Reach()
    found = judge(TOPOLOGY, IDS, full=IDS[:5])
    assert (found.read, bool(found.write), found.serve) == ("", True, "")


def test_nobody_is_believed_unasked() -> None:
    """All have leases; two of them do not answer."""

    async def body(world: World) -> None:
        reachability = Reachability(world.peers, world.clock)
        assert await reachability.check() == Reach()
        world.down = set(NAMES[:5])
        assert await reachability.check() == Reach(), "asked again only after a while"
        await asyncio.sleep(FRESH_S)
        assert (await reachability.check()).serve
        world.down = set()
        await asyncio.sleep(FRESH_S)
        assert await reachability.check() == Reach()
        await reachability.close()

    play(body)


def test_who_asks_at_the_same_time_waits_for_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        reachability = Reachability(world.peers, world.clock)
        calls = 0
        call = world.call

        async def counted(*arguments, **more):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            return await call(*arguments, **more)

        monkeypatch.setattr(world, "call", counted)
        assert await asyncio.gather(*(reachability.check() for _ in range(50))) == [Reach()] * 50
        assert calls <= len(NAMES)

    play(body)


def test_a_node_that_hangs_is_not_waited_for_when_the_others_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        call = world.call
        hanging = {NAMES[0]}

        async def some_hang(address, *arguments, **more):  # type: ignore[no-untyped-def]
            if address in hanging:
                await asyncio.sleep(60)
            return await call(address, *arguments, **more)

        monkeypatch.setattr(world, "call", some_hang)
        reachability = Reachability(world.peers, world.clock)
        began = world.clock.monotonic()
        assert await reachability.check() == Reach()
        assert world.clock.monotonic() - began < PATIENCE_S / 2  # virtual time
        hanging.update(NAMES)
        await asyncio.sleep(FRESH_S)
        assert (await reachability.check()).serve
        await reachability.close()

    play(body)


def test_nodes_that_were_given_up_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        given_up = tuple(lease(name).id for name in NAMES[:2])
        known = make_map()
        view = msgspec.structs.replace(known.current, epoch=2, out=given_up)
        await world.put_map(msgspec.structs.replace(known, current=view))
        await world.directory.refresh()
        call = world.call

        async def some_hang(address, *arguments, **more):  # type: ignore[no-untyped-def]
            if address in NAMES[:2]:
                await asyncio.sleep(60)
            return await call(address, *arguments, **more)

        monkeypatch.setattr(world, "call", some_hang)
        reachability = Reachability(world.peers, world.clock)
        began = world.clock.monotonic()
        assert await reachability.check() == Reach(), "others stand in for both"
        assert world.clock.monotonic() - began < PATIENCE_S / 2
        await reachability.close()

    play(body)


def test_nodes_that_say_that_they_are_full_count_for_reads_only() -> None:
    async def body(world: World) -> None:
        for name in NAMES[:5]:
            full = msgspec.structs.replace(lease(name), level="full")
            await world.coordinator.put(NODES + full.id, encode_lease(full))
        await world.directory.refresh()
        found = await Reachability(world.peers, world.clock).check()
        assert (found.read, bool(found.write)) == ("", True)

    play(body)


def test_without_a_map_nothing_is_served() -> None:
    async def body(world: World) -> None:
        directory = Directory(world.coordinator, world.clock)
        found = await Reachability(Peers(directory, world, world.clock), world.clock).check()
        assert found.serve and found.read and found.write

    play(body)
