"""Owners under a cluster map: the layout's table with out nodes replaced by their handoffs.

A view keeps two things apart. Its layout says who should own a partition (the base owners). Its `out` nodes are
gone for now; in each row an out owner is substituted by the first node in handoff order that is not out and owns
nothing there. The handoff order of a partition depends on the base owners alone, not on who is out. So a fragment
handed off while its owner was merely down is at home once the owner is declared out, and an owner that comes back
finds its old slots.

A Topology is immutable and cheap to build: owners and orders are computed when first asked for, per partition, and
kept. Nothing here knows which nodes are alive: who wants only live ones filters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xxhash

from objstore.model.cluster import ClusterMap, Node, View
from objstore.model.ids import SYSTEM_BUCKET, BucketId, NodeId
from objstore.model.limits import BUCKET_SHARDS, SYSTEM_SHARDS
from objstore.model.records import RegisterKey, Space

Owners = tuple[NodeId, ...]

HANDOFFS_KEPT_MAX = 4096  # partitions; 32 MB with 1,000 nodes


class MetaView(NamedTuple):
    """Under what tag an operation on a metadata partition runs, and of which sets it needs a majority each."""

    tag: int
    sets: tuple[Owners, ...]


class Topology:
    """All questions of place, answered from one ClusterMap. Data uses the newest view."""

    def __init__(self, cluster_map: ClusterMap) -> None:
        self.map = cluster_map
        self.code = cluster_map.code
        self.epoch = cluster_map.newest.epoch
        self.node_ids: tuple[NodeId, ...] = tuple(node.id for node in cluster_map.nodes)
        self._nodes = {node.id: node for node in cluster_map.nodes}
        self._shift = 64 - cluster_map.partition_bits
        views = [view for view in (cluster_map.current, cluster_map.next) if view is not None]
        self._data = {view.epoch: _Placement(b"data", view, view.layout.data, self._nodes) for view in views}
        self._meta = {view.epoch: _Placement(b"meta", view, view.layout.meta, self._nodes) for view in views}
        self._meta_views: dict[int, MetaView] = {}

    def node(self, node_id: NodeId) -> Node:
        """A member; KeyError for others."""
        return self._nodes[node_id]

    def partition_of_blob(self, blob_id: bytes, segment: int) -> int:
        """Segments of one blob spread over all partitions."""
        return xxhash.xxh3_64_intdigest(blob_id + segment.to_bytes(4, "big")) >> self._shift

    def partition_of_register(self, key: RegisterKey) -> int:
        shard = xxhash.xxh3_64_intdigest(_shard_by(key)) % _shards(key.bucket)
        return self._partition_of_shard(key.bucket, shard)

    def partitions_of(self, bucket: BucketId, space: Space) -> tuple[int, ...]:
        """Sorted and distinct: where a scan of one space of the bucket must look. All spaces share the shards."""
        return tuple(sorted({self._partition_of_shard(bucket, shard) for shard in range(_shards(bucket))}))

    def _partition_of_shard(self, bucket: BucketId, shard: int) -> int:
        return xxhash.xxh3_64_intdigest(bucket + shard.to_bytes(2, "big")) >> self._shift

    def data_owners(self, partition: int, view: View | None = None) -> Owners:
        """By slot = shard index. A slot of an out node for which there is no substitute keeps it.

        `view`: one of the map's; the newest by default."""
        return self._data[view.epoch if view else self.epoch].owners(partition)

    def handoff(self, partition: int) -> Owners:
        """Every member that owns no data there, in the order in which they stand in for an owner."""
        return self._data[self.epoch].handoff(partition)

    def meta_owners(self, partition: int, view: View) -> Owners:
        """By slot = replica index; substituted as data owners are."""
        return self._meta[view.epoch].owners(partition)

    def meta_view(self, partition: int) -> MetaView:
        """Tags only rise: 2e under epoch e alone, 2e-1 while partition by partition moves to e."""
        known = self._meta_views.get(partition)
        if known is None:
            known = self._meta_views[partition] = self._meta_view(partition)
        return known

    def _meta_view(self, partition: int) -> MetaView:
        current, new = self.map.current, self.map.next
        old_set = self.meta_owners(partition, current)
        if new is None:
            return MetaView(2 * current.epoch, (old_set,))
        new_set = self.meta_owners(partition, new)
        if self.map.is_synced(partition):
            return MetaView(2 * new.epoch, (new_set,))
        sets = (new_set,) if sorted(old_set) == sorted(new_set) else (old_set, new_set)
        return MetaView(2 * new.epoch - 1, sets)


class _Placement:
    """One table (data or meta) of one view: base owners, handoff order, owners."""

    def __init__(self, kind: bytes, view: View, rows: Sequence[Sequence[int]], members: Mapping[NodeId, Node]) -> None:
        self._layout_nodes = view.layout.nodes
        self._rows = rows
        self._out = view.out
        self._members = members
        self._seed = xxhash.xxh3_64_intdigest(kind)
        self._placed = frozenset(view.layout.nodes)
        self._owners: dict[int, Owners] = {}
        self._handoffs: dict[int, Owners] = {}

    def owners(self, partition: int) -> Owners:
        known = self._owners.get(partition)
        if known is None:
            known = self._owners[partition] = self._substituted(partition)
        return known

    def handoff(self, partition: int) -> Owners:
        known = self._handoffs.get(partition)
        if known is None:
            if len(self._handoffs) >= HANDOFFS_KEPT_MAX:
                self._handoffs.clear()
            known = self._handoffs[partition] = self._ordered(partition)
        return known

    def _base(self, partition: int) -> Owners:
        return tuple(self._layout_nodes[node] for node in self._rows[partition])

    def _substituted(self, partition: int) -> Owners:
        """Out owners are dealt with in the order of `View.out`; each goes to the next node that is not out.

        Only nodes of the view's layout stand in: owners follow from the view alone. A member that joins the map
        must not become an owner without a new epoch, or two majorities of one epoch would not meet.
        """
        owners = list(self._base(partition))
        lost = [node for node in self._out if node in owners]
        if lost:
            free = (n for n in self._stand_ins(partition) if n in self._placed and n not in self._out)
            for node, substitute in zip(lost, free, strict=False):
                owners[owners.index(node)] = substitute
        return tuple(owners)

    def _ordered(self, partition: int) -> Owners:
        owners = self.owners(partition)
        replaced = (node for node in self._base(partition) if node in self._members)
        others = [node for node in (*self._stand_ins(partition), *replaced) if node not in owners]
        return tuple(sorted(others, key=lambda node: node in self._out))  # stable: only moves out nodes to the end

    def _stand_ins(self, partition: int) -> list[NodeId]:
        """All members but the base owners: in pseudo-random order, nodes of the least used zones first.

        A zone is used by base owners and by stand-ins before, so that several substitutes spread over the zones
        too. Members outside the layout (just joined, or on their way out) come last. Who is out plays no part.
        """
        members, base = self._members, self._base(partition)
        seed = self._seed ^ partition
        drawn = sorted((xxhash.xxh3_64_intdigest(node.encode(), seed), node) for node in members if node not in base)
        used = Counter(members[node].zone for node in base if node in members)
        ranked = []
        for position, (_, node) in enumerate(drawn):
            zone, placed = members[node].zone, node in self._placed
            ranked.append((not placed, used[zone], position, node))
            used[zone] += placed
        return [node for *_, node in sorted(ranked)]


def _shards(bucket: BucketId) -> int:
    return SYSTEM_SHARDS if bucket == SYSTEM_BUCKET else BUCKET_SHARDS


def _shard_by(key: RegisterKey) -> bytes:
    """Registers that are scanned or changed together share a shard: the parts of an upload, and the upload."""
    match key.space:
        case Space.UPLOAD:
            return key.name[-16:]
        case Space.PART:
            return key.name[:16]
        case _:
            return key.name
