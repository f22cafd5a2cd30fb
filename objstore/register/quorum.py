"""Counting answers towards majorities of one set of acceptors, or of two during a layout change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from objstore.model.ids import NodeId

Sets = tuple[tuple[NodeId, ...], ...]


@lru_cache(8192)  # as many as there are partitions in two layouts: each operation asks
def members(sets: Sets) -> tuple[NodeId, ...]:
    """All acceptors of the sets, each once, in order of first appearance."""
    return tuple(dict.fromkeys(node for one in sets for node in one))


@lru_cache(8192)
def _is_sound(sets: Sets) -> bool:
    return bool(sets) and all(len(set(one)) == len(one) > 0 for one in sets)


class QuorumTracker:
    """Fed with successes and failures of nodes; `met` when every set has a majority of successes."""

    def __init__(self, sets: Sets) -> None:
        assert _is_sound(sets)
        self._sets = sets
        self._good: set[NodeId] = set()
        self._bad: set[NodeId] = set()

    def success(self, node: NodeId) -> None:
        self._bad.discard(node)
        self._good.add(node)

    def failure(self, node: NodeId) -> None:
        if node not in self._good:
            self._bad.add(node)

    def withdraw(self, node: NodeId) -> None:
        """It answered, and that is of no use any more."""
        self._good.discard(node)

    @property
    def met(self) -> bool:
        return all([len(self._good.intersection(one)) > len(one) // 2 for one in self._sets])

    @property
    def hopeless(self) -> bool:
        """Some set can no longer reach a majority."""
        if not self._bad:
            return False
        return any(len(one) - len(self._bad.intersection(one)) <= len(one) // 2 for one in self._sets)


def majority_first(sets: Sets, preferred: Sequence[bool]) -> tuple[list[NodeId], list[NodeId]]:
    """(nodes to ask first: a majority of every set, preferred ones before others; the rest).

    `preferred[i]` belongs to `members(sets)[i]`.
    """
    everyone = members(sets)
    order = sorted(range(len(everyone)), key=lambda i: (not preferred[i], i))
    ranked = [everyone[i] for i in order]
    first = majority_of(sets, ranked)
    return first, [node for node in ranked if node not in first]


def majority_of(sets: Sets, ranked: Sequence[NodeId]) -> list[NodeId]:
    """A majority of every set, of those that come first in `ranked`, which has all of them."""
    first: list[NodeId] = []
    for one in sets:
        have = sum(node in one for node in first)
        for node in ranked:
            if have > len(one) // 2:
                break
            if node in one and node not in first:
                first.append(node)
                have += 1
    return first
