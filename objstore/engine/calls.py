"""Calling nodes: what is needed of whoever makes the calls, and two ways of using it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from objstore.engine.tasks import apart
from objstore.model.errors import WireError
from objstore.model.ids import NodeId
from objstore.ports import Buffer
from objstore.wire.messages import Reply, Request

R = TypeVar("R")
T = TypeVar("T")


class Calls(Protocol):
    """Part of `Peers`; small, so that tests can stand in for it."""

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = ...
    ) -> tuple[Reply, bytes | memoryview]:
        """Raises Unreachable or DeadlineExceeded (outcome unknown), or what the node answered."""

    def is_up(self, node: NodeId) -> bool:
        """Has a lease and did not just fail."""


async def ask(
    calls: Calls, node: NodeId, request: Request, kind: type[R], payload: Buffer = b"", *, timeout_s: float
) -> tuple[R, bytes | memoryview]:
    """A call whose answer must be of one kind."""
    reply, data = await calls.call(node, request, payload, timeout_s=timeout_s)
    if not isinstance(reply, kind):
        raise WireError(f"node {node} answered {type(request).__name__} with {type(reply).__name__}")
    return reply, data


async def in_parallel(width: int, items: Iterable[T], run: Callable[[T], Awaitable[None]]) -> None:
    """Run over all items, at most `width` at a time, begun in order. The first error cancels the rest."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await run(item)

    async def workers() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())

    await apart(workers())
