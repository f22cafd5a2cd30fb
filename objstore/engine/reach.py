"""Whether this process reaches enough nodes to read and to write, found out by asking them all now.

For health checks: a lease, or the last request that went well, says nothing about this moment. Who asks meanwhile
waits for the same answers, and they hold for FRESH_S, so that checks cost the nodes one small message a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from objstore.engine.calls import ask
from objstore.engine.peers import Peers
from objstore.engine.types import Reach
from objstore.model.errors import ObjstoreError, Unavailable
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Clock
from objstore.wire.messages import Ping, Pong

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
FRESH_S = 1.0


def judge(topology: Topology, answering: Collection[NodeId], full: Collection[NodeId] = ()) -> Reach:
    """`answering`: members; `full`: those that take no new data. The sentences name neither nodes nor numbers:
    strangers read them.

    `serve` asks for less than `read`: a few partitions without a majority are lost to every gateway alike, and a
    balancer that takes all of them away loses the rest too."""
    code, here = topology.code, frozenset(answering)
    lost = 0
    if len(topology.node_ids) - len(here) > code.m:  # else a majority of any 2m+1 is here
        lost = sum(not _has_majorities(topology, partition, here) for partition in range(topology.map.partitions))
    read = write = serve = ""
    if lost:
        read = write = "some keys have no majority of their metadata replicas"
        serve = read if 2 * lost > topology.map.partitions else ""
    if len(here.difference(full)) <= code.k:
        write = "fewer nodes take new data than a write needs"
    if len(here) <= code.k:
        write = "fewer nodes answer than a write needs"
    if len(here) < code.k:
        read = serve = "fewer nodes answer than a read needs"
    return Reach(read=read, write=write, serve=serve)


def _has_majorities(topology: Topology, partition: int, here: frozenset[NodeId]) -> bool:
    return all(2 * len(here.intersection(owners)) > len(owners) for owners in topology.meta_view(partition).sets)


class Reachability:
    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers = peers
        self._clock = clock
        self._asking: asyncio.Task[Reach] | None = None
        self._asked_at = 0.0
        self._said = Reach()
        self._judged: tuple[Topology, frozenset[NodeId], frozenset[NodeId], Reach] | None = None

    async def check(self) -> Reach:
        if self._asking is None or self._clock.monotonic() - self._asked_at >= FRESH_S:
            self._asked_at = self._clock.monotonic()
            self._asking = asyncio.create_task(self._check(), name="health check")
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _check(self) -> Reach:
        try:
            topology = self._peers.topology
        except Unavailable:
            return self._say(Reach(*3 * ("this gateway has no map of the cluster yet",)), "")
        asking = {asyncio.create_task(self._answers(node)): node for node in topology.node_ids}
        out = topology.map.newest.out
        here: set[NodeId] = set()
        try:
            left = set(asking)
            loop = asyncio.get_running_loop()
            deadline = loop.time() + PATIENCE_S
            while left and (time_left := deadline - loop.time()) > 0:
                done, left = await asyncio.wait(left, timeout=time_left, return_when=asyncio.FIRST_COMPLETED)
                here.update(asking[task] for task in done if task.result())
                if all(asking[task] in out for task in left):
                    break  # nobody waits for those who were given up
                if len(asking) - len(here) <= topology.code.m and self._judge(topology, here) == Reach():
                    return self._say(Reach(), "")  # whatever the others say
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        silent = sorted(topology.node(node).name for node in topology.node_ids if node not in here)
        return self._say(self._judge(topology, here), " ".join(silent))

    def _judge(self, topology: Topology, here: set[NodeId]) -> Reach:
        """Mostly the same nodes answer as the last time: with many partitions judging takes a while."""
        nodes = frozenset(here), frozenset(node for node in topology.node_ids if self._peers.is_full(node))
        if self._judged is None or self._judged[0] is not topology or self._judged[1:3] != nodes:
            self._judged = topology, *nodes, judge(topology, *nodes)
        return self._judged[3]

    async def _answers(self, node: NodeId) -> bool:
        try:
            await ask(self._peers, node, Ping(), Pong, timeout_s=PATIENCE_S)
        except ObjstoreError:
            return False
        return True

    def _say(self, found: Reach, silent: str) -> Reach:
        """Once per change, with the names that strangers are not told."""
        if found != self._said:
            self._said = found
            if found == Reach():
                log.info("all that reads and writes need is reached again")
            else:
                log.warning("reads: %s; writes: %s; no answer: %s", found.read or "go", found.write or "go", silent)
        return found
