"""The layout's promises: valid rows, even load, few moves, stable slots, the same answer everywhere."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, View, decode_map, encode_map
from objstore.model.errors import InvalidRequest
from objstore.placement.layout import compute_layout, moved, quality
from tests.unit.placement import naive
from tests.unit.placement.naive import node

CODE = ErasureCode(4, 2)
BITS = 10


def cluster(count: int, zones: int = 1, capacities: tuple[int, ...] = (1000,)) -> list[Node]:
    return [node(i, capacities[i % len(capacities)], f"z{i % zones}") for i in range(count)]


def tables(layout: Layout, code: ErasureCode) -> list[tuple[naive.Rows, int]]:
    return [(naive.named(layout, layout.data), code.shards), (naive.named(layout, layout.meta), code.replicas)]


def check_valid(layout: Layout, nodes: list[Node], code: ErasureCode, bits: int) -> None:
    members: set[str] = {n.id for n in nodes}
    zone: dict[str, str] = {n.id: n.zone for n in nodes}
    assert set(layout.nodes) == members
    for rows, width in tables(layout, code):
        assert len(rows) == 1 << bits
        aim = naive.zone_aim(nodes, width)
        for row in rows:
            assert len(row) == width
            assert len(set(row)) == width and set(row) <= members
            assert aim is None or max(Counter(zone[owner] for owner in row).values()) <= aim


def check_even(layout: Layout, nodes: list[Node], code: ErasureCode) -> None:
    """Every node holds its fair share, rounded."""
    for rows, width in tables(layout, code):
        held = naive.counts(rows, nodes)
        for owner, share in naive.fair(nodes, len(rows), width).items():
            assert abs(held[owner] - share) < 1 + 1e-6, (owner, share)


def check_moves(old: Layout, new: Layout, nodes: list[Node], code: ErasureCode) -> None:
    for (before, width), (after, _) in zip(tables(old, code), tables(new, code), strict=True):
        assert naive.changed(before, after) <= 1.05 * naive.moves_min(before, nodes, width) + len(nodes)


CLUSTERS = [
    cluster(6),
    cluster(7),
    cluster(8),
    cluster(10),
    cluster(30),
    cluster(8, zones=4),
    cluster(9, zones=3),
    cluster(10, zones=2),
    cluster(30, zones=5),
    cluster(12, zones=12),
    cluster(12, capacities=(1000, 2000, 3000)),
    cluster(20, zones=4, capacities=(1000, 2000, 3000)),
    cluster(9, zones=3, capacities=(8000, 1000, 1000)),
]


def shown(nodes: list[Node]) -> str:
    zones, capacities = len({n.zone for n in nodes}), {n.capacity_bytes for n in nodes}
    return f"{len(nodes)} nodes, {zones} zones, {len(capacities)} sizes"


@pytest.mark.parametrize("nodes", CLUSTERS, ids=shown)
def test_a_fresh_layout_is_valid_and_gives_every_node_its_share(nodes: list[Node]) -> None:
    layout = compute_layout(nodes, CODE, BITS)
    check_valid(layout, nodes, CODE, BITS)
    check_even(layout, nodes, CODE)


@pytest.mark.parametrize("count", [6, 7, 8, 10, 12, 30, 100])
@pytest.mark.parametrize("capacities", [(1000,), (1000, 1100, 1250)])
def test_the_fullest_node_is_within_three_percent_of_the_weighted_mean(count: int, capacities: tuple[int, ...]) -> None:
    nodes = cluster(count, capacities=capacities if count > 7 else (1000,))
    grown = [*nodes, node(999, capacities[0])]
    layout = compute_layout(nodes, CODE, BITS)
    for members, result in ((nodes, layout), (grown, compute_layout(grown, CODE, BITS, layout))):
        measured = quality(result, members)
        assert max(measured.data.fullest, measured.meta.fullest) <= 1.03
        assert min(measured.data.emptiest, measured.meta.emptiest) >= 0.97


@pytest.mark.parametrize("nodes", CLUSTERS, ids=shown)
def test_the_same_nodes_keep_their_layout_and_their_order_does_not_matter(nodes: list[Node]) -> None:
    layout = compute_layout(nodes, CODE, BITS)
    shuffled = random.Random(1).sample(nodes, len(nodes))
    assert compute_layout(shuffled, CODE, BITS) == layout
    assert compute_layout(shuffled, CODE, BITS, layout) == layout


@pytest.mark.parametrize("nodes", CLUSTERS, ids=shown)
@pytest.mark.parametrize("change", ["add", "remove", "replace", "resize"])
def test_one_change_moves_hardly_more_than_it_must(nodes: list[Node], change: str) -> None:
    new = node(999, nodes[0].capacity_bytes, nodes[0].zone)
    after = {
        "add": [*nodes, new],
        "remove": nodes[1:],
        "replace": [*nodes[1:], new],
        "resize": [*nodes[1:], node(0, nodes[0].capacity_bytes * 2, nodes[0].zone)],
    }[change]
    old = compute_layout(nodes, CODE, BITS)
    if len(after) < CODE.nodes_min:
        with pytest.raises(InvalidRequest):
            compute_layout(after, CODE, BITS, old)
        return
    layout = compute_layout(after, CODE, BITS, old)
    check_valid(layout, after, CODE, BITS)
    check_even(layout, after, CODE)
    zoned = len({n.zone for n in nodes}) > 1
    if not (zoned and change == "resize"):  # a zone grown to its limit joins rows by chains that the bound ignores
        check_moves(old, layout, after, CODE)


def test_a_replaced_node_is_replaced_in_its_slots_and_nothing_else_moves() -> None:
    nodes = cluster(10)
    new = node(999)
    old = compute_layout(nodes, CODE, BITS)
    layout = compute_layout([*nodes[1:], new], CODE, BITS, old)
    gone = nodes[0].id
    for (before, _), (after, _) in zip(tables(old, CODE), tables(layout, CODE), strict=True):
        assert after == [[new.id if owner == gone else owner for owner in row] for row in before]


def test_growing_one_node_at_a_time_stays_valid_even_and_cheap() -> None:
    nodes = cluster(6)
    layout = compute_layout(nodes, CODE, BITS)
    for number in range(6, 24):
        nodes = [*nodes, node(number, 1000 + 100 * (number % 5))]
        old, layout = layout, compute_layout(nodes, CODE, BITS, layout)
        check_valid(layout, nodes, CODE, BITS)
        check_even(layout, nodes, CODE)
        check_moves(old, layout, nodes, CODE)
    for _ in range(18):
        nodes = nodes[1:]
        old, layout = layout, compute_layout(nodes, CODE, BITS, layout)
        check_valid(layout, nodes, CODE, BITS)
        check_even(layout, nodes, CODE)
        check_moves(old, layout, nodes, CODE)


@pytest.mark.parametrize("nodes", [cluster(8), cluster(10), cluster(12, capacities=(1000, 1500))], ids=shown)
def test_neither_balance_nor_moves_are_worse_than_the_greedy_reference(nodes: list[Node]) -> None:
    def spread(rows: naive.Rows, members: list[Node]) -> float:
        held = naive.counts(rows, members)
        return max(held[n.id] / n.capacity_bytes for n in members)

    after = [*nodes, node(999)]
    old = compute_layout(nodes, CODE, 8)
    new = compute_layout(after, CODE, 8, old)
    for (before, width), (rows, _) in zip(tables(old, CODE), tables(new, CODE), strict=True):
        plain = naive.greedy(after, 256, width, before)
        plain_moves = sum(len(set(y) - set(x)) for x, y in zip(before, plain, strict=True))
        assert spread(rows, after) <= spread(plain, after) + 1 / 1000
        assert naive.changed(before, rows) <= plain_moves + len(after)


def test_a_newcomer_takes_from_all_and_every_pair_of_nodes_shares_partitions() -> None:
    nodes = cluster(20)
    old = compute_layout(nodes, CODE, BITS)
    lost = moved(old, compute_layout([*nodes, node(999)], CODE, BITS, old)).data_lost
    assert len(lost) == 20 and max(lost.values()) <= min(lost.values()) + 2
    pairs = Counter(pair for row in old.data for pair in itertools.combinations(sorted(row), 2))
    mean = 1024 * 15 / (20 * 19 / 2)
    assert len(pairs) == 20 * 19 / 2
    assert max(pairs.values()) < 1.6 * mean and min(pairs.values()) > 0.5 * mean


def test_a_newcomer_takes_partitions_from_all_over_the_table() -> None:
    """Else it would share its partitions with the next newcomer, and both would be rebuilt from each other."""
    nodes = cluster(20)
    old = compute_layout(nodes, CODE, BITS)
    new = compute_layout([*nodes, node(999)], CODE, BITS, old)
    taken = [p for p, row in enumerate(naive.named(new, new.data)) if node(999).id in row]
    quarters = Counter(p // 256 for p in taken)
    assert len(quarters) == 4 and min(quarters.values()) > 0.6 * len(taken) / 4


def test_every_node_has_every_slot_equally_often_in_a_fresh_layout() -> None:
    layout = compute_layout(cluster(10), CODE, BITS)
    slots = Counter((slot, owner) for row in layout.data for slot, owner in enumerate(row))
    assert len(slots) == 60
    assert max(slots.values()) <= 1.1 * min(slots.values())


def test_data_and_metadata_are_placed_independently() -> None:
    layout = compute_layout(cluster(20), CODE, BITS)
    shared = sum(len(set(d) & set(m)) for d, m in zip(layout.data, layout.meta, strict=True)) / 1024
    assert 1.2 < shared < 1.8  # 6 * 5 / 20 by chance


def test_a_zone_too_small_for_the_aim_is_not_filled_beyond_its_proportion() -> None:
    """One node in a second zone cannot make a loss of the first survivable; it must not hold every row either."""
    nodes = [*cluster(8), node(99, zone="other")]
    layout = compute_layout(nodes, CODE, BITS)
    assert quality(layout, nodes).data.fullest <= 1.01


def test_a_third_zone_lowers_the_limit_of_the_others() -> None:
    nodes = cluster(8, zones=2)
    old = compute_layout(nodes, CODE, BITS)
    assert quality(old, nodes).data.zone_worst == 3
    after = [*nodes, *(node(100 + i, zone="z2") for i in range(3))]
    layout = compute_layout(after, CODE, BITS, old)
    check_valid(layout, after, CODE, BITS)
    assert quality(layout, after).data.zone_worst == quality(layout, after).data.zone_limit == 2


NODES = st.lists(
    st.builds(
        lambda number, capacity, zone: node(number, capacity, f"z{zone}"),
        st.integers(0, 40),
        st.sampled_from([1, 500, 1000, 1001, 2000, 4000, 10**15]),
        st.integers(0, 4),
    ),
    min_size=7,
    max_size=16,
    unique_by=lambda n: n.id,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([ErasureCode(4, 2), ErasureCode(2, 1), ErasureCode(2, 3)]), st.integers(0, 6), NODES)
def test_any_cluster_gets_a_valid_and_even_layout(code: ErasureCode, bits: int, nodes: list[Node]) -> None:
    layout = compute_layout(nodes, code, bits)
    check_valid(layout, nodes, code, bits)
    check_even(layout, nodes, code)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([ErasureCode(4, 2), ErasureCode(2, 1), ErasureCode(2, 3)]), st.integers(0, 6), NODES, NODES)
def test_any_change_of_a_cluster_gives_a_valid_and_even_layout(
    code: ErasureCode, bits: int, before: list[Node], after: list[Node]
) -> None:
    old = compute_layout(before, code, bits)
    layout = compute_layout(after, code, bits, old)
    check_valid(layout, after, code, bits)
    check_even(layout, after, code)
    assert compute_layout(after, code, bits, layout) == layout


def test_a_thousand_nodes_and_many_partitions_are_placed_evenly() -> None:
    """The same with 2^16 partitions takes a few seconds; 2^13 say as much about the result."""
    nodes = cluster(1000, zones=20)
    layout = compute_layout(nodes, CODE, 13)
    check_even(layout, nodes, CODE)
    after = nodes[1:]
    check_even(compute_layout(after, CODE, 13, layout), after, CODE)


def test_moves_and_quality_are_what_a_hand_count_says() -> None:
    a, b, c, d = (node(i, 1000, zone) for i, zone in enumerate("xxyy"))
    old = Layout((a.id, b.id, c.id), ((0, 1), (1, 2)), ((0,), (1,)))
    new = Layout((d.id, b.id, c.id), ((0, 1), (2, 1)), ((1,), (1,)))
    moves = moved(old, new)
    assert (moves.data, moves.data_slots, moves.meta, moves.meta_slots) == (3, 4, 1, 2)
    assert moves.data_gained == {d.id: 1, b.id: 1, c.id: 1}
    assert moves.data_lost == {a.id: 1, b.id: 1, c.id: 1}
    measured = quality(old, [a, b, c, d])
    assert (measured.data.fullest, measured.data.emptiest) == (1.5, 0.75)
    assert (measured.data.zone_limit, measured.data.zone_worst) == (1, 2)
    assert measured.meta.emptiest == 0.0


def test_too_few_nodes_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InvalidRequest, match=r"5 nodes cannot hold the code 4\+2: it needs 6 .* add 1 or more"):
        compute_layout(cluster(5), CODE, BITS)
    with pytest.raises(InvalidRequest, match="it needs 7"):
        compute_layout(cluster(6), ErasureCode(2, 3), BITS)


def test_nodes_that_cannot_be_told_apart_or_hold_nothing_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="two nodes have the id"):
        compute_layout([*cluster(6), node(0)], CODE, BITS)
    with pytest.raises(InvalidRequest, match="two nodes have the name 'n0'"):
        compute_layout([*cluster(6), Node(node(77).id, "n0", "z", 1)], CODE, BITS)
    with pytest.raises(InvalidRequest, match="n77 has a capacity of 0 bytes"):
        compute_layout([*cluster(6), node(77, 0)], CODE, BITS)


def test_a_layout_survives_its_encoding() -> None:
    nodes = cluster(8)
    found = ClusterMap("c" * 32, CODE, BITS, "isal", tuple(nodes), View(1, compute_layout(nodes, CODE, BITS)))
    assert decode_map(encode_map(found)) == found
