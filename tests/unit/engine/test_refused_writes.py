"""What a refused write leaves behind: nothing, however its bytes were stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from objstore.engine.types import WriteCondition
from objstore.model import limits
from objstore.model.errors import PreconditionFailed
from objstore.ports import Buffer
from tests.s3.memory_engine import MemoryEngine

SIZE = limits.INLINE_SIZE_MAX - 100


async def put(engine: MemoryEngine, data: bytes, **more: Any) -> None:
    async def pieces() -> AsyncIterator[Buffer]:
        yield data

    await engine.put_object("photos", "k", pieces(), len(data), {}, **more)


async def full_register() -> MemoryEngine:
    """Versions of one key that leave no room for the bytes of one more of SIZE."""
    engine = MemoryEngine()
    await engine.create_bucket("photos")
    await engine.configure_bucket("photos", lambda it: msgspec.structs.replace(it, versioning="Enabled"))
    while not engine.stored:
        await put(engine, os.urandom(SIZE))
    return engine


def test_bytes_that_had_to_leave_the_register_are_discarded_when_another_writer_was_first() -> None:
    async def run() -> None:
        engine = await full_register()
        before = dict(engine.stored)
        first = await engine.head_object("photos", "k")
        writer = engine.put_object.__self__._writer  # type: ignore[attr-defined]
        write, raced = writer.write, []

        async def overtaken(*args: Any, **more: Any) -> Any:
            written = await write(*args, **more)
            raced.append(len(engine.stored))
            await put(engine, b"small")
            return written

        writer.write = overtaken
        with pytest.raises(PreconditionFailed):
            await put(engine, os.urandom(SIZE), condition=WriteCondition(if_match=first.etag))
        assert raced == [len(before) + 1]  # they were there
        assert engine.stored == before

    asyncio.run(run())
