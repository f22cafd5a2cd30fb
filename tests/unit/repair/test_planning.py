"""A plan is carried out at most once, and only when it is safe: step by step, with the death of a leader at each."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from objstore.cluster import topology
from objstore.cluster.port import MAP_KEY, PLAN_KEY, Entry
from objstore.cluster.store import CoordinatorStore
from objstore.cluster.topology import apply, discard, look, stage
from objstore.model.cluster import ClusterMap, ErasureCode, Node, NodeLease, View, decode_map, encode_lease, encode_map
from objstore.model.errors import Conflict, InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Drain, Plan, Remove, decode_plan, encode_plan
from objstore.model.survey import NodeHoldings, ObjectCounts, Survey
from objstore.placement.layout import compute_layout
from objstore.repair.controller import CarryOut, Continue, Drop, Nothing, decide, wanted_out
from objstore.repair.planning import Planning
from objstore.repair.transition import Transition, Versioned
from tests.sim.loop import run
from tests.unit.repair.acceptors import Acceptors, StillClock
from tests.unit.repair.test_controller import health

CODE = ErasureCode(1, 1)
NAMES = "ABCD"


class Died(Exception):
    """The process ended before its change was made."""


class Store:
    """A coordinator without network; `dies_at` ends whoever makes the n-th change from now."""

    def __init__(self) -> None:
        self.store = CoordinatorStore()
        self.dies_at = 1 << 30

    async def get(self, key: str) -> Entry | None:
        return self.store.get(key)

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        return self.store.range(prefix), self.store.revision

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        change = self.store.plan_put(key, value, lease=0, expected=expected, now=0.0)
        return self._make(change)

    async def delete(self, key: str, *, expected: int | None = None) -> bool:
        return self._make(self.store.plan_delete(key, expected=expected)) is not None

    def _make(self, change: object) -> int | None:
        if change is None:
            return None
        self.dies_at -= 1
        if self.dies_at < 0:
            raise Died
        self.store.apply(change)  # type: ignore[arg-type]
        return self.store.revision


def a_node(letter: str) -> Node:
    return Node(NodeId(letter), letter, letter, 1000)


def a_map(names: str = NAMES) -> ClusterMap:
    nodes = tuple(map(a_node, names))
    return ClusterMap("c" * 32, CODE, 2, "zfec", nodes, View(1, compute_layout(nodes, CODE, 2)))


class World:
    def __init__(self, cluster_map: ClusterMap, *, more: str = "") -> None:
        self.coordinator = Store()
        self.plans = 0
        self.acceptors = Acceptors(tuple(NodeId(letter) for letter in "ABCDEF"))
        self.survey: Survey | None = self.a_survey(cluster_map)
        self.survey_began = float("inf")  # monotonic
        self._put(MAP_KEY, encode_map(cluster_map))
        for node in (*cluster_map.nodes, *map(a_node, more)):
            lease = NodeLease(node.id, node.name, node.zone, "h:1", 1000, 10, 990, 1, "1")
            self._put(f"nodes/{node.id}", encode_lease(lease))

    def _put(self, key: str, value: bytes) -> None:
        change = self.coordinator.store.plan_put(key, value, lease=0, expected=None, now=0.0)
        assert change is not None
        self.coordinator.store.apply(change)

    @staticmethod
    def a_survey(cluster_map: ClusterMap, **needed: int) -> Survey:
        held = {name: NodeHoldings(left, 0, left) for name, left in needed.items()}
        return Survey(1, "r1", cluster_map.newest.epoch, "1+1", ObjectCounts(5, 5), 1, nodes=held)

    @property
    def now(self) -> Versioned:
        entry = self.coordinator.store.get(MAP_KEY)
        assert entry is not None
        return Versioned(decode_map(entry.value), entry.revision)

    @property
    def plan(self) -> Plan | None:
        entry = self.coordinator.store.get(PLAN_KEY)
        return decode_plan(entry.value) if entry is not None else None

    async def staged(self, *changes: object) -> None:
        for change in changes:
            self.plans += 1
            await stage(self.coordinator, lambda seen, change=change: change, lambda: f"plan {self.plans}")  # type: ignore[arg-type, misc]

    async def applied(self, *changes: object, forced: bool = False) -> None:
        await self.staged(*changes)
        await apply(self.coordinator, await look(self.coordinator), forced=forced)  # type: ignore[arg-type]

    def _survey_since(self, moment: float) -> Survey | None:
        return self.survey if self.survey_began > moment else None

    async def lead(self, dies_at: int = 1 << 30) -> None:
        """A new leader, until there is nothing left to do, or it dies."""
        self.coordinator.dies_at = dies_at

        async def settle(key: object) -> None:
            raise AssertionError("nothing to settle")

        transition = Transition(self.acceptors, self.coordinator, settle)  # type: ignore[arg-type]
        planning = Planning(self.coordinator, transition, StillClock())  # type: ignore[arg-type]
        leases = await topology.read_leases(self.coordinator)  # type: ignore[arg-type]
        try:
            for _ in range(20):
                now = self.now
                action = decide(now.map, {}, (), await planning.read(now.map))
                if isinstance(action, CarryOut):
                    await planning.carry_out(now, action.plan, leases, self._survey_since)
                elif isinstance(action, Continue):
                    await transition.advance(now)
                await asyncio.sleep(0)
        except Died:
            pass
        self.coordinator.dies_at = 1 << 30


@pytest.mark.parametrize("dies_at", range(8))
def test_it_is_carried_out_once_whenever_the_leader_dies(dies_at: int) -> None:
    """INV-17."""

    async def main() -> None:
        world = World(a_map(), more="E")
        await world.applied(Add(NodeId("E"), "E"))
        await world.lead(dies_at)
        await world.lead()
        now = world.now.map
        assert now.next is None and now.current.epoch == 2 and now.plan == "plan 1"
        assert NodeId("E") in now.current.layout.nodes and world.plan is None
        await world.lead()
        assert world.now.map == now, "never again"

    run(main, 1)


def test_what_is_staged_is_not_touched() -> None:
    async def main() -> None:
        world = World(a_map(), more="E")
        await world.staged(Add(NodeId("E"), "E"))
        before = world.now.revision
        await world.lead()
        assert world.now.revision == before and world.plan is not None

    run(main, 2)


def test_what_is_not_safe_any_more_waits_and_can_be_discarded() -> None:
    async def main() -> None:
        world = World(a_map())
        await world.applied(Drain(NodeId("A"), "A"))
        assert world.survey is not None
        world.survey = msgspec.structs.replace(world.survey, objects=ObjectCounts(5, 4, 0, 1))
        await world.lead()
        assert world.now.map.current.epoch == 1 and world.plan is not None and world.plan.state == "applied"
        with pytest.raises(Conflict):
            await world.staged(Drain(NodeId("B"), "B"))
        assert await discard(world.coordinator)  # type: ignore[arg-type]
        world.survey = World.a_survey(a_map())
        await world.lead()
        assert world.now.map.current.epoch == 1

    run(main, 3)


def test_one_that_has_begun_cannot_be_discarded_but_goes_back_when_it_cannot_begin() -> None:
    async def main() -> None:
        world = World(a_map())
        await world.applied(Drain(NodeId("A"), "A"))
        assert world.plan is not None
        world._put(PLAN_KEY, encode_plan(msgspec.structs.replace(world.plan, state="begun")))
        with pytest.raises(Conflict, match="has begun"):
            await discard(world.coordinator)  # type: ignore[arg-type]
        world.survey = None
        await world.lead()
        assert world.plan is not None and world.plan.state == "applied"

    run(main, 4)


def test_a_plan_that_was_shown_against_another_map_is_not_applied() -> None:
    async def main() -> None:
        world = World(a_map(), more="E")
        await world.staged(Add(NodeId("E"), "E"))
        seen = await look(world.coordinator)  # type: ignore[arg-type]
        later = msgspec.structs.replace(world.now.map, current=View(2, world.now.map.current.layout, (NodeId("A"),)))
        world._put(MAP_KEY, encode_map(later))
        with pytest.raises(Conflict, match="map has changed"):
            await apply(world.coordinator, seen, forced=False)  # type: ignore[arg-type]
        seen = await look(world.coordinator)  # type: ignore[arg-type]
        await world.staged(Drain(NodeId("B"), "B"))
        with pytest.raises(Conflict, match="plan has been changed"):
            await apply(world.coordinator, seen, forced=False)  # type: ignore[arg-type]

    run(main, 5)


def test_a_member_stays_until_it_is_known_to_be_empty() -> None:
    """INV-17."""

    async def main() -> None:
        world = World(a_map())
        await world.applied(Drain(NodeId("A"), "A"))
        await world.lead()
        now = world.now.map
        assert a_node("A") in now.nodes and NodeId("A") not in now.current.layout.nodes
        await world.applied(Remove(NodeId("A"), "A"))
        for survey in (World.a_survey(now), World.a_survey(now, A=3), World.a_survey(a_map(), A=0), None):
            world.survey = survey
            await world.lead()
            assert a_node("A") in world.now.map.nodes
        world.survey = World.a_survey(now, A=0)
        await world.lead()
        assert a_node("A") not in world.now.map.nodes and world.now.map.leaving == ()

    run(main, 6)


def test_a_look_that_began_before_the_plan_was_found_proves_nothing() -> None:
    """INV-17: a write may have come between that look and the request."""

    async def main() -> None:
        world = World(a_map())
        await world.applied(Drain(NodeId("A"), "A"))
        await world.lead()
        await world.applied(Remove(NodeId("A"), "A"))
        world.survey = World.a_survey(world.now.map, A=0)
        await asyncio.sleep(10)  # virtual
        found = StillClock().monotonic()
        world.survey_began = found - 1
        await world.lead()
        assert a_node("A") in world.now.map.nodes
        world.survey_began = found + 1
        await world.lead()
        assert a_node("A") not in world.now.map.nodes

    run(main, 7)


def test_what_does_not_fit_is_not_staged() -> None:
    async def main() -> None:
        world = World(a_map())
        with pytest.raises(InvalidRequest, match="does not run"):
            await world.staged(Add(NodeId("E"), "E"))
        assert world.plan is None

    run(main, 7)


def test_a_member_without_a_share_needs_nobody_to_stand_in_for_it() -> None:
    eight = tuple(Node(NodeId(name), name, "z", 1) for name in "ABCDEFGH")
    layout = compute_layout(eight[2:], ErasureCode(4, 2), 2)
    now = ClusterMap("c" * 32, ErasureCode(4, 2), 2, "zfec", eight, View(3, layout))
    assert wanted_out(now, health(A="out", B="out", C="out", D="out")) == tuple(NodeId(name) for name in "ABC")
    reborn = NodeLease(NodeId("new"), "A", "z", "h:1", 1, 0, 1, 0, "1")
    assert decide(now, health(A="out"), [reborn]) == Drop(NodeId("A"))
    assert decide(now, health(), [reborn]) == Nothing(), "both live: a mistake that is left alone"
