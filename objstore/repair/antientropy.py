"""Metadata replicas that fell behind, outside of a layout change: the newest accept, sent again to who lacks it.

That is what its proposer would have done had it lived, under the rules of any accept: an acceptor that has promised
a higher ballot, or has a floor above this one, refuses, and then the same value is written anew by a full round. Not
so a tombstone that the other one has forgotten already: it is forgotten by all in a later round
(`objstore.repair.tombstones`). A partition that is between two owner sets is left to the transition.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from objstore.engine.calls import Calls, in_parallel
from objstore.model import limits
from objstore.model.errors import ObjstoreError, StaleEpoch
from objstore.model.ids import NodeId
from objstore.model.records import RegisterKey, Value
from objstore.placement.topology import Topology
from objstore.register.change import body_of
from objstore.repair.ports import Rewrite
from objstore.repair.surveyor import Dispute
from objstore.wire.messages import RegAccept, RegAccepted, RegRead, RegRefused, RegStale, RegState

log = logging.getLogger(__name__)

WIDTH = 16


class AntiEntropy:
    def __init__(self, calls: Calls, rewrite: Rewrite) -> None:
        self._calls = calls
        self._rewrite = rewrite

    async def heal(self, topology: Topology, partition: int, disputes: Sequence[Dispute]) -> int:
        """Returns how many registers could not be brought up to date now."""
        view = topology.meta_view(partition)
        if len(view.sets) > 1:
            return 0
        failed = 0

        async def one(dispute: Dispute) -> None:
            nonlocal failed
            try:
                await self._send_again(partition, view.tag, dispute)
            except ObjstoreError as error:
                failed += 1
                log.info("metadata repair, partition %d: %s", partition, error)

        await in_parallel(WIDTH, disputes, one)
        return failed

    async def _send_again(self, partition: int, tag: int, dispute: Dispute) -> None:
        request = RegRead(partition, tag, dispute.key)
        held, data = await self._calls.call(dispute.source, request, timeout_s=limits.RPC_TIMEOUT_S)
        if not isinstance(held, RegState) or not any(held.accepted):
            raise StaleEpoch(f"node {dispute.source} no longer holds the register it reported")
        accept = RegAccept(partition, tag, dispute.key, held.accepted, held.listing, held.state)
        refused = False
        for node in dispute.lagging:
            if await self._accept(node, accept, bytes(data)):
                refused = not await self._forgot(node, accept) or refused
        if refused:
            await self._rewrite(RegisterKey.unpack(dispute.key), held.state, held.listing)

    async def _accept(self, node: NodeId, accept: RegAccept, data: bytes) -> bool:
        """True if the node refuses."""
        reply, _ = await self._calls.call(node, accept, data, timeout_s=limits.RPC_TIMEOUT_S)
        if isinstance(reply, RegStale):
            raise StaleEpoch(f"partition {accept.partition} is fenced at {reply.tag} on node {node}")
        if not isinstance(reply, (RegAccepted, RegRefused)):
            raise StaleEpoch(f"node {node} answered an accept with {type(reply).__name__}")
        return isinstance(reply, RegRefused)

    async def _forgot(self, node: NodeId, accept: RegAccept) -> bool:
        if accept.listing or body_of(Value(accept.listing, accept.state, b"")):
            return False
        request = RegRead(accept.partition, accept.tag, accept.key, with_data=False)
        held, _ = await self._calls.call(node, request, timeout_s=limits.RPC_TIMEOUT_S)
        return isinstance(held, RegState) and not any(held.accepted) and held.floor >= accept.ballot
