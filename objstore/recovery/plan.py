"""Whether a recovery is called for, what it may not find, and the map that comes of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
import xxhash

from objstore.model.cluster import ClusterMap, Node, NodeLease, View
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.recovery.roster import Roster

UNKNOWN_EPOCHS = 1 << 20  # without a map: above the tags that nodes which are away may have


@dataclass(frozen=True, slots=True)
class Outlook:
    """How complete the owners are, over all metadata partitions. `partitions` of which `headless` have no majority
    of live owners left: no request on them can be answered. `unsure`: of the owners so many are missing, or have
    damaged journals, that an acknowledged write may be with none of the others."""

    partitions: int
    headless: int
    unsure: int


def outlook(cluster_map: ClusterMap, roster: Roster) -> Outlook:
    topology = Topology(cluster_map)
    live = {replica for replica, source in roster.sources.items() if source.is_live}
    sound = {replica for replica in roster.sources if not roster.damaged.get(replica)}
    headless = unsure = 0
    for partition in range(cluster_map.partitions):
        sets = topology.meta_view(partition).sets
        headless += not all(_has_majority(owners, live) for owners in sets)
        unsure += not all(_has_majority(owners, sound) for owners in sets)
    return Outlook(cluster_map.partitions, headless, unsure)


def owners_before(topology: Topology, partition: int) -> tuple[NodeId, ...]:
    """Every replica whose word counted under the map that was lost."""
    return tuple(dict.fromkeys(node for owners in topology.meta_view(partition).sets for node in owners))


def next_epoch(cluster_map: ClusterMap | None, highest_tag: int) -> int:
    """Above every tag that any node has seen, and every epoch that a recovery before this one has taken."""
    seen = highest_tag // 2 + 1
    if cluster_map is None:
        return seen + UNKNOWN_EPOCHS
    return max(seen, cluster_map.newest.epoch, cluster_map.recovering) + 1


def recovered_map(
    cluster_map: ClusterMap, roster: Roster, leases: Mapping[NodeId, NodeLease], epoch: int
) -> ClusterMap:
    """The newest layout with every heir in the slots of the member it follows.

    Who is gone is out, and its place waits under an id that nobody has. Should it come back after all it is a stranger
    of that name, and forgets before it takes its place (INV-6): it may hold what nobody chose, at a ballot that the
    others had promised, and their promises are lost."""
    newest = cluster_map.newest
    stay = [node for node in cluster_map.nodes if node.id not in cluster_map.leaving]  # others hold nothing (INV-17)
    members = {node.id: _after(node, roster, leases, epoch) for node in stay}
    places = tuple(members[node].id for node in newest.layout.nodes)
    placed = set(newest.layout.nodes)
    drained = {node.id: node for node in stay if node.id not in placed}  # no acceptors, but holders
    return msgspec.structs.replace(
        cluster_map,
        nodes=tuple(drained[id] if id in drained and node.id not in leases else node for id, node in members.items()),
        current=View(
            epoch,
            msgspec.structs.replace(newest.layout, nodes=places),
            tuple(sorted(node for node in places if node not in leases)),
        ),
        next=None,
        synced=b"",
        recovering=0,
        leaving=(),
    )


def _after(node: Node, roster: Roster, leases: Mapping[NodeId, NodeLease], epoch: int) -> Node:
    if node.id in leases:
        return node
    heir = roster.heirs.get(node.id)
    if heir is not None:
        return Node(heir.id, heir.name, heir.zone, heir.capacity_bytes)
    nobody = xxhash.xxh3_64_hexdigest(f"{node.id} is gone since {epoch}".encode())
    return msgspec.structs.replace(node, id=NodeId(nobody))


def unable(cluster_map: ClusterMap, live: Collection[NodeId]) -> str:
    """Why this map could not hold the metadata; "" if it can."""
    topology = Topology(cluster_map)
    for partition in range(cluster_map.partitions):
        owners = topology.meta_owners(partition, cluster_map.current)
        if not _has_majority(owners, live):
            names = " ".join(sorted(topology.node(node).name for node in owners if node not in live))
            return f"too few nodes run to hold the metadata: start {names}, or other nodes under these names"
    return ""


def _has_majority(owners: Collection[NodeId], nodes: Collection[NodeId]) -> bool:
    return sum(node in nodes for node in owners) > len(owners) // 2
