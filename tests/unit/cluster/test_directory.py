"""The directory: follows the coordinator, and keeps what it knows without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from objstore.cluster.bootstrap import first_map
from objstore.cluster.directory import AMNESTY_S, Directory
from objstore.cluster.port import MAP_KEY, NODES
from objstore.cluster.store import CoordinatorStore
from objstore.model.cluster import ClusterMap, ErasureCode, NodeLease, encode_lease, encode_map
from objstore.model.errors import Unavailable
from objstore.model.ids import NodeId
from tests.sim.coordinator import LocalCoordinator, ManualClock
from tests.unit.cluster.steps import until


def lease(number: int, address: str = "h:1") -> NodeLease:
    return NodeLease(NodeId(f"{number:016x}"), f"n{number}", "z", address, 1000, 0, 1, 1, "0")


def make_map(epoch: int = 1, cluster_id: str = "ab" * 16) -> ClusterMap:
    found = first_map(
        [lease(i) for i in (1, 2, 3)], cluster_id=cluster_id, code=ErasureCode(2, 1), partition_bits=2, codec="zfec"
    )
    assert found is not None
    return msgspec.structs.replace(found, current=msgspec.structs.replace(found.current, epoch=epoch))


@dataclass
class World:
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.coordinator = LocalCoordinator(CoordinatorStore(), self.clock)
        self.directory = Directory(self.coordinator, self.clock)

    async def put_map(self, cluster_map: ClusterMap) -> None:
        await self.coordinator.put(MAP_KEY, encode_map(cluster_map))

    async def register(self, *numbers: int, ttl_s: float = 1000.0) -> int:
        granted = await self.coordinator.grant(ttl_s)
        for number in numbers:
            await self.coordinator.put(NODES + lease(number).id, encode_lease(lease(number)), lease=granted)
        return granted

    @property
    def names(self) -> list[str]:
        return sorted(node.name for node in self.directory.nodes.values())

    @property
    def epoch(self) -> int:
        return self.directory.topology.epoch if self.directory.topology else 0

    def go_away(self) -> None:
        self.coordinator.away = True
        self.coordinator.wake()

    def come_back(self, store: CoordinatorStore | None = None) -> None:
        self.coordinator.store = store or self.coordinator.store
        self.coordinator.away = False


def run(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        world.directory.start()
        await body(world)
        await world.directory.close()

    asyncio.run(main())


def test_it_follows_the_map_and_the_nodes() -> None:
    async def body(world: World) -> None:
        assert world.directory.topology is None and world.names == []
        await world.register(1, 2)
        await world.put_map(make_map())
        await world.directory.wait_ready(30)
        await until(lambda: world.names == ["n1", "n2"], "two nodes")
        granted = await world.register(3)
        await world.put_map(make_map(epoch=2))
        await until(lambda: world.names == ["n1", "n2", "n3"] and world.epoch == 2, "news")
        found = await world.coordinator.get(MAP_KEY)
        assert found is not None and world.directory.map_revision == found.revision
        await world.coordinator.revoke(granted)
        await until(lambda: world.names == ["n1", "n2"], "one node less")

    run(body)


def test_without_the_coordinator_the_last_view_stays_and_its_age_is_known() -> None:
    async def body(world: World) -> None:
        await world.register(1, 2)
        await world.put_map(make_map())
        await until(lambda: world.epoch == 1 and len(world.names) == 2, "a view")
        contact = world.directory.last_contact
        assert world.directory.away_ms == 0
        world.clock.advance(60)
        world.go_away()
        await until(lambda: world.directory.problem != "", "noticed")
        assert 0 < world.directory.away_ms < 60_000, "from the first answer that did not come"
        world.clock.advance(3600)
        assert world.directory.away_ms >= 3_600_000
        assert world.epoch == 1 and world.names == ["n1", "n2"]
        assert world.directory.last_contact == contact
        assert world.directory.problem == "the coordinator is away"
        with pytest.raises(Unavailable):
            await world.directory.refresh()

    run(body)


def test_a_coordinator_that_forgot_all_leases_makes_no_node_vanish_at_once() -> None:
    async def body(world: World) -> None:
        await world.register(1, 2, 3)
        await until(lambda: len(world.names) == 3, "three nodes")
        world.go_away()
        await until(lambda: world.directory.problem != "", "noticed")
        world.come_back(CoordinatorStore(revision=10_000))
        await until(lambda: world.directory.problem == "", "back")
        assert world.directory.away_ms == 0
        await world.directory.refresh()
        assert world.names == ["n1", "n2", "n3"]
        await world.register(1, 2)
        await world.directory.refresh()
        assert world.names == ["n1", "n2", "n3"], "n3 still has time to register"
        world.clock.advance(AMNESTY_S)
        await world.directory.refresh()
        assert world.names == ["n1", "n2"]

    run(body)


def test_a_node_lost_while_the_coordinator_answered_is_gone_at_once() -> None:
    async def body(world: World) -> None:
        granted = await world.register(1, 2)
        await until(lambda: len(world.names) == 2, "two nodes")
        await world.coordinator.revoke(granted)
        await world.directory.refresh()
        assert world.names == []

    run(body)


def test_the_map_never_goes_back_nor_to_another_cluster(caplog: pytest.LogCaptureFixture) -> None:
    async def body(world: World) -> None:
        await world.put_map(make_map(epoch=5))
        await until(lambda: world.epoch == 5, "a map")
        await world.put_map(make_map(epoch=4))
        await world.directory.refresh()
        assert world.epoch == 5
        await world.put_map(make_map(epoch=6, cluster_id="cd" * 16))
        await world.directory.refresh()
        assert world.directory.topology is not None
        assert world.directory.topology.map.cluster_id == "ab" * 16
        await world.coordinator.put(MAP_KEY, b"\xc1 not a map")
        await world.directory.refresh()
        assert world.epoch == 5
        await world.coordinator.delete(MAP_KEY)
        await world.directory.refresh()
        assert world.epoch == 5
        await world.put_map(make_map(epoch=6))
        await world.directory.refresh()
        assert world.epoch == 6

    with caplog.at_level(logging.ERROR):
        run(body)
    for part in ("went back from epoch 5 to 4", "map of another cluster", "cannot be read"):
        assert part in caplog.text


def test_a_map_under_recovery_is_not_taken_and_a_lost_one_is_told_from_one_to_come() -> None:
    async def body(world: World) -> None:
        await world.put_map(msgspec.structs.replace(make_map(0), recovering=9))
        await world.register(1, 2)
        await world.directory.refresh()
        assert world.directory.topology is None and not world.directory.is_lost
        kept = msgspec.structs.replace(lease(3), written=True)
        await world.coordinator.put(NODES + kept.id, encode_lease(kept))
        await world.directory.refresh()
        assert world.directory.is_lost and "objstore recover" in world.directory.missing()
        await world.put_map(make_map(9))
        await world.directory.refresh()
        assert world.epoch == 9 and not world.directory.is_lost
        await world.put_map(msgspec.structs.replace(make_map(9), recovering=10))
        await world.directory.refresh()
        assert world.epoch == 9

    run(body)


def steps() -> list[ClusterMap]:
    """Every kind of step of a layout change, in order."""
    before = make_map(epoch=5)
    after = msgspec.structs.replace(before.current, epoch=6)
    moving = [msgspec.structs.replace(before, next=after, synced=bytes([bits])) for bits in (0, 0b1000, 0b1010, 0b1111)]
    return [before, *moving, msgspec.structs.replace(before, current=after)]


def test_a_map_that_another_process_has_seen_is_taken_if_it_is_later() -> None:
    """INV-15."""

    async def body(world: World) -> None:
        await world.put_map(steps()[0])
        await world.directory.refresh()
        world.go_away()
        for known, later in zip(steps(), steps()[1:], strict=False):
            assert world.directory.topology is not None and world.directory.topology.map == known
            world.directory.offer(encode_map(later))
            taken = world.directory.topology
            assert taken.map == later and world.directory.raw_map == encode_map(later)
            for early in steps()[: steps().index(later) + 1]:
                world.directory.offer(encode_map(early))
            assert world.directory.topology is taken

    run(body)


def test_the_coordinator_shows_a_map_that_was_offered_before_and_then_a_later_one() -> None:
    async def body(world: World) -> None:
        await world.put_map(make_map(epoch=1))
        await until(lambda: world.epoch == 1, "a map")
        world.directory.offer(encode_map(make_map(epoch=2)))
        taken = world.directory.topology
        await world.put_map(make_map(epoch=2))
        found = await world.coordinator.get(MAP_KEY)
        await world.directory.refresh()
        assert found is not None and world.directory.map_revision == found.revision
        assert world.directory.topology is taken
        await world.put_map(make_map(epoch=3))
        await until(lambda: world.epoch == 3, "the map after it")

    run(body)


def test_who_needs_only_the_map_reads_no_leases() -> None:
    async def main() -> None:
        world = World()
        world.directory = Directory(world.coordinator, world.clock, with_nodes=False)
        world.directory.start()
        await world.register(1)
        await world.put_map(make_map())
        await world.directory.wait_ready(30)
        await world.directory.refresh()
        assert world.names == [] and world.directory.raw_map == encode_map(make_map())
        await world.directory.close()

    asyncio.run(main())


def test_a_lease_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def body(world: World) -> None:
        await world.coordinator.put(NODES + "x", b"\xc1")
        await world.register(1)
        await world.directory.refresh()
        assert world.names == ["n1"]

    run(body)
    assert "nodes/x cannot be read" in caplog.text


def test_waiting_for_a_map_says_what_is_missing() -> None:
    async def body(world: World) -> None:
        await world.register(2, 1)
        await until(lambda: len(world.names) == 2, "two nodes")
        with pytest.raises(Unavailable, match="nodes seen: n1 n2"):
            await world.directory.wait_ready(0.001)
        world.go_away()
        await until(lambda: world.directory.problem != "", "noticed")
        with pytest.raises(Unavailable, match=r"the coordinator does not answer \(the coordinator is away\)"):
            await world.directory.wait_ready(0.001)

    run(body)


def test_wait_change_ends_with_a_change_or_with_its_time() -> None:
    async def body(world: World) -> None:
        await world.directory.refresh()
        assert await world.directory.wait_change(0.001) is False
        waiting = asyncio.create_task(world.directory.wait_change(30))
        await asyncio.sleep(0)
        await world.register(1)
        assert await waiting is True

    run(body)


def test_readers_at_the_same_time_share_one_read() -> None:
    class Counting(LocalCoordinator):
        reads = 0

        async def range(self, prefix: str):  # type: ignore[no-untyped-def]
            self.reads += 1
            await asyncio.sleep(0)
            return await super().range(prefix)

    async def main() -> None:
        clock = ManualClock()
        coordinator = Counting(CoordinatorStore(), clock)
        directory = Directory(coordinator, clock)
        await asyncio.gather(*(directory.refresh() for _ in range(10)))
        assert coordinator.reads == 2, "the map and the nodes, once"
        await directory.refresh()
        assert coordinator.reads == 4
        await directory.close()

    asyncio.run(main())


def test_a_slow_read_does_not_undo_a_later_one() -> None:
    class Slow(LocalCoordinator):
        gate: asyncio.Event | None = None

        async def range(self, prefix: str):  # type: ignore[no-untyped-def]
            answer = await super().range(prefix)
            if self.gate is not None and prefix == NODES:
                gate, self.gate = self.gate, None
                await gate.wait()
            return answer

    async def main() -> None:
        world = World()
        world.coordinator = Slow(world.coordinator.store, world.clock)
        world.directory = Directory(world.coordinator, world.clock)
        gate = world.coordinator.gate = asyncio.Event()
        slow = asyncio.create_task(world.directory.refresh())
        await until(lambda: world.coordinator.gate is None, "the slow read has its old answer")
        await world.register(1)
        world.directory.start()
        await until(lambda: world.names == ["n1"], "the later read")
        gate.set()
        await slow
        assert world.names == ["n1"]
        await world.directory.close()

    asyncio.run(main())


def test_a_map_of_a_later_format_is_not_acted_on_and_said_why(caplog: pytest.LogCaptureFixture) -> None:
    """One who has a map keeps it; one who starts says what it waits for, and does not call the metadata lost."""
    world = World()

    async def main() -> None:
        await world.register(1, 2, 3)
        await world.put_map(make_map(1))
        world.directory.start()
        await until(lambda: world.epoch == 1, "the map")
        await world.coordinator.put(MAP_KEY, msgspec.msgpack.encode({"format": 2, "epoch": 2}))
        await until(lambda: "the cluster map has format 2" in caplog.text, "a line about it")
        assert world.epoch == 1
        fresh = Directory(world.coordinator, world.clock)
        fresh.start()
        await until(lambda: "has format 2" in fresh.missing(), "the reason")
        assert fresh.topology is None and not fresh.is_lost
        await world.put_map(make_map(3))
        await until(lambda: fresh.topology is not None, "a map that it knows")
        await fresh.close()
        await world.directory.close()

    asyncio.run(main())
