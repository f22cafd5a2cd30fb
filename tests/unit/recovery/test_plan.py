"""Who speaks for whom, what may be missing, and the map that comes of it."""

from __future__ import annotations

import msgspec
import pytest

from objstore.cluster.bootstrap import map_of
from objstore.model.cluster import ClusterMap, ErasureCode, Node, NodeLease, View
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.recovery import plan
from objstore.recovery.roster import LIVE, Life, Roster, Source, call_the_roll

CODE = ErasureCode(2, 1)  # 3 replicas, so that 2 are a majority


def lease(id: str, name: str, *, lost: bool = False) -> NodeLease:
    return NodeLease(NodeId(id), name, "z", f"{name}:1", 1000, 0, 1000, 1, "0", 0, lost)


def map_with(count: int, epoch: int = 5) -> ClusterMap:
    leases = [lease(f"old{i}", f"n{i}") for i in range(1, count + 1)]
    made = map_of(leases, cluster_id="ab" * 16, code=CODE, partition_bits=4, codec="zfec")
    return msgspec.structs.replace(made, current=View(epoch, made.current.layout))


def back(*numbers: int) -> dict[NodeId, NodeLease]:
    """These nodes run again, without their index."""
    return {NodeId(f"new{i}"): lease(f"new{i}", f"n{i}", lost=True) for i in numbers}


def lives(*numbers: int, damaged: int = 0) -> dict[NodeId, list[Life]]:
    return {NodeId(f"new{i}"): [Life(NodeId(f"old{i}"), damaged)] for i in numbers}


def roll(cluster_map: ClusterMap, *numbers: int, damaged: int = 0) -> Roster:
    return call_the_roll(cluster_map, back(*numbers), lives(*numbers, damaged=damaged))


def test_a_node_speaks_for_itself_and_for_those_that_it_was() -> None:
    leases = {NodeId("old1"): lease("old1", "n1"), **back(2, 3)}
    found = call_the_roll(map_with(4), leases, lives(2, 3))
    assert found.sources[NodeId("old1")] == Source(NodeId("old1"), LIVE)
    assert found.sources[NodeId("old2")] == Source(NodeId("new2"), 0)
    assert {node: heir.id for node, heir in found.heirs.items()} == {"old2": "new2", "old3": "new3"}
    assert found.missing == ("old4",) and found.lives == 2


def test_a_node_that_runs_is_believed_before_an_old_journal_of_it() -> None:
    leases = {NodeId("old1"): lease("old1", "n1"), NodeId("copy"): lease("copy", "copy", lost=True)}
    found = call_the_roll(map_with(3), leases, {NodeId("copy"): [Life(NodeId("old1"), 0)]})
    assert found.sources[NodeId("old1")].is_live


def test_an_heir_is_known_by_its_journal_though_its_name_was_changed() -> None:
    leases = {NodeId("x"): lease("x", "renamed", lost=True)}
    assert call_the_roll(map_with(3), leases, {NodeId("x"): [Life(NodeId("old2"), 0)]}).heirs[NodeId("old2")].id == "x"


def test_an_empty_node_of_the_same_name_takes_the_place_and_speaks_for_nobody() -> None:
    found = call_the_roll(map_with(3), {NodeId("x"): lease("x", "n2")}, {})
    assert found.heirs[NodeId("old2")].id == "x" and NodeId("old2") in found.missing


def test_nobody_inherits_twice_and_no_member_is_an_heir() -> None:
    before = map_with(3)
    twice = msgspec.structs.replace(before, nodes=(*before.nodes, Node(NodeId("older1"), "n1", "z", 1)))
    found = call_the_roll(twice, {NodeId("x"): lease("x", "n1")}, {})
    assert len(found.heirs) == 1
    member = call_the_roll(
        before, {NodeId("old1"): lease("old1", "n1", lost=True)}, {NodeId("old1"): [Life(NodeId("old2"), 0)]}
    )
    assert member.heirs == {} and member.sources[NodeId("old2")] == Source(NodeId("old1"), 0)


@pytest.mark.parametrize(("there", "unsure"), [((1, 2, 3), 0), ((1, 2), 0), ((1,), 16)])
def test_one_missing_owner_of_three_hides_nothing_and_two_may(there: tuple[int, ...], unsure: int) -> None:
    before = map_with(3)
    found = plan.outlook(before, roll(before, *there))
    assert (found.partitions, found.headless, found.unsure) == (16, 16, unsure)


def test_a_damaged_journal_may_hide_as_much_as_one_that_is_missing() -> None:
    before = map_with(3)
    assert plan.outlook(before, roll(before, 1, 2, 3, damaged=1)).unsure == 16
    assert (
        plan.outlook(before, call_the_roll(before, back(1, 2, 3), {**lives(1, damaged=1), **lives(2, 3)})).unsure == 0
    )


def test_no_recovery_is_called_for_while_majorities_live() -> None:
    before = map_with(3)
    leases = {NodeId(f"old{i}"): lease(f"old{i}", f"n{i}") for i in (1, 2)}
    assert plan.outlook(before, call_the_roll(before, {**leases, **back(3)}, lives(3))).headless == 0


def test_heirs_get_the_very_slots_and_nobody_else_moves() -> None:
    before = map_with(5)
    leases = {NodeId("old1"): lease("old1", "n1"), **back(2, 3, 4, 5)}
    after = plan.recovered_map(before, call_the_roll(before, leases, lives(2, 3, 4, 5)), leases, 9)
    assert (after.current.epoch, after.current.out, after.next, after.recovering) == (9, (), None, 0)
    heir = {"old1": "old1", **{f"old{i}": f"new{i}" for i in range(2, 6)}}
    old, new = Topology(before), Topology(after)
    for partition in range(before.partitions):
        assert [heir[n] for n in old.data_owners(partition)] == list(new.data_owners(partition))
        assert [heir[n] for n in old.meta_owners(partition, before.current)] == list(
            new.meta_owners(partition, after.current)
        )


def test_who_is_gone_is_out_under_an_id_that_nobody_has() -> None:
    """Were it to come back as the owner that it was, it could tell what nobody chose."""
    before = map_with(5)
    leases = back(1, 2, 3, 4)
    after = plan.recovered_map(before, call_the_roll(before, leases, lives(1, 2, 3, 4)), leases, 9)
    (gone,) = after.current.out
    assert gone not in {f"old{i}" for i in range(1, 6)} | set(leases)
    assert {node.id: node.name for node in after.nodes}[gone] == "n5"
    assert "old5" not in {node.id for node in after.nodes}
    assert plan.unable(after, leases) == ""
    assert "start n" in plan.unable(after, list(leases)[:1])


def test_a_change_of_layout_that_had_begun_is_not_gone_back_on() -> None:
    """The newest layout holds; both owner sets of a partition that had not moved yet are asked."""
    before = map_with(4)
    other = map_of(
        [lease(f"old{i}", f"n{i}") for i in (2, 3, 4)], cluster_id="", code=CODE, partition_bits=4, codec="zfec"
    )
    moving = msgspec.structs.replace(before, next=View(6, other.current.layout), synced=b"\x01\x00")
    topology = Topology(moving)
    assert plan.owners_before(topology, 0) == topology.meta_owners(0, View(6, other.current.layout))
    both = {*topology.meta_owners(1, moving.current), *topology.meta_owners(1, View(6, other.current.layout))}
    assert set(plan.owners_before(topology, 1)) == both
    leases = back(1, 2, 3, 4)
    after = plan.recovered_map(moving, call_the_roll(moving, leases, lives(1, 2, 3, 4)), leases, 9)
    assert after.current.layout.nodes == ("new2", "new3", "new4")
    assert sorted(node.id for node in after.nodes) == ["new1", "new2", "new3", "new4"]  # who leaves still has data


def test_the_epoch_is_above_every_tag_and_every_recovery_before() -> None:
    before = map_with(3, epoch=5)
    assert plan.next_epoch(before, 0) == 6
    assert 2 * plan.next_epoch(before, 41) > 41
    assert plan.next_epoch(msgspec.structs.replace(before, recovering=30), 0) == 31
    assert plan.next_epoch(None, 7) > plan.UNKNOWN_EPOCHS


def test_a_drained_member_stays_though_it_is_away_and_who_leaves_does_not() -> None:
    """What the one holds is still counted; the other holds nothing (INV-17), and nobody would ever take its place."""
    before = map_with(5)
    gone = [node for node in before.nodes if node.id == "old5"]
    three = map_of(
        [lease(f"old{i}", f"n{i}") for i in (1, 2, 3)], cluster_id="", code=CODE, partition_bits=4, codec="zfec"
    )
    leases = back(1, 2, 3)
    drained = msgspec.structs.replace(three, nodes=(*three.nodes, *gone))
    after = plan.recovered_map(drained, call_the_roll(drained, leases, lives(1, 2, 3)), leases, 9)
    assert sorted(node.id for node in after.nodes) == ["new1", "new2", "new3", "old5"]
    leaving = msgspec.structs.replace(drained, leaving=(gone[0].id,))
    after = plan.recovered_map(leaving, call_the_roll(leaving, leases, lives(1, 2, 3)), leases, 9)
    assert sorted(node.id for node in after.nodes) == ["new1", "new2", "new3"]
