"""Who can be reached: addresses from the directory, health from what calls experience.

Two sources are joined: a lease in the coordinator says that a node lives, a failed call says that it does not
answer us. The second matters while a lease has not run out yet and while the coordinator is away (P7).
Nothing here decides correctness; it only orders whom to ask first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from objstore.cluster.directory import Directory
from objstore.engine.calls import ask
from objstore.model import limits
from objstore.model.cluster import is_at_least
from objstore.model.errors import (
    DeadlineExceeded,
    InsufficientStorage,
    ObjstoreError,
    QuorumLost,
    StaleEpoch,
    Unreachable,
)
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Buffer, Clock, Told, Transport
from objstore.wire.messages import MapFound, MapRead, Named, Reply, Request, encode_message

log = logging.getLogger(__name__)

SUSPECT_S = 0.5  # after a failed call a node is asked last for this long, doubled per failure in a row
SUSPECT_MAX_S = 4.0
REFRESH_S = 1.0  # how long is waited for a later map at a time
REFRESH_NODES = 3  # asked at a time


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
        self._unlisted: set[NodeId] = set()  # have no lease, and answered the last call all the same
        self._refreshing: asyncio.Task[None] | None = None
        self._asked = 0  # nodes, for the map
        self._encoded_request: Request | None = None  # the last one, and
        self._encoded = b""
        self._closed = False
        self._look_after = 0.0  # when the leases may be read again for a node that does not answer

    @property
    def topology(self) -> Topology:
        topology = self.directory.topology
        if topology is None:
            raise QuorumLost(f"this process has no cluster map: {self.directory.missing()}")
        return topology

    async def refresh(self, known: Topology | None = None) -> None:
        """After a stale answer: read the map again, in the coordinator and at a few nodes; who asks meanwhile waits for
        the same. Returns with a later map at once, without one when all have answered or REFRESH_S are over; and at
        once if the map is not the `known` one any more, by which the stale question was asked.

        The nodes are asked because the data path needs no coordinator (P7); next time it will be other nodes."""
        if known is None or self.directory.topology is known:
            await asyncio.shield(self._begin_refresh())

    def _begin_refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_map(), name="refresh of the map")
        return self._refreshing

    async def _read_map(self) -> None:
        before = self.topology
        nodes = self.live() or before.node_ids
        some = [nodes[(self._asked + i) % len(nodes)] for i in range(min(REFRESH_NODES, len(nodes)))]
        self._asked += len(some)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REFRESH_S
        asking = [asyncio.create_task(self._ask_coordinator()), *(asyncio.create_task(self._ask(n)) for n in some)]
        try:
            while asking and self.topology is before and (left_s := deadline - loop.time()) > 0:
                done, _ = await asyncio.wait(asking, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                asking = [task for task in asking if task not in done]
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask_coordinator(self) -> None:
        try:
            await self.directory.refresh()
        except ObjstoreError as error:
            log.info("the coordinator does not show the map: %s", error)

    async def ask_everybody(self) -> None:
        """Read the map of every node that has a lease; those that do not answer soon are not waited for."""
        nodes = list(self.directory.nodes)
        await asyncio.gather(*(self._ask(node, timeout_s=limits.CONNECT_TIMEOUT_S) for node in nodes))

    async def _ask(self, node: NodeId, timeout_s: float = limits.RPC_TIMEOUT_S) -> None:
        try:
            _, raw = await ask(self, node, MapRead(), MapFound, timeout_s=timeout_s)
        except ObjstoreError as error:
            log.info("node %s does not show the map: %s", node, error)
            return
        if raw:
            self.directory.offer(bytes(raw))

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = limits.RPC_TIMEOUT_S
    ) -> tuple[Reply, bytes | memoryview]:
        """One request to one node. Errors as Transport.call; they are remembered for `is_up`."""
        address = self._address_of(node)
        try:
            answer = await self._transport.call(address, self._named(node, request), payload, timeout_s=timeout_s)
        except ObjstoreError as error:
            self._failed(node, error)
            raise
        self._answered(node)
        return answer

    def send(
        self,
        node: NodeId,
        request: Request,
        payload: Buffer,
        told: Told,
        *,
        timeout_s: float = limits.RPC_TIMEOUT_S,
    ) -> None:
        """As `call`, for many at once: see Transport.send."""

        def heard(reply: Reply | ObjstoreError, data: bytes | memoryview) -> None:
            if isinstance(reply, ObjstoreError):
                self._failed(node, reply)
            else:
                self._answered(node)
            told(reply, data)

        try:
            address = self._address_of(node)
        except Unreachable as error:
            asyncio.get_running_loop().call_soon(told, error, b"")
            return
        self._transport.send(address, self._named(node, request), payload, timeout_s=timeout_s, told=heard)

    def _named(self, node: NodeId, request: Request) -> Named:
        """The address may be another node's by now. The same request often goes to several nodes."""
        if request is not self._encoded_request:
            self._encoded_request, self._encoded = request, encode_message(request)
        return Named(node, self._encoded)

    def _address_of(self, node: NodeId) -> str:
        lease = self.directory.lease(node)
        if lease is not None and self._addresses.get(node) != lease.address:
            self._addresses[node] = lease.address
            self._health.pop(node, None)  # it was started again: what it did before says nothing
        address = self._addresses.get(node)
        if address is None:
            self._look_again()
            raise Unreachable(f"node {node} has never been seen by this process")
        return address

    def _failed(self, node: NodeId, error: ObjstoreError) -> None:
        if isinstance(error, Unreachable | DeadlineExceeded):
            health = self._health.setdefault(node, _Health())
            health.pause_s = min(health.pause_s * 2, SUSPECT_MAX_S)
            health.suspect_until = self._clock.monotonic() + health.pause_s
            self._unlisted.discard(node)
            self._look_again()
        elif isinstance(error, StaleEpoch):
            self._begin_refresh()  # nobody waits for it: what was asked of this node others can do

    def _answered(self, node: NodeId) -> None:
        if self._health:
            self._health.pop(node, None)
        if not self.directory.lease(node):
            self._unlisted.add(node)

    def close(self) -> None:
        """Connections are about to end, and what is still under way on them: that says nothing of the nodes."""
        self._closed = True

    def _look_again(self) -> None:
        """A node does not answer where it is looked for. That it registered anew may not have reached us yet: the
        answer to a watch can be lost, and the next one is far away. Nobody waits; once per REFRESH_S is enough."""
        if self._closed:
            return
        if self.directory.topology is not None and self._clock.monotonic() >= self._look_after:
            self._look_after = self._clock.monotonic() + REFRESH_S
            self._begin_refresh()

    def is_up(self, node: NodeId) -> bool:
        """Has a lease and did not just fail; or answers us, while nobody can say who has a lease."""
        lease = self.directory.lease(node)
        if lease is None:
            return bool(self.directory.problem) and node in self._unlisted
        health = self._health.get(node)
        if health is None or self._clock.monotonic() >= health.suspect_until:
            return True
        return self._addresses.get(node) != lease.address  # started again since it failed

    def is_full(self, node: NodeId) -> bool:
        """Says in its lease that it takes no new data. Not believed while nobody can say it anew."""
        lease = self.directory.lease(node)
        return lease is not None and not self.directory.problem and is_at_least(lease.level, "full")

    def takes_data(self, node: NodeId) -> bool:
        return self.is_up(node) and not self.is_full(node)

    def need_room(self) -> None:
        """Before new data is taken from a client. InsufficientStorage when so many nodes are full that the rest could
        not hold it; when nodes are missing the write itself finds out."""
        topology = self.topology
        full = [node for node in topology.node_ids if self.is_full(node)]
        if not full:
            return
        roomy = sum(self.has_lease(node) and not self.is_full(node) for node in topology.node_ids)
        if roomy <= topology.code.k:
            names = " ".join(sorted(topology.node(node).name for node in full))
            raise InsufficientStorage(
                f"The cluster is full: {names} take no new data, and {topology.code.k + 1} nodes with room are needed. "
                "Delete objects, or add nodes."
            )

    def has_lease(self, node: NodeId) -> bool:
        """Not given up by the coordinator, though it may just have failed a call."""
        return self.directory.lease(node) is not None

    def live(self) -> tuple[NodeId, ...]:
        """Members that are up, in the order of the map."""
        return tuple(node for node in self.topology.node_ids if self.is_up(node))

    def up_first(self, nodes: Iterable[NodeId]) -> list[NodeId]:
        return sorted(nodes, key=lambda node: not self.is_up(node))
