"""Plans: where they lead, what they move, what is refused and why; which nodes may be stopped."""

from __future__ import annotations

import random

import msgspec
import pytest

from objstore.model.cluster import ClusterMap, ErasureCode, Node, NodeLease, View
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Change, Drain, Plan, Remove, Replace, Resize, decode_plan, encode_plan, merged
from objstore.model.survey import NodeHoldings, ObjectCounts, Survey
from objstore.placement.layout import compute_layout, quality
from objstore.placement.preview import preview
from objstore.placement.safety import Evidence, refusals
from objstore.placement.stopping import reasons_not_to_stop
from objstore.placement.target import Target, target

CODE = ErasureCode(4, 2)
BITS = 7


def a_node(number: int, capacity: int = 1000, zone: str = "") -> Node:
    return Node(NodeId(f"{number:016x}"), f"n{number}", zone or f"z{number}", capacity)


def a_map(count: int = 8, zones: int = 0, bits: int = BITS) -> ClusterMap:
    nodes = tuple(a_node(i, zone=f"z{i % zones}" if zones else "") for i in range(1, count + 1))
    return ClusterMap("c" * 32, CODE, bits, "zfec", nodes, View(3, compute_layout(nodes, CODE, bits)))


def lease(node: Node, used: int = 0) -> NodeLease:
    return NodeLease(node.id, node.name, node.zone, "h:1", node.capacity_bytes, used, 1, 1, "1")


def leases(cluster_map: ClusterMap, *more: Node, without: tuple[int, ...] = ()) -> dict[NodeId, NodeLease]:
    gone = {a_node(i).id for i in without}
    return {node.id: lease(node, 600) for node in (*cluster_map.nodes, *more) if node.id not in gone}


def of(number: int) -> tuple[NodeId, str]:
    return a_node(number).id, f"n{number}"


def survey(
    *, full: int = 100, reduced: int = 0, minimum: int = 0, can_lose: int = 2, epoch: int = 3, **needed: int
) -> Survey:
    objects = ObjectCounts(full + reduced + minimum, full, reduced, minimum, 0)
    held: dict[str, NodeHoldings] = {a_node(i).id: NodeHoldings(10, 0) for i in range(1, 12)}
    held.update({a_node(int(name[1:])).id: NodeHoldings(left, 0, left) for name, left in needed.items()})
    return Survey(1, "r1", epoch, "4+2", objects, can_lose, nodes=held)


def drained(cluster_map: ClusterMap, number: int) -> ClusterMap:
    """After a drain of it."""
    to = target(cluster_map, [Drain(*of(number))], {})
    return msgspec.structs.replace(cluster_map, nodes=to.nodes, current=View(3, to.layout))


def judged(cluster_map: ClusterMap, changes: list[Change], seen: Evidence) -> list[str]:
    to = target(cluster_map, changes, seen.leases)
    return [one.text for one in refusals(cluster_map, changes, to, seen)]


# --- where it leads ------------------------------------------------------------------------------------------------


def test_an_added_node_gets_its_share_and_little_else_moves() -> None:
    now = a_map()
    to = target(now, [Add(*of(9))], leases(now, a_node(9)))
    shown = preview(now, to, {node: 600 for node in leases(now)})
    assert [node.name for node in to.nodes] == [f"n{i}" for i in range(1, 10)]
    assert shown.slots_min <= shown.slots_moved <= 1.05 * shown.slots_min + 9
    assert shown.fullest_after <= 1.03
    assert shown.nodes[-1].bytes_in == shown.bytes_moved and shown.nodes[-1].share_before == 0
    assert sum(node.bytes_out for node in shown.nodes) == shown.bytes_moved


def test_a_drained_node_stays_a_member_without_a_share() -> None:
    now = a_map()
    to = target(now, [Drain(*of(3))], leases(now))
    assert a_node(3) in to.nodes and a_node(3).id not in to.layout.nodes
    shown = preview(now, to, {node: 600 for node in leases(now)})
    gone = next(node for node in shown.nodes if node.name == "n3")
    assert gone.share_after == 0 and abs(gone.bytes_out - 600) < 10


def test_a_replaced_node_gives_its_very_slots() -> None:
    now = a_map()
    to = target(now, [Replace(*of(3), *of(9))], leases(now, a_node(9)))
    old, new = now.current.layout, to.layout
    for before, after in zip(old.data, new.data, strict=True):
        names = [a_node(9).id if old.nodes[n] == a_node(3).id else old.nodes[n] for n in before]
        assert names == [new.nodes[n] for n in after]


def test_a_drained_node_can_be_taken_back() -> None:
    now = drained(a_map(), 3)
    to = target(now, [Add(*of(3))], leases(now))
    assert set(to.layout.nodes) == {a_node(i).id for i in range(1, 9)} and len(to.nodes) == 8


def test_removing_what_has_no_share_moves_nothing() -> None:
    now = drained(a_map(), 3)
    to = target(now, [Remove(*of(3))], leases(now))
    assert to.layout is now.current.layout and a_node(3) not in to.nodes


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Add(*of(3)), "has its share already"),
        (Add(*of(9)), "does not run"),
        (Drain(*of(9)), "no member"),
        (Replace(*of(3), *of(4)), "has a share of its own"),
        (Remove(*of(9)), "no member"),
        (Resize(*of(9), 5), "no member"),
    ],
)
def test_what_does_not_fit_is_refused(change: Change, why: str) -> None:
    now = a_map()
    with pytest.raises(InvalidRequest, match=why):
        target(now, [change], leases(now))


def test_too_few_nodes_are_refused() -> None:
    now = a_map(6)
    with pytest.raises(InvalidRequest, match="add 1 or more"):
        target(now, [Drain(*of(3))], leases(now))


@pytest.mark.parametrize("seed", range(8))
def test_any_sequence_of_changes_stays_even_and_moves_little(seed: int) -> None:
    draw = random.Random(seed)
    now = a_map(9, zones=seed % 2)
    for number in range(10, 14):
        placed = [node for node in now.nodes if node.id in now.current.layout.nodes]
        kind = draw.choice(["add", "drain", "replace"]) if len(placed) > 7 else "add"
        victim = draw.choice(placed)
        new = a_node(number, zone="z0" if seed % 2 else "")
        change: Change = Add(new.id, new.name)
        if kind == "drain":
            change = Drain(victim.id, victim.name)
        elif kind == "replace":
            change = Replace(victim.id, victim.name, new.id, new.name)
        to = target(now, [change], leases(now, new))
        shown = preview(now, to, {node.id: 600 for node in now.nodes})
        after = [node for node in to.nodes if node.id in to.layout.nodes]
        assert shown.slots_moved <= 1.05 * shown.slots_min + len(after)
        assert quality(to.layout, after).data.fullest <= 1.03
        now = msgspec.structs.replace(now, nodes=to.nodes, current=View(now.current.epoch + 1, to.layout))


def test_the_last_word_about_a_node_counts() -> None:
    changes: tuple[Change, ...] = ()
    for change in (Drain(*of(3)), Resize(*of(4), 7), Replace(*of(3), *of(9)), Add(*of(9))):
        changes = merged(changes, change)
    assert changes == (Resize(*of(4), 7), Add(*of(9)))
    plan = Plan("ab", changes, "applied", True)
    assert decode_plan(encode_plan(plan)) == plan


# --- what is refused -------------------------------------------------------------------------------------------


def test_a_healthy_cluster_may_be_changed() -> None:
    now = a_map()
    seen = Evidence(leases(now, a_node(9)), survey())
    for change in (Add(*of(9)), Drain(*of(3)), Replace(*of(3), *of(9)), Resize(*of(3), 2000)):
        assert judged(now, [change], seen) == []


def test_a_living_node_keeps_its_share_while_an_object_has_nothing_to_spare() -> None:
    now = a_map()
    seen = Evidence(leases(now, a_node(9)), survey(full=90, minimum=10, can_lose=0))
    assert "10 objects have no shard to spare" in judged(now, [Drain(*of(3))], seen)[0]
    assert "10 objects" in judged(now, [Replace(*of(3), *of(9))], seen)[0]
    assert judged(now, [Add(*of(9))], seen) == [], "more nodes help"
    reduced = Evidence(leases(now), survey(full=90, reduced=10, can_lose=1))
    assert judged(now, [Drain(*of(3))], reduced) == []


def test_a_new_node_may_take_the_place_of_a_dead_one_whatever_the_redundancy() -> None:
    now = a_map(6)
    seen = Evidence(leases(now, a_node(9), without=(3,)), survey(full=0, minimum=9, can_lose=0))
    assert judged(now, [Replace(*of(3), *of(9))], seen) == []


def test_without_a_look_nobody_knows() -> None:
    now = a_map()
    assert "not known" in judged(now, [Drain(*of(3))], Evidence(leases(now), None))[0]


def test_nothing_can_be_copied_from_a_dead_node() -> None:
    now = a_map()
    found = judged(now, [Drain(*of(3))], Evidence(leases(now, without=(3,)), survey()))
    assert "replace it" in found[0]


def test_a_member_leaves_only_when_it_holds_nothing_that_is_needed() -> None:
    """INV-17."""
    now = a_map()
    assert "node drain n3" in judged(now, [Remove(*of(3))], Evidence(leases(now), survey()))[0]
    empty = drained(now, 3)
    remove: list[Change] = [Remove(*of(3))]
    assert "not known yet" in judged(empty, remove, Evidence(leases(empty), survey()))[0]
    assert "5 fragments" in judged(empty, remove, Evidence(leases(empty), survey(n3=5)))[0]
    assert "1 fragment that" in judged(empty, remove, Evidence(leases(empty), survey(n3=1)))[0]
    assert "not known yet" in judged(empty, remove, Evidence(leases(empty), survey(n3=0, epoch=2)))[0]
    assert judged(empty, remove, Evidence(leases(empty), survey(n3=0))) == []


def test_a_dead_member_leaves_only_when_all_is_whole_without_it() -> None:
    """INV-17."""
    now = a_map()
    dead = leases(now, without=(3,))
    remove: list[Change] = [Remove(*of(3))]
    assert "7 objects of 100" in judged(now, remove, Evidence(dead, survey(full=93, reduced=7)))[0]
    assert "not known" in judged(now, remove, Evidence(dead, None))[0]
    parts = msgspec.structs.replace(survey(), damaged_parts=2)
    assert "2 parts" in judged(now, remove, Evidence(dead, parts))[0]
    assert judged(now, remove, Evidence(dead, survey())) == []


def test_one_change_at_a_time() -> None:
    now = a_map()
    joint = msgspec.structs.replace(now, next=View(4, now.current.layout))
    assert "still under way" in judged(joint, [Resize(*of(3), 5000)], Evidence(leases(now), survey()))[0]
    recovering = msgspec.structs.replace(now, recovering=9)
    assert "recovery" in judged(recovering, [Resize(*of(3), 5000)], Evidence(leases(now), survey()))[0]


def test_enough_living_nodes_must_be_left() -> None:
    now = a_map(8)
    seen = Evidence(leases(now, without=(1, 2)), survey())
    assert any("only 5 run" in why for why in judged(now, [Drain(*of(3))], seen))


def test_a_cluster_that_survives_the_loss_of_a_zone_goes_on_to_do_so() -> None:
    now = a_map(9, zones=3)
    gone: list[Change] = [Drain(*of(i)) for i in (3, 6)]
    assert any("in one zone" in why for why in judged(now, gone, Evidence(leases(now), survey())))


def test_two_live_processes_of_one_name_are_a_mistake() -> None:
    now = a_map()
    twin = Node(NodeId("f" * 16), "n3", "z3", 1000)
    assert "two live processes" in judged(now, [Resize(*of(4), 5)], Evidence(leases(now, twin), survey()))[0]


def test_every_refusal_that_is_about_losing_data_can_be_forced_and_no_other() -> None:
    now = a_map()
    to = Target(now.nodes, now.current.layout)
    low = Evidence(leases(now), survey(full=90, minimum=10, can_lose=0))
    assert [one.can_force for one in refusals(now, [Drain(*of(3))], to, low)] == [True]
    joint = msgspec.structs.replace(now, next=View(4, now.current.layout))
    healthy = Evidence(leases(now), survey())
    assert [one.can_force for one in refusals(joint, [Drain(*of(3))], to, healthy)] == [False]


# --- stopping --------------------------------------------------------------------------------------------------


def ids(*numbers: int) -> set[NodeId]:
    return {a_node(i).id for i in numbers}


def test_who_may_be_stopped() -> None:
    now = a_map()
    everybody = ids(*range(1, 9))
    assert reasons_not_to_stop(now, survey(), everybody, ids(1)) == []
    assert reasons_not_to_stop(now, survey(), everybody, ids(1, 2)) == []
    assert "unreadable" in reasons_not_to_stop(now, survey(), everybody, ids(1, 2, 3))[0]
    assert "unreadable" in reasons_not_to_stop(now, survey(can_lose=1), everybody, ids(1, 2))[0]
    assert "not known" in reasons_not_to_stop(now, None, everybody, ids(1))[0]


def test_a_node_that_fell_silent_since_the_look_counts_too() -> None:
    now = a_map()
    assert reasons_not_to_stop(now, survey(), ids(*range(2, 9)), ids(2)) == []
    assert "unreadable" in reasons_not_to_stop(now, survey(), ids(*range(3, 9)), ids(3))[0]


def test_metadata_and_writes_need_enough_nodes_too() -> None:
    now = a_map(6)
    reasons = reasons_not_to_stop(now, survey(can_lose=2), ids(*range(1, 7)), ids(1, 2, 3))
    assert any("no majority" in why for why in reasons) and any("writes would fail" in why for why in reasons)


def test_an_empty_drained_node_may_be_stopped_at_any_time() -> None:
    now = drained(a_map(), 3)
    assert reasons_not_to_stop(now, survey(can_lose=0, n3=0), ids(*range(1, 9)), ids(3)) == []
