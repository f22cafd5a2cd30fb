"""What staged changes would do: what moves, against the least that must, and how even it ends. Pure.

Counted in slots (a shard of one partition), which is exact; bytes follow from what each node holds now, spread evenly
over its slots. Nodes that do not answer are taken to hold the mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import floor

import msgspec

from objstore.model.cluster import ClusterMap, Layout, Node, View
from objstore.model.ids import NodeId
from objstore.placement.layout import quality
from objstore.placement.shares import fair_shares
from objstore.placement.target import Target
from objstore.placement.topology import Topology


class NodeMove(msgspec.Struct, frozen=True):
    name: str
    zone: str
    capacity_bytes: int
    share_before: float  # of all slots
    share_after: float
    used_bytes: int | None  # None: it does not answer
    bytes_in: int
    bytes_out: int

    @property
    def fill_after(self) -> float:
        return ((self.used_bytes or 0) + self.bytes_in - self.bytes_out) / max(1, self.capacity_bytes)


class Preview(msgspec.Struct, frozen=True):
    slots: int
    slots_moved: int
    slots_min: int  # no layout of these shares is reached with fewer
    bytes_moved: int
    bytes_min: int
    ratio: float  # moved / least; 1.0 when nothing has to move
    metadata_moved: float  # of all metadata replicas, a fraction
    fullest_before: float  # 1.0 = exactly its share by capacity
    fullest_after: float
    emptiest_after: float
    zone_worst_before: int  # most shards of one object in one zone
    zone_worst_after: int
    nodes: list[NodeMove]  # that have a share before or after, by name


def planned_map(cluster_map: ClusterMap, to: Target) -> ClusterMap:
    """The map that would begin the change."""
    known = {node.id for node in to.nodes}
    out = tuple(node for node in cluster_map.current.out if node in known)
    leaving = tuple(node for node in cluster_map.nodes if node.id not in known)
    view = View(cluster_map.current.epoch + 1, to.layout, out)
    return msgspec.structs.replace(cluster_map, nodes=(*to.nodes, *leaving), next=view, synced=b"")


def preview(cluster_map: ClusterMap, to: Target, used: Mapping[NodeId, int]) -> Preview:
    """`used`: bytes on the nodes that answer."""
    planned = planned_map(cluster_map, to)
    assert planned.next is not None
    topology = Topology(planned)
    held: Counter[NodeId] = Counter()
    after: Counter[NodeId] = Counter()
    flows: Counter[tuple[NodeId, NodeId]] = Counter()
    for partition in range(planned.partitions):
        old = topology.data_owners(partition, planned.current)
        new = topology.data_owners(partition, planned.next)
        held.update(old)
        after.update(new)
        flows.update((a, b) for a, b in zip(old, new, strict=True) if a != b)
    slots = planned.partitions * planned.code.shards
    known = [node for node in held if node in used]
    mean = sum(used[node] for node in known) / max(1, sum(held[node] for node in known))
    weight = {node: used[node] / held[node] if node in used else mean for node in held}
    gained: Counter[NodeId] = Counter()
    lost: Counter[NodeId] = Counter()
    for (source, to_node), count in flows.items():
        gained[to_node] += round(count * weight[source])
        lost[source] += round(count * weight[source])
    members = list(planned.nodes)
    least = moves_min(cluster_map.current.layout, to.layout, to.nodes)
    moves = sum(flows.values())
    before, behind = quality(cluster_map.current.layout, cluster_map.nodes), quality(to.layout, to.nodes)
    return Preview(
        slots=slots,
        slots_moved=moves,
        slots_min=least,
        bytes_moved=sum(gained.values()),
        bytes_min=round(least * mean),
        ratio=round(moves / least, 4) if least else 1.0,
        metadata_moved=_metadata_moved(topology),
        fullest_before=round(before.data.fullest, 4),
        fullest_after=round(behind.data.fullest, 4),
        emptiest_after=round(behind.data.emptiest, 4),
        zone_worst_before=before.data.zone_worst,
        zone_worst_after=behind.data.zone_worst,
        nodes=[
            NodeMove(
                node.name,
                node.zone,
                node.capacity_bytes,
                held[node.id] / slots,
                after[node.id] / slots,
                used.get(node.id),
                gained[node.id],
                lost[node.id],
            )
            for node in sorted(members, key=lambda node: (len(node.name), node.name))
            if held[node.id] or after[node.id]
        ],
    )


def _metadata_moved(topology: Topology) -> float:
    planned = topology.map
    assert planned.next is not None
    coming = 0
    for partition in range(planned.partitions):
        old = topology.meta_owners(partition, planned.current)
        coming += sum(node not in old for node in topology.meta_owners(partition, planned.next))
    return coming / (planned.partitions * planned.code.replicas)


def moves_min(old: Layout, new: Layout, nodes: Sequence[Node]) -> int:
    """The least data slots that must move: what a node lacks must come to it, and what its node loses must go.

    `nodes`: at least those of the new layout."""
    by_id = {node.id: node for node in nodes}
    members = [by_id[node] for node in new.nodes]
    names = sorted({node.zone for node in members})
    rows, width = len(new.data), len(new.data[0])
    zones = [names.index(node.zone) for node in members]
    fair = fair_shares([node.capacity_bytes for node in members], zones, rows, width).fair
    counted = Counter(node for row in old.data for node in row)
    held = {old.nodes[node]: count for node, count in counted.items()}
    lacking = sum(max(0, floor(share) - held.get(node.id, 0)) for node, share in zip(members, fair, strict=True))
    placed = set(new.nodes)
    return max(lacking, sum(count for node, count in held.items() if node not in placed))
