"""One ordered scan over a bucket and over the listing of the origin that it is migrated from.

What is known here of a key wins, also that it was deleted. The pure part is `choose`; the scans are cursors of the kind
of `objstore.engine.listing.BucketScan`, so that lists are made of a union as of a bucket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, TypeAlias

from objstore.engine.registers import Registers
from objstore.migrate.client import OriginClient
from objstore.model import limits
from objstore.model.ids import BucketId
from objstore.model.records import ListEntry, RegisterKey, Space, Value, decode, encode

Pair: TypeAlias = tuple[bytes, bytes]  # name, listing
LAST = "\U0010ffff"  # above every character that a key goes on with


class Scan(Protocol):
    async def next(self) -> Pair | None: ...

    def skip_to(self, name: bytes) -> None: ...


def is_stale(listing: bytes, migration: bytes) -> bool:
    """It says only that the key was deleted during another migration."""
    entry = decode(listing, ListEntry)
    return not entry.versions and entry.version != migration


def choose(here: Pair | None, there: Pair | None, migration: bytes) -> tuple[bool, bool]:
    """Whether the next pair of this place and of the origin are taken; if both, that of the origin is dropped, unless
    what is here is stale."""
    if here is None or there is None:
        return here is not None, there is not None
    return here[0] <= there[0], there[0] <= here[0]


class UnionScan:
    def __init__(self, here: Scan, there: Scan, migration: bytes) -> None:
        self._here = here
        self._there = there
        self._migration = migration
        self._next_here: Pair | None = None
        self._next_there: Pair | None = None
        self._ended_here = self._ended_there = False

    async def next(self) -> Pair | None:
        await asyncio.gather(self._fill_here(), self._fill_there())
        here, there = self._next_here, self._next_there
        from_here, from_there = choose(here, there, self._migration)
        if from_here:
            self._next_here = None
        if from_there:
            self._next_there = None
        if from_here and from_there and here is not None and is_stale(here[1], self._migration):
            return there
        return here if from_here else there

    async def batch(self) -> list[Pair]:
        """As that of BucketScan, with one at a time."""
        pair = await self.next()
        return [pair] if pair is not None else []

    def skip_to(self, name: bytes) -> None:
        if self._next_here is not None and self._next_here[0] < name:
            self._next_here = None
        if self._next_there is not None and self._next_there[0] < name:
            self._next_there = None
        self._here.skip_to(name)
        self._there.skip_to(name)

    async def _fill_here(self) -> None:
        if self._next_here is None and not self._ended_here:
            self._next_here = await self._here.next()
            self._ended_here = self._next_here is None

    async def _fill_there(self) -> None:
        if self._next_there is None and not self._ended_there:
            self._next_there = await self._there.next()
            self._ended_there = self._next_there is None


class OriginScan:
    """The listing of an origin in byte order, from `start` to below `end` (b"": no end)."""

    def __init__(self, client: OriginClient, prefix: str, start: bytes, end: bytes, expect: int) -> None:
        self._client = client
        self._prefix = prefix
        self._start = max(start, prefix.encode())
        self._end = end
        self._limit = max(1, min(expect, limits.LIST_PAGE_MAX))
        self._after = after_of(self._start, prefix)
        self._buffer: deque[Pair] = deque()
        self._finished = False

    async def next(self) -> Pair | None:
        while not self._buffer and not self._finished:
            await self._fill()
        return self._buffer.popleft() if self._buffer else None

    async def _fill(self) -> None:
        page = await self._client.page(self._prefix, self._after, self._limit)
        for entry in page.entries:
            name = entry.key.encode()
            if self._end and name >= self._end:
                self._finished = True
                return
            if name >= self._start:
                self._buffer.append((name, encode(ListEntry(entry.size, entry.etag, entry.modified_ms))))
        self._finished = not page.truncated or not page.entries
        if page.entries:
            self._after = page.entries[-1].key

    def skip_to(self, name: bytes) -> None:
        while self._buffer and self._buffer[0][0] < name:
            self._buffer.popleft()
        if not self._buffer and self._start < name:
            self._start = name
            self._after = max(self._after, after_of(name, self._prefix), key=str.encode)


def after_of(start: bytes, prefix: str) -> str:
    """A key below `start`, as near as text can be, to list from; "" for the beginning. Never one that skips a key at
    or above `start`."""
    if start <= prefix.encode():
        return ""
    if start.endswith(b"\x00"):
        before = start[:-1]
        tail = ""
    else:
        before = start[:-1] + bytes((start[-1] - 1,))
        tail = LAST
    try:
        return before.decode() + tail
    except UnicodeDecodeError:
        return start[:-1].decode(errors="ignore")


class UnionRegisters:
    """As far as lists need `Registers`: of one bucket, together with its origin."""

    def __init__(self, registers: Registers, client: OriginClient, prefix: str, migration: bytes) -> None:
        self._registers = registers
        self._client = client
        self._prefix = prefix
        self._migration = migration

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value:
        return await self._registers.read(key, with_data=with_data)

    def scan(
        self,
        bucket: BucketId,
        space: Space,
        *,
        start: bytes = b"",
        end: bytes = b"",
        expect: int = limits.LIST_PAGE_MAX,
    ) -> UnionScan:
        here = self._registers.scan(bucket, space, start=start, end=end, expect=expect)
        there = OriginScan(self._client, self._prefix, start, end, expect)
        return UnionScan(here, there, self._migration)
