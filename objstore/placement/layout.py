"""The layout: which nodes own which partition, computed from the nodes, their capacities and the previous layout.

Two independent tables, one for data (k+m slots a row, slot = shard index) and one for metadata (2m+1 slots). Slots
are stable: a change of nodes replaces nodes in their slots and leaves every other slot alone, so the data moved is
close to the least that restores the balance. The function is pure and deterministic; the order of its input does
not matter. Nothing here knows which nodes are alive: that is a view (`objstore.placement.topology`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from objstore.model.cluster import ErasureCode, Layout, Node
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.limits import PARTITION_BITS_MAX
from objstore.placement.shares import fair_shares, zone_limit
from objstore.placement.table import adapted, fresh

Table = tuple[tuple[int, ...], ...]


def compute_layout(
    nodes: Sequence[Node], code: ErasureCode, partition_bits: int, previous: Layout | None = None
) -> Layout:
    """The layout for these nodes, with the fewest moves from the previous one. InvalidRequest if they cannot hold it.

    The same nodes and capacities as before give back the previous layout unchanged.
    """
    assert 0 <= partition_bits <= PARTITION_BITS_MAX
    _check(nodes, code)
    ordered = sorted(nodes, key=lambda node: node.id)
    rows = 1 << partition_bits
    if previous is None:
        data = _table("data", ordered, rows, code.shards, None)
        meta = _table("meta", ordered, rows, code.replicas, None)
    else:
        index: dict[NodeId, int] = {node.id: i for i, node in enumerate(ordered)}
        translated = [index.get(node) for node in previous.nodes]
        data = _table("data", ordered, rows, code.shards, [[translated[n] for n in row] for row in previous.data])
        meta = _table("meta", ordered, rows, code.replicas, [[translated[n] for n in row] for row in previous.meta])
    return Layout(tuple(node.id for node in ordered), data, meta)


def _check(nodes: Sequence[Node], code: ErasureCode) -> None:
    if len(nodes) < code.nodes_min:
        raise InvalidRequest(
            f"{len(nodes)} nodes cannot hold the code {code}: it needs {code.nodes_min} "
            f"({code.shards} for data, {code.replicas} for metadata); add {code.nodes_min - len(nodes)} or more"
        )
    for what, values in (("id", [node.id for node in nodes]), ("name", [node.name for node in nodes])):
        twice = [value for value, times in Counter(values).items() if times > 1]
        if twice:
            raise InvalidRequest(f"two nodes have the {what} {twice[0]!r}; each needs its own")
    for node in nodes:
        if node.capacity_bytes <= 0:
            raise InvalidRequest(
                f"node {node.name} has a capacity of {node.capacity_bytes} bytes; it needs more than 0"
            )


def _table(
    kind: str, nodes: Sequence[Node], rows: int, width: int, previous: Sequence[Sequence[int | None]] | None
) -> Table:
    names = sorted({node.zone for node in nodes})
    zones = [names.index(node.zone) for node in nodes]
    shares = fair_shares([node.capacity_bytes for node in nodes], zones, rows, width)
    seed = xxhash.xxh3_64_intdigest("\0".join([kind, *(node.id for node in nodes)]).encode())
    if previous is None:
        table = fresh(shares, rows, seed)
    else:
        assert len(previous) == rows and all(len(row) == width for row in previous), "bits and code never change"
        table = adapted(previous, shares, seed)
    return tuple(map(tuple, table))


@dataclass(frozen=True, slots=True)
class TableQuality:
    """1.0 = exactly the capacity's proportion. The cluster is full when its fullest node is."""

    fullest: float
    emptiest: float
    zone_limit: int  # most nodes of one zone that a row should have
    zone_worst: int  # ... and that one has


@dataclass(frozen=True, slots=True)
class Quality:
    data: TableQuality
    meta: TableQuality


def quality(layout: Layout, nodes: Sequence[Node]) -> Quality:
    """How even the layout is for these nodes; `nodes` are at least those of the layout."""
    known = {node.id: node for node in nodes}
    members = [known[node] for node in layout.nodes]
    return Quality(_table_quality(layout.data, members), _table_quality(layout.meta, members))


def _table_quality(table: Table, nodes: Sequence[Node]) -> TableQuality:
    copies = Counter(node for row in table for node in row)
    slots = len(table) * len(table[0])
    capacity = sum(node.capacity_bytes for node in nodes)
    loads = [copies[i] * capacity / (slots * node.capacity_bytes) for i, node in enumerate(nodes)]
    zones = [node.zone for node in nodes]
    worst = max(max(Counter(zones[node] for node in row).values()) for row in table)
    return TableQuality(max(loads), min(loads), zone_limit(len(table[0]), len(set(zones))), worst)


@dataclass(frozen=True, slots=True)
class Moves:
    """What a change of layout moves. Counted in slots; a slot of data is a shard of one partition."""

    data: int
    data_slots: int
    meta: int
    meta_slots: int
    data_gained: Mapping[NodeId, int]  # only nodes that gain any
    data_lost: Mapping[NodeId, int]


def moved(old: Layout, new: Layout) -> Moves:
    """The slots whose owner differs."""
    data = _changes(old.nodes, old.data, new.nodes, new.data)
    meta = _changes(old.nodes, old.meta, new.nodes, new.meta)
    return Moves(
        data=len(data),
        data_slots=len(new.data) * len(new.data[0]),
        meta=len(meta),
        meta_slots=len(new.meta) * len(new.meta[0]),
        data_gained=_tally(coming for _, coming in data),
        data_lost=_tally(leaving for leaving, _ in data),
    )


def _changes(
    old_nodes: Sequence[NodeId], old: Table, new_nodes: Sequence[NodeId], new: Table
) -> list[tuple[NodeId, NodeId]]:
    return [
        (old_nodes[a], new_nodes[b])
        for old_row, new_row in zip(old, new, strict=True)
        for a, b in zip(old_row, new_row, strict=True)
        if old_nodes[a] != new_nodes[b]
    ]


def _tally(nodes: Iterable[NodeId]) -> dict[NodeId, int]:
    """Sorted by node."""
    return dict(sorted(Counter(nodes).items()))
