"""Whether nodes may be stopped for a while without anybody noticing but their operator. Pure.

The worst case is assumed: that the nodes hold shards of the very objects that have the fewest to spare.
"""

from __future__ import annotations

from collections.abc import Collection

from objstore.model.cluster import ClusterMap
from objstore.model.ids import NodeId
from objstore.model.survey import Survey
from objstore.placement.topology import Topology


def reasons_not_to_stop(
    cluster_map: ClusterMap, survey: Survey | None, answering: Collection[NodeId], stopping: Collection[NodeId]
) -> list[str]:
    """`answering`: members that answer now. [] when every object stays readable and writable."""
    topology, code = Topology(cluster_map), cluster_map.code
    left = [node for node in answering if node not in stopping]
    reasons = []
    if survey is None:
        reasons.append("it is not known how redundant the data is: no repairer has looked at it lately")
    else:
        counted = {node for node in topology.node_ids if (held := survey.nodes.get(node)) and held.fragments}
        needed = counted.union(node for node in answering if node in cluster_map.newest.layout.nodes)
        losing = needed.difference(left)  # also those that the survey saw and that have stopped since
        if len(losing) > survey.can_lose:
            lose = "no further node" if survey.can_lose <= 0 else f"only {survey.can_lose} more at once"
            reasons.append(f"objects could become unreadable: the cluster can lose {lose}")
    lost = sum(not _has_majorities(topology, partition, left) for partition in range(cluster_map.partitions))
    if lost:
        reasons.append(f"{lost} of {cluster_map.partitions} partitions of the metadata would have no majority")
    placed = [node for node in left if node in cluster_map.newest.layout.nodes]
    if len(placed) <= code.k:
        reasons.append(f"writes would fail: {len(placed)} nodes would be left, and EC {code} needs {code.k + 1}")
    return reasons


def _has_majorities(topology: Topology, partition: int, nodes: Collection[NodeId]) -> bool:
    sets = topology.meta_view(partition).sets
    return all(2 * sum(node in nodes for node in owners) > len(owners) for owners in sets)
