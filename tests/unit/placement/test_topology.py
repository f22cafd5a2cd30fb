"""Owners, stand-ins, tags and placement keys: what every process must compute alike from one map."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, View
from objstore.model.ids import SYSTEM_BUCKET, BucketId, NodeId
from objstore.model.records import RegisterKey, Space, part_name, upload_name
from objstore.placement.layout import compute_layout
from objstore.placement.topology import HANDOFFS_KEPT_MAX, Topology
from tests.unit.placement.naive import node

CODE = ErasureCode(4, 2)
BITS = 5
PARTITIONS = range(1 << BITS)
BUCKET = BucketId(bytes(range(16)))


def cluster(count: int, zones: int = 1) -> list[Node]:
    return [node(i, 1000 + i, f"z{i % zones}") for i in range(count)]


def topology(nodes: list[Node], out: tuple[NodeId, ...] = (), layout: Layout | None = None) -> Topology:
    view = View(3, layout or compute_layout(nodes, CODE, BITS), out)
    return Topology(ClusterMap("c" * 32, CODE, BITS, "isal", tuple(nodes), view))


def base(layout: Layout, partition: int, table: str = "data") -> list[NodeId]:
    return [layout.nodes[i] for i in getattr(layout, table)[partition]]


CLUSTERS = st.integers(6, 14).flatmap(lambda count: st.integers(1, 5).map(lambda zones: cluster(count, zones)))


@st.composite
def clusters_with_out(draw: st.DrawFn) -> tuple[list[Node], tuple[NodeId, ...]]:
    nodes = draw(CLUSTERS)
    out = draw(st.lists(st.sampled_from([n.id for n in nodes]), unique=True, max_size=len(nodes)))
    return nodes, tuple(sorted(out))


def test_with_nobody_out_the_owners_are_the_rows_of_the_layout() -> None:
    nodes = cluster(9, 3)
    found = topology(nodes)
    layout = found.map.current.layout
    for p in PARTITIONS:
        assert found.data_owners(p) == tuple(base(layout, p))
        assert found.meta_owners(p, found.map.current) == tuple(base(layout, p, "meta"))


@settings(deadline=None)
@given(clusters_with_out())
def test_each_out_owner_is_replaced_by_the_first_handoff_that_is_not_out_and_owns_nothing_there(
    case: tuple[list[Node], tuple[NodeId, ...]],
) -> None:
    """The order comes from the topology before anybody was out: a write handed off then must be at home now."""
    nodes, out = case
    before = topology(nodes)
    layout = before.map.current.layout
    after = topology(nodes, out, layout)
    for p in PARTITIONS:
        expected = base(layout, p)
        for gone in (owner for owner in out if owner in expected):
            free = [n for n in before.handoff(p) if n not in out and n not in expected]
            if free:
                expected[expected.index(gone)] = free[0]
        assert after.data_owners(p) == tuple(expected)


@settings(deadline=None)
@given(clusters_with_out())
def test_owners_are_distinct_and_out_only_where_nobody_else_is_left(
    case: tuple[list[Node], tuple[NodeId, ...]],
) -> None:
    nodes, out = case
    found = topology(nodes, out)
    live = {n.id for n in nodes} - set(out)
    for p in PARTITIONS:
        for owners in (found.data_owners(p), found.meta_owners(p, found.map.current)):
            assert len(set(owners)) == len(owners)
            if set(owners) & set(out):
                assert live <= set(owners)


@settings(deadline=None)
@given(clusters_with_out())
def test_owners_and_handoffs_are_all_members_once_with_out_ones_last(
    case: tuple[list[Node], tuple[NodeId, ...]],
) -> None:
    nodes, out = case
    found = topology(nodes, out)
    for p in PARTITIONS:
        order = found.handoff(p)
        assert sorted([*found.data_owners(p), *order]) == sorted(n.id for n in nodes)
        assert [n in out for n in order] == sorted(n in out for n in order)


@settings(deadline=None)
@given(clusters_with_out())
def test_who_is_not_out_any_more_has_its_old_slots_and_nobody_else_keeps_them(
    case: tuple[list[Node], tuple[NodeId, ...]],
) -> None:
    nodes, out = case
    layout = compute_layout(nodes, CODE, BITS)
    away, back = topology(nodes, out, layout), topology(nodes, (), layout)
    for p in PARTITIONS:
        assert back.data_owners(p) == tuple(base(layout, p))
        for slot, owner in enumerate(base(layout, p)):
            if owner not in out:
                assert away.data_owners(p)[slot] == owner


def test_a_second_node_out_leaves_the_substitute_of_the_first_where_it_was() -> None:
    """As long as the map lists them in the order in which they went."""
    nodes = cluster(12)
    layout = compute_layout(nodes, CODE, BITS)
    first, second = nodes[7].id, nodes[2].id
    one, two = topology(nodes, (first,), layout), topology(nodes, (first, second), layout)
    for p in PARTITIONS:
        for slot, owner in enumerate(base(layout, p)):
            if owner != second and one.data_owners(p)[slot] != second:
                assert two.data_owners(p)[slot] == one.data_owners(p)[slot]


def test_stand_ins_come_from_unused_zones_first_and_spread_over_zones() -> None:
    nodes = cluster(24, 8)
    zone = {n.id: n.zone for n in nodes}
    found = topology(nodes)
    for p in PARTITIONS:
        used = Counter(zone[owner] for owner in found.data_owners(p))
        assert len(used) == 6
        for stand_in in found.handoff(p):
            left = [n for n in found.handoff(p) if found.handoff(p).index(n) >= found.handoff(p).index(stand_in)]
            assert used[zone[stand_in]] == min(used[zone[n]] for n in left)
            used[zone[stand_in]] += 1


def test_with_a_node_out_no_zone_holds_more_than_its_limit_while_other_zones_have_room() -> None:
    nodes = cluster(16, 4)
    zone = {n.id: n.zone for n in nodes}
    layout = compute_layout(nodes, CODE, BITS)
    for gone in nodes:
        found = topology(nodes, (gone.id,), layout)
        for p in PARTITIONS:
            assert max(Counter(zone[owner] for owner in found.data_owners(p)).values()) <= 2


def test_handoff_orders_differ_by_partition_and_favour_nobody() -> None:
    nodes = cluster(12)
    found = topology(nodes)
    assert len({found.handoff(p) for p in PARTITIONS}) == len(PARTITIONS)
    firsts = Counter(found.handoff(p)[0] for p in PARTITIONS)
    assert max(firsts.values()) <= 8


def test_members_outside_the_layout_stand_in_last() -> None:
    nodes = cluster(9)
    newcomer = node(500, zone="elsewhere")
    layout = compute_layout(nodes, CODE, BITS)
    found = topology([newcomer, *nodes], (nodes[0].id,), layout)
    for p in PARTITIONS:
        live = [n for n in found.handoff(p) if n != nodes[0].id]
        assert live[-1] == newcomer.id


def test_an_owner_that_is_no_member_any_more_keeps_its_place_in_an_old_view() -> None:
    nodes = cluster(8)
    layout = compute_layout(nodes, CODE, BITS)
    found = topology(nodes[1:], (), layout)
    assert any(nodes[0].id in found.data_owners(p) for p in PARTITIONS)
    assert all(nodes[0].id not in found.handoff(p) for p in PARTITIONS)


def test_the_order_of_members_in_the_map_plays_no_part() -> None:
    nodes = cluster(11, 3)
    out = (nodes[4].id,)
    a, b = topology(nodes, out), topology(nodes[::-1], out)
    assert [a.data_owners(p) for p in PARTITIONS] == [b.data_owners(p) for p in PARTITIONS]
    assert [a.handoff(p) for p in PARTITIONS] == [b.handoff(p) for p in PARTITIONS]


def test_handoffs_are_the_same_when_asked_again_after_the_cache_was_full() -> None:
    nodes = cluster(7)
    bits = HANDOFFS_KEPT_MAX.bit_length()
    view = View(1, Layout(tuple(n.id for n in nodes), ((0, 1, 2, 3, 4, 5),) * (1 << bits), ((0,),) * (1 << bits)))
    found = Topology(ClusterMap("c", CODE, bits, "isal", tuple(nodes), view))
    first, *_ = [found.handoff(p) for p in range(1 << bits)]
    assert found.handoff(0) == first == (nodes[6].id,)


def transition(synced: tuple[int, ...]) -> Topology:
    nodes = cluster(8)
    after = [*nodes[1:], node(100)]
    current = View(3, compute_layout(nodes, CODE, BITS))
    new = View(4, compute_layout(after, CODE, BITS, current.layout), (nodes[3].id,))
    bits = bytearray(len(PARTITIONS) // 8)
    for p in synced:
        bits[p >> 3] |= 1 << (p & 7)
    return Topology(ClusterMap("c", CODE, BITS, "isal", (*nodes, node(100)), current, new, bytes(bits)))


def test_with_one_view_the_tag_is_twice_its_epoch() -> None:
    found = topology(cluster(8))
    for p in PARTITIONS:
        assert found.meta_view(p) == (6, (found.meta_owners(p, found.map.current),))


def test_in_a_transition_partitions_are_joint_until_they_are_synced() -> None:
    found = transition(synced=(2, 9))
    assert found.map.next is not None
    joint = 0
    for p in PARTITIONS:
        old, new = found.meta_owners(p, found.map.current), found.meta_owners(p, found.map.next)
        view = found.meta_view(p)
        if p in (2, 9):
            assert view == (8, (new,))
        elif set(old) == set(new):
            assert view.tag == 7 and len(view.sets) == 1 and set(view.sets[0]) == set(old)
        else:
            assert view == (7, (old, new))
            joint += 1
    assert joint > 10


def test_the_same_owners_in_other_slots_are_one_set() -> None:
    nodes = cluster(6)
    ids = tuple(n.id for n in nodes)
    rows = ((0, 1, 2, 3, 4, 5),)
    current, new = View(1, Layout(ids, rows, ((0, 1, 2, 3, 4),))), View(2, Layout(ids, rows, ((1, 0, 2, 4, 3),)))
    found = Topology(ClusterMap("c", CODE, 0, "isal", tuple(nodes), current, new, bytes(1)))
    assert found.meta_view(0).tag == 3
    assert len(found.meta_view(0).sets) == 1


def test_data_follows_the_newest_view_and_older_ones_can_be_asked_for() -> None:
    found = transition(synced=())
    assert found.map.next is not None and found.epoch == 4
    new = Topology(ClusterMap("c", CODE, BITS, "isal", found.map.nodes, found.map.next))
    assert [found.data_owners(p) for p in PARTITIONS] == [new.data_owners(p) for p in PARTITIONS]
    assert [found.handoff(p) for p in PARTITIONS] == [new.handoff(p) for p in PARTITIONS]
    layout = found.map.current.layout
    assert [found.data_owners(p, found.map.current) for p in PARTITIONS] == [tuple(base(layout, p)) for p in PARTITIONS]


def test_members_are_found_by_id() -> None:
    nodes = cluster(7)
    found = topology(nodes)
    assert found.node_ids == tuple(n.id for n in nodes)
    assert found.node(nodes[3].id) is nodes[3]
    with pytest.raises(KeyError):
        found.node(NodeId("0" * 15 + "f"))


def test_the_segments_of_a_blob_and_the_shards_of_a_bucket_spread_over_partitions() -> None:
    found = topology(cluster(6))
    hits = Counter(found.partition_of_blob(bytes(16), segment) for segment in range(3200))
    assert set(hits) == set(PARTITIONS) and max(hits.values()) < 150
    assert 8 <= len(found.partitions_of(BUCKET, Space.OBJECT)) <= 16
    assert found.partitions_of(BUCKET, Space.OBJECT) != found.partitions_of(BucketId(bytes(15) + b"1"), Space.OBJECT)


def test_placement_keys_are_what_they_were_when_the_data_was_written() -> None:
    """A change of these numbers loses every object of every cluster."""
    found = topology(cluster(6))
    upload = bytes(range(100, 116))
    assert found.partition_of_blob(bytes(range(16)), 1) == 29
    keys = [
        RegisterKey(BUCKET, Space.OBJECT, b"photos/a.jpg"),
        RegisterKey(BUCKET, Space.UPLOAD, upload_name(b"photos/a.jpg", upload)),
        RegisterKey(BUCKET, Space.PART, part_name(upload, 7)),
        RegisterKey(SYSTEM_BUCKET, Space.BUCKET, b"photos"),
    ]
    assert [found.partition_of_register(key) for key in keys] == [14, 16, 16, 31]
    assert found.handoff(0) == () and topology(cluster(9)).handoff(0) == (
        "0000000000000004",
        "0000000000000003",
        "0000000000000005",
    )


def test_an_upload_and_all_its_parts_share_a_partition_whatever_the_key() -> None:
    found = topology(cluster(6))
    upload = bytes(range(50, 66))
    names = [(Space.UPLOAD, upload_name(key, upload)) for key in (b"a", b"b\x00c", b"x" * 1024)]
    names += [(Space.PART, part_name(upload, number)) for number in (1, 2, 10_000)]
    assert len({found.partition_of_register(RegisterKey(BUCKET, space, name)) for space, name in names}) == 1


@given(st.sampled_from(list(Space)), st.binary(min_size=18, max_size=60), st.sampled_from([BUCKET, SYSTEM_BUCKET]))
def test_a_scan_of_a_bucket_looks_wherever_one_of_its_registers_may_be(
    space: Space, name: bytes, bucket: BucketId
) -> None:
    found = TOPOLOGY
    partitions = found.partitions_of(bucket, space)
    assert found.partition_of_register(RegisterKey(bucket, space, name)) in partitions
    assert list(partitions) == sorted(set(partitions))
    assert bucket != SYSTEM_BUCKET or len(partitions) == 1


TOPOLOGY = topology(cluster(6))


def test_a_map_of_one_partition_places_everything_there() -> None:
    nodes = cluster(6)
    found = Topology(ClusterMap("c", CODE, 0, "isal", tuple(nodes), View(1, compute_layout(nodes, CODE, 0))))
    assert found.partition_of_blob(b"x" * 16, 9) == 0
    assert found.partitions_of(BUCKET, Space.PART) == (0,)


def test_member_outside_the_layout_owns_nothing_even_when_nobody_else_can_stand_in() -> None:
    nodes = cluster(6)
    layout = compute_layout(nodes, CODE, BITS)
    before = topology(nodes, (nodes[0].id,), layout)
    after = topology([*nodes, node(99, 1000, "z0")], (nodes[0].id,), layout)
    for p in PARTITIONS:
        assert after.data_owners(p) == before.data_owners(p)
        assert after.meta_owners(p, after.map.current) == before.meta_owners(p, before.map.current)
