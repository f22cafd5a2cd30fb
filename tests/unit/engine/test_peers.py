"""Peers: where a later map comes from, and who counts as up while the coordinator is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from objstore.cluster.bootstrap import first_map
from objstore.cluster.directory import Directory
from objstore.cluster.port import MAP_KEY, NODES
from objstore.cluster.store import CoordinatorStore
from objstore.engine.peers import REFRESH_NODES, REFRESH_S, Peers
from objstore.model.cluster import ClusterMap, ErasureCode, Level, NodeLease, encode_lease, encode_map
from objstore.model.errors import InsufficientStorage, InvalidRequest, Unavailable, Unreachable
from objstore.model.ids import NodeId
from objstore.ports import Buffer
from objstore.wire.messages import MapFound, MapRead, Named, Ping, Pong, Reply, Request, decode_request
from tests.sim.coordinator import LocalCoordinator
from tests.sim.loop import SimLoop, run
from tests.sim.network import Sending

NAMES = [f"n{number}" for number in range(1, 8)]


class LoopClock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return int(self.monotonic() * 1000)


def lease(name: str) -> NodeLease:
    return NodeLease(NodeId(f"{int(name[1:]):016x}"), name, "z", name, 1000, 0, 1, 1, "0")


def make_map(epoch: int = 1, cluster_id: str = "ab" * 16) -> ClusterMap:
    code = ErasureCode(2, 1)
    made = first_map([lease(name) for name in NAMES], cluster_id=cluster_id, code=code, partition_bits=2, codec="zfec")
    assert made is not None
    return msgspec.structs.replace(made, current=msgspec.structs.replace(made.current, epoch=epoch))


class Slow(LocalCoordinator):
    """Its answers take time; `silent`: there are none."""

    delay_s = 0.0
    silent = False

    async def range(self, prefix: str):  # type: ignore[no-untyped-def]
        answer = await super().range(prefix)
        await (asyncio.Event().wait() if self.silent else asyncio.sleep(self.delay_s))
        return answer


class World(Sending):
    """Seven nodes under a map of epoch 1, which the peers know; what else there is each test says."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.coordinator = Slow(CoordinatorStore(), self.clock)
        self.directory = Directory(self.coordinator, self.clock)
        self.peers = Peers(self.directory, self, self.clock)
        self.maps: dict[str, bytes | Exception] = {}  # by node: what it says it has seen
        self.down: set[str] = set()
        self.asked: list[str] = []

    async def begin(self) -> None:
        await self.put_map(make_map())
        for name in NAMES:
            await self.coordinator.put(NODES + lease(name).id, encode_lease(lease(name)))
        await self.directory.refresh()

    async def put_map(self, cluster_map: ClusterMap) -> None:
        await self.coordinator.put(MAP_KEY, encode_map(cluster_map))

    async def forget(self, name: str) -> None:
        await self.coordinator.delete(NODES + lease(name).id)
        await self.directory.refresh()

    @property
    def epoch(self) -> int:
        return self.peers.topology.epoch

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes | memoryview]:
        """The Transport port, as far as it is used here."""
        await asyncio.sleep(0.001)
        if address in self.down:
            raise Unreachable(f"{address} is down")
        assert isinstance(request, Named)
        match decode_request(request.request):
            case MapRead():
                self.asked.append(address)
                answer = self.maps.get(address, b"")
                if isinstance(answer, Exception):
                    raise answer
                return MapFound(), answer
            case Ping():
                return Pong(address, "node", request.node), b""
        raise AssertionError(request)


def play(body: Callable[[World], Awaitable[None]]) -> SimLoop:
    async def main() -> None:
        world = World()
        await world.begin()
        await body(world)
        await world.directory.close()

    return run(main, 1)[1]


def everywhere(epoch: int) -> dict[str, bytes | Exception]:
    return dict.fromkeys(NAMES, encode_map(make_map(epoch)))


def test_without_the_coordinator_the_nodes_tell_the_map() -> None:
    async def body(world: World) -> None:
        world.coordinator.away = True
        world.maps = everywhere(2)
        await world.peers.refresh()
        assert world.epoch == 2

    play(body)


def test_whoever_asked_by_an_earlier_map_waits_for_no_later_one_than_is_known() -> None:
    async def body(world: World) -> None:
        world.coordinator.silent = True
        world.maps = everywhere(2)
        earlier = world.peers.topology
        await world.peers.refresh(earlier)
        assert world.epoch == 2
        start = world.clock.monotonic()
        await world.peers.refresh(earlier)
        assert world.clock.monotonic() == start
        await world.peers.refresh(world.peers.topology)
        assert world.clock.monotonic() > start

    play(body)


@pytest.mark.parametrize("hindrance", ["silent", "slow"])
def test_a_coordinator_that_says_nothing_holds_up_nobody(hindrance: str) -> None:
    async def body(world: World) -> None:
        world.coordinator.silent, world.coordinator.delay_s = hindrance == "silent", 3.0
        world.maps = everywhere(2)
        start = world.clock.monotonic()
        await world.peers.refresh()
        assert world.epoch == 2 and world.clock.monotonic() - start < 0.1

    play(body)


def test_the_coordinator_tells_what_no_node_has_seen_yet() -> None:
    async def body(world: World) -> None:
        world.maps = everywhere(1)
        world.coordinator.delay_s = 0.1
        await world.put_map(make_map(2))
        await world.peers.refresh()
        assert world.epoch == 2

    play(body)


def test_what_the_coordinator_said_before_does_not_undo_what_a_node_has_seen() -> None:
    async def body(world: World) -> None:
        await world.put_map(make_map(2))
        world.coordinator.delay_s = 0.5
        reading = asyncio.create_task(world.directory.refresh())
        await asyncio.sleep(0.1)
        world.maps = everywhere(3)
        await world.peers.refresh()
        assert world.epoch == 3
        await reading
        assert world.epoch == 3

    play(body)


def test_other_nodes_are_asked_the_next_time() -> None:
    async def body(world: World) -> None:
        world.coordinator.away = True
        world.maps = {"n7": encode_map(make_map(2))}
        for _ in range(-(-len(NAMES) // REFRESH_NODES)):
            await world.peers.refresh()
        assert world.epoch == 2
        assert len(world.asked) <= len(NAMES) + REFRESH_NODES

    play(body)


def test_it_ends_in_time_when_nobody_knows_a_later_map() -> None:
    async def body(world: World) -> None:
        start = world.clock.monotonic()
        world.maps = everywhere(1)
        world.coordinator.silent = True
        await world.peers.refresh()
        assert world.epoch == 1 and world.clock.monotonic() - start <= REFRESH_S + 0.01
        world.coordinator.silent, world.coordinator.away, world.down = False, True, set(NAMES)
        await world.peers.refresh()
        assert world.epoch == 1

    play(body)


def test_what_cannot_be_acted_on_is_not_taken() -> None:
    """Nor does it do any harm: an older release that knows no such question, a map that is none, or of others."""
    answers: list[bytes | Exception] = [
        InvalidRequest("what is MapRead?"),
        b"\xc1",
        encode_map(make_map(9, cluster_id="cd" * 16)),
        encode_map(msgspec.structs.replace(make_map(9), recovering=10)),
        encode_map(make_map(0)),
    ]

    async def body(world: World) -> None:
        world.coordinator.away = True
        for answer in answers:
            world.maps = dict.fromkeys(NAMES, answer)
            before = world.peers.topology
            await world.peers.refresh()
            assert world.peers.topology is before
        world.maps = everywhere(2)
        await world.peers.refresh()
        assert world.epoch == 2

    play(body)


def test_who_asks_meanwhile_waits_for_the_same_and_one_who_gives_up_stops_no_other() -> None:
    async def body(world: World) -> None:
        world.coordinator.away = True
        world.maps = everywhere(2)
        asking = [asyncio.create_task(world.peers.refresh()) for _ in range(10)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert world.epoch == 2 and len(world.asked) == REFRESH_NODES

    play(body)


def test_without_the_coordinator_a_node_that_answers_is_up_whatever_its_lease() -> None:
    async def body(world: World) -> None:
        n3 = lease("n3").id
        await world.peers.call(n3, Ping())
        await world.forget("n3")
        assert not world.peers.is_up(n3), "who has no lease is down, says the coordinator"
        world.coordinator.away = True
        await world.peers.refresh()
        assert not world.peers.is_up(n3), "nothing has been heard from it since"
        await world.peers.call(n3, Ping())
        assert world.peers.is_up(n3)
        world.down = {"n3"}
        with pytest.raises(Unreachable):
            await world.peers.call(n3, Ping())
        assert not world.peers.is_up(n3)

    play(body)


def test_the_coordinator_is_believed_again_when_it_is_back() -> None:
    async def body(world: World) -> None:
        n3 = lease("n3").id
        await world.peers.call(n3, Ping())
        await world.forget("n3")
        world.coordinator.away = True
        await world.peers.refresh()
        await world.peers.call(n3, Ping())
        world.coordinator.away = False
        await world.directory.refresh()
        assert not world.peers.is_up(n3)

    play(body)


async def say_full(world: World, *names: str, level: Level = "full") -> None:
    for name in names:
        full = msgspec.structs.replace(lease(name), level=level)
        await world.coordinator.put(NODES + full.id, encode_lease(full))
    await world.directory.refresh()


def test_full_nodes_are_not_asked_to_take_data_as_long_as_that_is_known() -> None:
    async def body(world: World) -> None:
        node = lease("n1").id
        await say_full(world, "n1", level="near")
        assert world.peers.takes_data(node)
        await say_full(world, "n1")
        assert not world.peers.takes_data(node) and world.peers.is_up(node), "for everything else it is asked"
        world.coordinator.away = True
        with pytest.raises(Unavailable):
            await world.directory.refresh()
        assert world.peers.takes_data(node), "who knows: it says itself when it is asked"

    play(body)


def test_new_data_is_refused_up_front_once_too_few_nodes_have_room() -> None:
    async def body(world: World) -> None:  # a code of 2+1, so three nodes are needed
        await say_full(world, *NAMES[:4])
        world.peers.need_room()
        await say_full(world, NAMES[4])
        with pytest.raises(InsufficientStorage, match="n1 n2 n3 n4 n5 take no new data, and 3 nodes with room"):
            world.peers.need_room()
        await say_full(world, NAMES[4], level="ok")
        await world.forget(NAMES[5])
        with pytest.raises(InsufficientStorage):
            world.peers.need_room()

    play(body)


def test_missing_nodes_alone_are_not_a_full_cluster() -> None:
    async def body(world: World) -> None:
        for name in NAMES[:5]:
            await world.forget(name)
        world.peers.need_room()

    play(body)


def test_a_node_that_was_never_seen_is_looked_for_at_once() -> None:
    """The watch is deaf (it was not even started here): a call is what finds out."""

    async def body(world: World) -> None:
        late = NodeId(f"{99:016x}")
        world.coordinator.silent = True
        await world.coordinator.put(
            NODES + late, encode_lease(msgspec.structs.replace(lease("n1"), id=late, name="n99"))
        )
        world.coordinator.silent = False
        with pytest.raises(Unreachable, match="never been seen"):
            await world.peers.call(late, Ping())
        await asyncio.sleep(0.1)
        assert world.peers.is_up(late)
        assert await world.peers.call(late, Ping()) is not None

    play(body)


def test_nodes_that_stay_away_are_looked_for_now_and_then() -> None:
    async def body(world: World) -> None:
        world.down = set(NAMES)
        reads = 0
        before = world.coordinator.range

        async def counted(prefix: str):  # type: ignore[no-untyped-def]
            nonlocal reads
            reads += prefix == NODES
            return await before(prefix)

        world.coordinator.range = counted  # type: ignore[method-assign]
        for _ in range(200):
            with pytest.raises(Unreachable):
                await world.peers.call(lease("n1").id, Ping())
            await asyncio.sleep(0.01)
        assert 1 <= reads <= 4

    play(body)
