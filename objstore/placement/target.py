"""Where staged changes lead: the members and the layout after them. Pure.

A member without a share (added lately and not placed, or drained) stays in the map, so that what it holds is still
seen, read and moved away. The layout is computed from the present one, so that as little moves as must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from objstore.model.cluster import ClusterMap, Layout, Node, NodeLease
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Change, Drain, Remove, Replace, Resize
from objstore.placement.layout import compute_layout


@dataclass(frozen=True, slots=True)
class Target:
    nodes: tuple[Node, ...]  # every member, with a share or without
    layout: Layout


def is_placed(cluster_map: ClusterMap, node: NodeId) -> bool:
    """Whether it has a share: not a spare, and not drained."""
    return node in cluster_map.newest.layout.nodes


def target(cluster_map: ClusterMap, changes: Sequence[Change], leases: Mapping[NodeId, NodeLease]) -> Target:
    """InvalidRequest when a change does not fit the cluster as it is, or the nodes left cannot hold the code."""
    making = _Making(cluster_map, leases)
    for change in changes:
        making.take(change)
    return making.result()


class _Making:
    def __init__(self, cluster_map: ClusterMap, leases: Mapping[NodeId, NodeLease]) -> None:
        self._map = cluster_map
        self._leases = leases
        self._members = {node.id: node for node in cluster_map.nodes}
        self._layout = cluster_map.newest.layout  # also while it is not in force yet: it cannot be taken back
        self._placed = dict.fromkeys(self._layout.nodes)
        self._heirs: dict[NodeId, NodeId] = {}

    def take(self, change: Change) -> None:
        match change:
            case Add():
                self._add(change)
            case Drain():
                self._leave(change.id, change.name)
            case Replace():
                self._replace(change)
            case Remove():
                self._member(change.id, change.name)
                self._placed.pop(change.id, None)
                del self._members[change.id]
            case Resize():
                node = self._member(change.id, change.name)
                self._members[change.id] = msgspec.structs.replace(node, capacity_bytes=change.capacity_bytes)

    def result(self) -> Target:
        before = {node.id: node for node in self._map.nodes}
        nodes = tuple(self._members.values())
        current = self._layout
        placed = [self._members[node] for node in self._placed]
        if not self._heirs and set(self._placed) == set(current.nodes) and all(before[n.id] == n for n in placed):
            return Target(nodes, current)
        heirs = tuple(self._heirs.get(node, node) for node in current.nodes)
        previous = msgspec.structs.replace(current, nodes=heirs)
        return Target(nodes, compute_layout(placed, self._map.code, self._map.partition_bits, previous))

    def _add(self, change: Add) -> None:
        if change.id in self._placed:
            raise InvalidRequest(f"node {change.name} has its share already; nothing to add")
        if change.id not in self._members:
            self._welcome(change.id, change.name)
        if change.capacity_bytes:
            grown = msgspec.structs.replace(self._members[change.id], capacity_bytes=change.capacity_bytes)
            self._members[change.id] = grown
        self._placed[change.id] = None

    def _replace(self, change: Replace) -> None:
        if change.new in self._placed:
            raise InvalidRequest(f"node {change.new_name} has a share of its own; only a spare can replace another")
        self._leave(change.id, change.name)
        if change.new not in self._members:
            self._welcome(change.new, change.new_name)
        self._placed[change.new] = None
        self._heirs[change.id] = change.new

    def _leave(self, id: NodeId, name: str) -> None:
        self._member(id, name)
        if id not in self._placed:
            raise InvalidRequest(f"node {name} has no share any more; once it is empty: objstore node remove {name}")
        del self._placed[id]

    def _member(self, id: NodeId, name: str) -> Node:
        node = self._members.get(id)
        if node is None:
            hint = f"; it is a spare: objstore node add {name}" if id in self._leases else ""
            raise InvalidRequest(f"node {name} is no member of the cluster{hint}")
        return node

    def _welcome(self, id: NodeId, name: str) -> None:
        lease = self._leases.get(id)
        if lease is None:
            raise InvalidRequest(f"node {name} does not run, so it cannot be given a share; start it first")
        self._members[id] = Node(lease.id, lease.name, lease.zone, lease.capacity_bytes)
