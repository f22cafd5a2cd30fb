"""What commands that look at single objects share: an engine on the running cluster, and finding an object by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.cli.connect import Access
from objstore.cluster.directory import Directory
from objstore.engine.engine import Engine
from objstore.engine.peers import Peers
from objstore.engine.types import ObjectInfo
from objstore.model.errors import InvalidRequest, Unavailable

_MAP_TIMEOUT_S = 5.0


@asynccontextmanager
async def serving(access: Access) -> AsyncIterator[Engine]:
    """An engine of this process. Raises Unavailable when there is no cluster map."""
    clock = SystemClock()
    directory = Directory(access.coordinator, clock)
    directory.start()
    engine = Engine(Peers(directory, access.transport, clock), clock, SystemRandom())
    try:
        try:
            async with asyncio.timeout(_MAP_TIMEOUT_S):
                while directory.topology is None or not directory.nodes:
                    await directory.wait_change(0.2)
        except TimeoutError as error:
            raise Unavailable(f"no cluster map, or no node: {directory.missing()}") from error
        yield engine
    finally:
        await engine.close()
        await directory.close()


async def object_of(engine: Engine, name: str) -> ObjectInfo:
    """ "bucket/key" -> what its register says."""
    bucket, slash, key = name.partition("/")
    if not (bucket and slash and key):
        raise InvalidRequest(f"{name!r} does not name an object; write BUCKET/KEY")
    return await engine.head_object(bucket, key)
