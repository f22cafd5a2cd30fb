"""Reading what replicas hold, from nodes that run and from the journals of those that they were before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from objstore.engine.calls import Calls
from objstore.model import limits
from objstore.model.cluster import NodeLease
from objstore.model.errors import Conflict, DeadlineExceeded, Overloaded, Unreachable, WireError
from objstore.model.ids import NodeId
from objstore.ports import Buffer, Transport
from objstore.recovery.merge import Holding
from objstore.recovery.roster import Life, Source
from objstore.repair.reading import Whole, records_of
from objstore.wire.messages import (
    Named,
    RecPull,
    RecPulled,
    RegPull,
    RegPulled,
    RegStale,
    Reply,
    Request,
    encode_message,
)

ATTEMPTS = 4
PAUSE_S = 0.2

R = TypeVar("R")


class Leaseholders:
    """`Calls` to whoever has a lease now, member or not."""

    def __init__(self, transport: Transport, leases: Mapping[NodeId, NodeLease]) -> None:
        self._transport = transport
        self._leases = leases

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = limits.RPC_TIMEOUT_S
    ) -> tuple[Reply, bytes | memoryview]:
        named = Named(node, encode_message(request))  # the address may be another node's by now
        return await self._transport.call(self._leases[node].address, named, payload, timeout_s=timeout_s)

    def is_up(self, node: NodeId) -> bool:
        return node in self._leases


async def ask_again(
    calls: Calls,
    node: NodeId,
    request: Request,
    kind: type[R],
    payload: Buffer = b"",
    *,
    timeout_s: float = limits.RPC_TIMEOUT_S,
) -> tuple[R, bytes | memoryview]:
    """Raises Conflict when a fence of somebody else stands above the request."""
    reply, data = await again(lambda: calls.call(node, request, payload, timeout_s=timeout_s))
    if isinstance(reply, RegStale):
        raise Conflict("another recovery has begun after this one and goes on instead; look again: objstore status")
    if not isinstance(reply, kind):
        raise WireError(f"node {node} answered {type(request).__name__} with {type(reply).__name__}")
    return reply, data


async def again(do: Callable[[], Awaitable[R]]) -> R:
    """What may be repeated without harm, and is while no answer comes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await do()
        except (Unreachable, DeadlineExceeded, Overloaded):
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_S * attempt)
    raise AssertionError("unreachable")


async def lives_of(calls: Calls, node: NodeId) -> list[Life]:
    """Its former lives, numbered as they are asked for."""
    found: list[Life] = []
    while True:
        page, _ = await ask_again(calls, node, RecPull(0, b"", 1, len(found)), RecPulled)
        if len(found) >= page.lives:
            return found
        found.append(Life(NodeId(page.node), page.damaged))


async def holding_of(calls: Calls, source: Source, partition: int) -> Holding:
    """Everything that a replica holds of a partition."""
    records: list[Whole] = []
    floor, tag, after = bytes(16), 0, b""
    while True:
        page, data = await _page(calls, source, partition, after)
        floor = max(floor, page.floor)
        tag = max(tag, page.fence if isinstance(page, RegPulled) else page.tag)
        records += records_of(page, data)
        if not page.more or not page.keys:
            return Holding(records, floor, tag)
        after = page.keys[-1]


async def _page(
    calls: Calls, source: Source, partition: int, after: bytes
) -> tuple[RegPulled | RecPulled, bytes | memoryview]:
    if source.is_live:
        return await ask_again(calls, source.node, RegPull(partition, after, limits.SCAN_RECORDS_MAX), RegPulled)
    request = RecPull(partition, after, limits.SCAN_RECORDS_MAX, source.life)
    return await ask_again(calls, source.node, request, RecPulled)
