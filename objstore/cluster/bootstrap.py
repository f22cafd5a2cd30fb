"""The first cluster map, made once enough nodes have registered; and who is left over. Pure.

Whoever leads repair calls this while the coordinator has no map, and writes the result with expected=0: of two
that try, one wins. Nodes that register later are spares until an operator gives them a share.

A first map is made of empty nodes only (INV-13). One made of nodes that hold data would have lost sight of all of it:
what was acknowledged would be gone, and every fragment an orphan.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from objstore.model.cluster import ClusterMap, ErasureCode, Node, NodeLease, View
from objstore.model.errors import InvalidRequest
from objstore.placement.layout import compute_layout

FIRST_EPOCH = 1


def reason_to_wait(leases: Iterable[NodeLease], code: ErasureCode, initial_nodes: int) -> str:
    """Why there can be no map yet, as a line to show; "" when there can be."""
    found = sorted(leases, key=lambda lease: lease.name)
    names = [lease.name for lease in found]
    twice = sorted({name for name, other in pairwise(names) if name == other})
    if twice:
        return f"more than one node is called {' and '.join(twice)}: give each its own node.name and restart it"
    if formerly := [lease.name for lease in found if lease.has_former_life]:
        return f"the cluster map was lost, but {' '.join(formerly)} hold data of this cluster: run: objstore recover"
    wanted = _wanted(code, initial_nodes)
    if len(names) < wanted:
        return f"{len(names)} of {wanted} nodes have registered: {' '.join(names) or 'none'}"
    return ""


def first_map(
    leases: Iterable[NodeLease],
    *,
    cluster_id: str,
    code: ErasureCode,
    partition_bits: int,
    codec: str,
    initial_nodes: int = 0,
) -> ClusterMap | None:
    """A map of all nodes that have registered, or None while `reason_to_wait` has one.

    initial_nodes: wait for so many; 0 = as many as the code needs.
    """
    found = list(leases)
    if reason_to_wait(found, code, initial_nodes):
        return None
    return map_of(found, cluster_id=cluster_id, code=code, partition_bits=partition_bits, codec=codec)


def map_of(
    leases: Iterable[NodeLease], *, cluster_id: str, code: ErasureCode, partition_bits: int, codec: str
) -> ClusterMap:
    """All these nodes, and a layout that owes nothing to an earlier one. InvalidRequest if they cannot hold it."""
    found = sorted(leases, key=lambda lease: lease.id)
    nodes = tuple(Node(lease.id, lease.name, lease.zone, lease.capacity_bytes) for lease in found)
    layout = compute_layout(nodes, code, partition_bits)
    return ClusterMap(cluster_id, code, partition_bits, codec, nodes, View(FIRST_EPOCH, layout))


def spares(cluster_map: ClusterMap | None, leases: Iterable[NodeLease]) -> list[NodeLease]:
    """Nodes that live but have no share of the data, by name. Without a map all of them."""
    members = {node.id for node in cluster_map.nodes} if cluster_map else set()
    return sorted((lease for lease in leases if lease.id not in members), key=lambda lease: (lease.name, lease.id))


def _wanted(code: ErasureCode, initial_nodes: int) -> int:
    if 0 < initial_nodes < code.nodes_min:
        raise InvalidRequest(
            f"cluster.initial_nodes is {initial_nodes}, but code {code} needs at least {code.nodes_min} nodes"
        )
    return initial_nodes or code.nodes_min
