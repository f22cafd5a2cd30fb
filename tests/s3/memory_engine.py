"""The engine over dictionaries: the gateway's tests run against it without a cluster.

Its operations are those of a cluster; only where registers and blobs lie is different. So a test that passes here says
something of both, and nothing of durability or of many processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from typing import cast

from objstore.adapters.clock import SystemClock
from objstore.engine.engine import Operations
from objstore.engine.exact import ExactReader
from objstore.engine.quotas import UsageSource
from objstore.engine.reading import BlobReader
from objstore.engine.registers import Registers
from objstore.engine.types import Reach
from objstore.engine.writing import BlobLabel, BlobWriter
from objstore.model import limits
from objstore.model.clock import Ballot, BallotClock
from objstore.model.ids import BlobId, BucketId
from objstore.model.manifest import BlobRef
from objstore.model.records import ABSENT, RegisterKey, Space, Value
from objstore.ports import Buffer
from objstore.register.change import Change, apply

READ_CHUNK = 64 * limits.KIB


class MemoryEngine(Operations):
    def __init__(self, usage: UsageSource | None = None) -> None:
        blobs = _Blobs()
        self.stored = blobs.bytes  # as they lie there
        clock = SystemClock()
        registers = cast(Registers, _Registers(clock))
        super().__init__(registers, cast(BlobWriter, blobs), cast(BlobReader, blobs), clock, _Random(), usage)

    async def reach(self) -> Reach:
        return Reach()


class _Random:
    def bytes(self, length: int) -> bytes:
        return os.urandom(length)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)


class _Registers:
    """As `Registers`, of one process."""

    def __init__(self, clock: SystemClock) -> None:
        self._values: dict[RegisterKey, Value] = {}
        self._clock = clock
        self._ballots = BallotClock(1)

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value:
        await asyncio.sleep(0)
        return self._values.get(key, ABSENT)

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes:
        await asyncio.sleep(0)
        self._ballots.observe(Ballot(max(above, born or 0), 0))
        old = self._values.get(key, ABSENT)
        ballot = self._ballots.next(self._clock.wall_ms())
        decision = apply(old, change, op or os.urandom(16), ballot, None, born)
        if decision.error is not None:
            raise decision.error
        if decision.value is not None:
            data = decision.joined(old.data) if decision.keep_data else decision.value.data
            self._values[key] = decision.value._replace(data=data)
        return decision.result

    def id_ms(self) -> int:
        return self._clock.wall_ms()

    def scan(
        self,
        bucket: BucketId,
        space: Space,
        *,
        start: bytes = b"",
        end: bytes = b"",
        expect: int = limits.LIST_PAGE_MAX,
    ) -> _Scan:
        return _Scan(self._values, bucket, space, start, end)

    async def scan_all(
        self, bucket: BucketId, space: Space, *, start: bytes = b"", end: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        return list(_Scan(self._values, bucket, space, start, end).rest())[:limit]


class _Scan:
    def __init__(
        self, values: dict[RegisterKey, Value], bucket: BucketId, space: Space, start: bytes, end: bytes
    ) -> None:
        found = [
            (key.name, value.listing)
            for key, value in values.items()
            if (key.bucket, key.space) == (bucket, space) and value.listing and start <= key.name
        ]
        self._pairs = sorted(pair for pair in found if not end or pair[0] < end)
        self._at = 0

    async def next(self) -> tuple[bytes, bytes] | None:
        return next(self.rest(), None)

    async def batch(self) -> list[tuple[bytes, bytes]]:
        return list(self.rest())

    def rest(self) -> Iterator[tuple[bytes, bytes]]:
        while self._at < len(self._pairs):
            self._at += 1
            yield self._pairs[self._at - 1]

    def skip_to(self, name: bytes) -> None:
        while self._at < len(self._pairs) and self._pairs[self._at][0] < name:
            self._at += 1


class _Blobs:
    """As `BlobWriter` and `BlobReader`."""

    cluster_id = "memory"

    def __init__(self) -> None:
        self.bytes: dict[BlobId, bytes] = {}

    def need_room(self) -> None:
        return None

    async def write(
        self, body: ExactReader, size: int, blob: BlobId, label: BlobLabel, *, hashed: bool = True
    ) -> tuple[BlobRef, bytes]:
        data = bytes(await body.read(size))
        self.bytes[blob] = data
        ref = BlobRef(blob, size, "zfec", 4, 2, limits.CELL_SIZE, limits.SEGMENT_SIZE)
        return ref, hashlib.md5(data, usedforsecurity=False).digest()

    def discard(self, blobs: tuple[BlobRef, ...]) -> None:
        for ref in blobs:
            self.bytes.pop(ref.id, None)

    async def read(self, blobs: tuple[BlobRef, ...], offset: int, length: int) -> AsyncIterator[Buffer]:
        for ref in blobs:
            view = memoryview(self.bytes[ref.id])[offset : offset + length]
            for start in range(0, len(view), READ_CHUNK):
                yield view[start : start + READ_CHUNK]
            length -= len(view)
            offset = max(0, offset - ref.size)
