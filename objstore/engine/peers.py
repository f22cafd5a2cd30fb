"""Who can be reached: addresses from the directory, health from what calls experience.

Two sources are joined: a lease in the coordinator says that a node lives, a failed call says that it does not
answer us. The second matters while a lease has not run out yet and while the coordinator is away (P7).
Nothing here decides correctness; it only orders whom to ask first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from objstore.cluster.directory import Directory
from objstore.model import limits
from objstore.model.errors import DeadlineExceeded, QuorumLost, Unreachable
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Buffer, Clock, Transport
from objstore.wire.messages import Reply, Request

SUSPECT_S = 0.5  # after a failed call a node is asked last for this long, doubled per failure in a row
SUSPECT_MAX_S = 4.0


@dataclass(slots=True)
class _Health:
    pause_s: float = SUSPECT_S / 2
    suspect_until: float = 0.0


class Peers:
    """Calls to nodes by id. One per process."""

    def __init__(self, directory: Directory, transport: Transport, clock: Clock) -> None:
        self.directory = directory
        self._transport = transport
        self._clock = clock
        self._health: dict[NodeId, _Health] = {}
        self._addresses: dict[NodeId, str] = {}

    @property
    def topology(self) -> Topology:
        topology = self.directory.topology
        if topology is None:
            raise QuorumLost("the cluster has no map yet: too few nodes have joined")
        return topology

    async def refresh(self) -> None:
        """After a stale answer: read the map again."""
        await self.directory.refresh()

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = limits.RPC_TIMEOUT_S
    ) -> tuple[Reply, bytes | memoryview]:
        """One request to one node. Errors as Transport.call; they are remembered for `is_up`."""
        lease = self.directory.nodes.get(node)
        if lease is not None and self._addresses.get(node) != lease.address:
            self._addresses[node] = lease.address
            self._health.pop(node, None)  # it was started again: what it did before says nothing
        address = self._addresses.get(node)
        if address is None:
            raise Unreachable(f"node {node} has never been seen by this process")
        try:
            answer = await self._transport.call(address, request, payload, timeout_s=timeout_s)
        except (Unreachable, DeadlineExceeded):
            health = self._health.setdefault(node, _Health())
            health.pause_s = min(health.pause_s * 2, SUSPECT_MAX_S)
            health.suspect_until = self._clock.monotonic() + health.pause_s
            raise
        self._health.pop(node, None)
        return answer

    def is_up(self, node: NodeId) -> bool:
        """Has a lease and did not just fail."""
        lease = self.directory.nodes.get(node)
        if lease is None:
            return False
        health = self._health.get(node)
        if health is None or self._clock.monotonic() >= health.suspect_until:
            return True
        return self._addresses.get(node) != lease.address  # started again since it failed

    def has_lease(self, node: NodeId) -> bool:
        """Not given up by the coordinator, though it may just have failed a call."""
        return node in self.directory.nodes

    def live(self) -> tuple[NodeId, ...]:
        """Members that are up, in the order of the map."""
        return tuple(node for node in self.topology.node_ids if self.is_up(node))

    def up_first(self, nodes: Iterable[NodeId]) -> list[NodeId]:
        return sorted(nodes, key=lambda node: not self.is_up(node))
