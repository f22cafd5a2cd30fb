"""Putting and fetching whole bodies through an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from objstore.engine.engine import Engine
from objstore.engine.types import ALWAYS, ObjectInfo, WriteCondition


async def chunks(body: bytes, *, pieces: int = 1, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    """The body in equal pieces, with a pause before each but the first."""
    step = -(-len(body) // pieces) or 1
    for start in range(0, len(body), step):
        if start and pause_s:
            await asyncio.sleep(pause_s)
        yield body[start : start + step]


async def put(
    engine: Engine,
    bucket: str,
    key: str,
    body: bytes,
    *,
    condition: WriteCondition = ALWAYS,
    pieces: int = 1,
    pause_s: float = 0.0,
) -> ObjectInfo:
    source = chunks(body, pieces=pieces, pause_s=pause_s)
    return await engine.put_object(bucket, key, source, len(body), {}, condition=condition)


async def fetch(engine: Engine, bucket: str, key: str) -> bytes:
    info = await engine.head_object(bucket, key)
    return b"".join([bytes(buffer) async for buffer in engine.read(info, 0, info.size)])
