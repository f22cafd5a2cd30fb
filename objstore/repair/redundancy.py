"""How redundant a segment, a metadata replica set or an object is. Counting only; pure.

Everything is put on one scale, the *level*: 0..k+m, where k+m is full, k means "nothing more may be lost" and
below k "not readable now". Only what answering nodes hold counts, and two copies of one shard count once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple

from objstore.model.cluster import ErasureCode


class Copy(NamedTuple):
    """One shard on one node. `node` is any small number that stands for it."""

    shard: int
    node: int


def distinct_shards(copies: Collection[Copy]) -> int:
    return len({copy.shard for copy in copies})


def tolerance(copies: Collection[Copy], k: int, m: int) -> int:
    """How many nodes, whichever they are, may be lost with k distinct shards left: up to m; -1 if too few now."""
    shards = distinct_shards(copies)
    if shards < k:
        return -1
    if shards == len(copies) and len({copy.node for copy in copies}) == len(copies):
        return min(m, shards - k)  # one shard per node: every loss costs exactly one
    return _worst_case(copies, k, m)


def _worst_case(copies: Collection[Copy], k: int, m: int) -> int:
    """By trying every set of lost nodes. For the rare segment whose copies double up; m and nodes are small."""
    nodes = sorted({copy.node for copy in copies})
    for lost in range(1, m + 1):
        for gone in combinations(nodes, min(lost, len(nodes))):
            if len({copy.shard for copy in copies if copy.node not in gone}) < k:
                return lost - 1
    return m


def segment_level(copies: Collection[Copy], k: int, m: int, code: ErasureCode) -> int:
    """On the scale of the cluster's code, whatever code the blob was written with."""
    shards = distinct_shards(copies)
    if shards < k:
        return max(0, code.k - (k - shards))
    margin = min(shards - k, tolerance(copies, k, m))
    return code.shards if margin >= m else code.k + min(margin, code.m - 1)


def replica_level(current: int, code: ErasureCode) -> int:
    """`current`: answering metadata replicas that hold the newest state. Full with 2m+1, minimum with m+1."""
    margin = min(current - (code.m + 1), code.m)
    return max(0, code.k + margin)


class Totals(NamedTuple):
    total: int
    full: int
    reduced: int
    minimum: int
    unreadable: int


def totals(histogram: Sequence[int], code: ErasureCode) -> Totals:
    """`histogram[level]`: objects."""
    full, minimum = histogram[code.shards], histogram[code.k]
    unreadable = sum(histogram[: code.k])
    total = sum(histogram)
    return Totals(total, full, total - full - minimum - unreadable, minimum, unreadable)


def can_lose(histogram: Sequence[int], code: ErasureCode, live_nodes: int) -> int:
    """Nodes that may still be lost before an object becomes unreadable. Without objects: as the nodes allow."""
    lowest = next((level for level, count in enumerate(histogram) if count), None)
    if lowest is None:
        lowest = code.k + min(code.m, live_nodes - max(code.k, code.m + 1))
    return max(0, min(code.m, lowest - code.k))


def histogram_of(levels: Collection[int], code: ErasureCode) -> list[int]:
    counted = Counter(levels)
    return [counted[level] for level in range(code.shards + 1)]
