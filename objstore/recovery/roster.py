"""Who is what when metadata has been lost: which replicas still speak, through whom, and which are missing. Pure.

A *replica* is an acceptor under the id with which the map, or nobody, knows it. It speaks for itself (*live*: a node
that runs under that id) or through the node that came after it on the same disk (*past*: a life in its journals).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from objstore.model.cluster import ClusterMap, NodeLease
from objstore.model.ids import NodeId

LIVE = -1  # instead of the number of a life: the node's own registers


class Source(NamedTuple):
    """Where a replica's registers are read: at a node, its own or those of one of its former lives."""

    node: NodeId
    life: int = LIVE

    @property
    def is_live(self) -> bool:
        return self.life == LIVE


class Life(NamedTuple):
    """A former life in the journals of a node. `damaged`: places of it that do not verify."""

    id: NodeId
    damaged: int


class Roster(NamedTuple):
    """`sources`: by replica. `heirs`: member of the map that is gone -> the node in its place."""

    sources: Mapping[NodeId, Source]
    heirs: Mapping[NodeId, NodeLease]
    missing: tuple[NodeId, ...]  # members that nobody speaks for
    damaged: Mapping[NodeId, int]  # replicas whose journals have places that do not verify

    @property
    def lives(self) -> int:
        return sum(not source.is_live for source in self.sources.values())


def call_the_roll(
    cluster_map: ClusterMap | None, leases: Mapping[NodeId, NodeLease], lives: Mapping[NodeId, Sequence[Life]]
) -> Roster:
    """`lives`: of each node with a lease that has any."""
    sources = {node: Source(node) for node in sorted(leases)}
    damaged: dict[NodeId, int] = {}
    after: dict[NodeId, NodeLease] = {}  # who came after a replica on its disk
    for node in sorted(lives):
        for number, life in enumerate(lives[node]):
            if life.id not in sources:
                sources[life.id] = Source(node, number)
                after[life.id] = leases[node]
                if life.damaged:
                    damaged[life.id] = life.damaged
    if cluster_map is None:
        return Roster(sources, {}, (), damaged)
    members = {node.id for node in cluster_map.nodes}
    strangers = [lease for node, lease in sorted(leases.items()) if node not in members]
    heirs: dict[NodeId, NodeLease] = {}
    for member in cluster_map.nodes:
        if member.id not in leases:
            free = [lease for lease in strangers if lease not in heirs.values()]
            heir = after.get(member.id) or _namesake(member.name, free)
            if heir is not None and heir in free:
                heirs[member.id] = heir
    missing = tuple(node.id for node in cluster_map.nodes if node.id not in sources)
    return Roster(sources, heirs, missing, damaged)


def _namesake(name: str, strangers: Iterable[NodeLease]) -> NodeLease | None:
    return next((lease for lease in strangers if lease.name == name), None)
