"""Which node takes which shard of one segment: its owner, or the first handoff that lives, has room and has none.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from objstore.model.errors import InsufficientStorage, ObjstoreError, QuorumLost
from objstore.model.ids import NodeId


class Placer:
    """Hands out distinct nodes for the shards of one segment.

    owners: by shard index. handoff: who stands in, in order. usable(node): is it worth asking now? is_full(node): if
    not, is that for lack of room?
    A node that failed is never given again; no node gets two shards (losing it would cost two).
    """

    def __init__(
        self,
        owners: Sequence[NodeId],
        handoff: Sequence[NodeId],
        usable: Callable[[NodeId], bool],
        is_full: Callable[[NodeId], bool] = lambda node: False,
    ) -> None:
        self._owners = owners
        self._handoff = handoff
        self._usable = usable
        self._is_full = is_full
        self._taken: set[NodeId] = {node for node in owners if usable(node)}
        self._failed: set[NodeId] = set()

    def first(self, shard: int) -> NodeId | None:
        owner = self._owners[shard]
        return owner if owner in self._taken else self._stand_in()

    def after_failure(self, failed: NodeId) -> NodeId | None:
        """Another node for the shard that `failed` should have taken; None when nobody is left."""
        self._failed.add(failed)
        return self._stand_in()

    def why_none(self) -> ObjstoreError:
        """When no node was found for a shard."""
        if full := sum(self._is_full(node) for node in (*self._owners, *self._handoff)):
            return InsufficientStorage(f"No room: {full} nodes are full, and no other is left. Add nodes, or delete.")
        return QuorumLost("no node is left for this shard")

    def _stand_in(self) -> NodeId | None:
        for node in self._handoff:
            if node not in self._taken and node not in self._failed and self._usable(node):
                self._taken.add(node)
                return node
        return None
