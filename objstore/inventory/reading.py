"""Walks a bucket by its ordered index, in byte order of its keys, and never holds more than a batch of it.

Each key is shown as it was at some moment between begin and end of the walk; what was acknowledged before the walk
began is in it. It is no snapshot: of two keys the one may be shown before, the other after a change of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from objstore.engine.keystate import state_of
from objstore.engine.lists import READS_AT_ONCE, after_prefix
from objstore.engine.registers import Registers
from objstore.inventory.rows import Row, rows_of
from objstore.model.ids import BucketId
from objstore.model.records import ListEntry, RegisterKey, Space, decode
from objstore.register.change import body_of


async def walk(
    registers: Registers, bucket: BucketId, *, prefix: str = "", start_after: str = ""
) -> AsyncIterator[tuple[bytes, ListEntry]]:
    """Every key that has a version, delete markers too, with its entry in the index."""
    lead = prefix.encode()
    start = max(lead, start_after.encode() + b"\x00") if start_after else lead
    scan = registers.scan(bucket, Space.OBJECT, start=start, end=after_prefix(lead))
    while (pair := await scan.next()) is not None:
        yield pair[0], decode(pair[1], ListEntry)


async def inventory(
    registers: Registers,
    name: str,
    bucket: BucketId,
    *,
    prefix: str = "",
    start_after: str = "",
    versions: bool = False,
) -> AsyncIterator[list[Row]]:
    """Batches of whole keys: after each of them one can go on behind its last key."""
    batch: list[bytes] = []

    async def read(key: bytes) -> list[Row]:
        value = await registers.read(RegisterKey(bucket, Space.OBJECT, key))
        return rows_of(name, key.decode(), state_of(body_of(value)), versions=versions)

    async def rows() -> list[Row]:
        return [row for found in await asyncio.gather(*map(read, batch)) for row in found]

    async for key, entry in walk(registers, bucket, prefix=prefix, start_after=start_after):
        if entry.hidden and not versions:
            continue
        batch.append(key)
        if len(batch) == READS_AT_ONCE:
            yield await rows()
            batch.clear()
    if batch:
        yield await rows()
