"""Ordered scans of a bucket: a merge of its metadata partitions, each a merge over a majority of its replicas.

The cost of a page follows its length, not the size of bucket or cluster: every partition keeps its names in
byte order and is read in pages as the merge consumes them. Common prefixes are jumped over, not read through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from objstore.engine.peers import Peers
from objstore.model import limits
from objstore.model.errors import ObjstoreError, QuorumLost
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import RegisterKey, Space, Value
from objstore.register.quorum import QuorumTracker, majority_first, members
from objstore.register.scan import merge
from objstore.wire.messages import RegScan, RegScanned, RegStale

HEDGE_S = 0.1
READS_AT_ONCE = 64  # disputed names read at the same time
LOST_PAUSE_S = 0.1  # before another look for a majority
PAGE_MIN = 16  # names asked of one partition at least


Read: TypeAlias = Callable[[RegisterKey], Awaitable[Value]]
"""A linearizable read of one register, without its data."""


class BucketScan:
    """A cursor over the visible registers of one bucket and space, in byte order of their names."""

    def __init__(
        self,
        read: Read,
        peers: Peers,
        bucket: BucketId,
        space: Space,
        *,
        start: bytes = b"",
        end: bytes = b"",
        expect: int = limits.LIST_PAGE_MAX,
    ) -> None:
        partitions = peers.topology.partitions_of(bucket, space)
        page = min(limits.SCAN_RECORDS_MAX, max(PAGE_MIN, expect * 5 // (4 * len(partitions)) + 1))
        self._parts = [
            _PartitionScan(read, peers, bucket, space, partition, start, end, page) for partition in partitions
        ]

    async def next(self) -> tuple[bytes, bytes] | None:
        """The next visible pair, or None at the end."""
        empty = [part for part in self._parts if not part.buffer and not part.finished]
        if empty:
            await asyncio.gather(*(part.fill() for part in empty))
        best = min((part for part in self._parts if part.buffer), key=lambda part: part.buffer[0][0], default=None)
        return best.buffer.popleft() if best is not None else None

    def skip_to(self, name: bytes) -> None:
        """Go on at the first name >= `name`."""
        for part in self._parts:
            part.skip_to(name)


class _PartitionScan:
    def __init__(
        self,
        read: Read,
        peers: Peers,
        bucket: BucketId,
        space: Space,
        partition: int,
        start: bytes,
        end: bytes,
        page: int,
    ) -> None:
        self._read = read
        self._peers = peers
        self._bucket = bucket
        self._space = space
        self._partition = partition
        self._next = start
        self._end = end
        self._page = page
        self.buffer: deque[tuple[bytes, bytes]] = deque()
        self.finished = bool(end) and start >= end

    def skip_to(self, name: bytes) -> None:
        while self.buffer and self.buffer[0][0] < name:
            self.buffer.popleft()
        if not self.buffer and not self.finished and self._next < name:
            self._next = name
            self.finished = bool(self._end) and name >= self._end

    async def fill(self) -> None:
        """Read pages until something visible is there or the range ends."""
        while not self.buffer and not self.finished:
            sets, pages = await self._pages()
            merged = merge(sets, pages)
            self.buffer.extend(await self._resolve(merged.names))
            self._next = merged.until
            self.finished = not merged.until

    async def _resolve(self, names: Sequence[tuple[bytes, bytes | None]]) -> list[tuple[bytes, bytes]]:
        disputed = [name for name, listing in names if listing is None]
        values: dict[bytes, bytes] = {}
        for i in range(0, len(disputed), READS_AT_ONCE):
            some = disputed[i : i + READS_AT_ONCE]
            found = await asyncio.gather(*(self._read(RegisterKey(self._bucket, self._space, name)) for name in some))
            values.update((name, value.listing) for name, value in zip(some, found, strict=True))
        settled = ((name, values[name] if listing is None else listing) for name, listing in names)
        return [(name, listing) for name, listing in settled if listing]

    async def _pages(self) -> tuple[tuple[tuple[NodeId, ...], ...], dict[NodeId, RegScanned]]:
        """One page from at least a majority of the replicas, under one layout view; QuorumLost when there is none
        within OPERATION_TIMEOUT_S, however slowly they fail to answer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.OPERATION_TIMEOUT_S
        while True:
            view = self._peers.topology.meta_view(self._partition)
            ask = _Asking(self._peers, view.sets, self._request(view.tag))
            pages = await ask.run(deadline)
            if pages is not None:
                return view.sets, pages
            if loop.time() + LOST_PAUSE_S >= deadline:
                raise QuorumLost(f"no majority of the replicas of metadata partition {self._partition} answers a scan")
            if ask.stale:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._peers.refresh()
            await asyncio.sleep(LOST_PAUSE_S)

    def _request(self, tag: int) -> RegScan:
        return RegScan(self._partition, tag, self._bucket, self._space, self._next, self._end, self._page)


class _Asking:
    """One scan request to a majority, and to the rest when somebody fails or is late."""

    def __init__(self, peers: Peers, sets: tuple[tuple[NodeId, ...], ...], request: RegScan) -> None:
        self._peers = peers
        self._request = request
        self._tracker = QuorumTracker(sets)
        up = [peers.is_up(node) for node in members(sets)]
        self._first, self._rest = majority_first(sets, up)
        self._pages: dict[NodeId, RegScanned] = {}
        self.stale = False
        self._failed = False

    async def run(self, deadline: float) -> dict[NodeId, RegScanned] | None:
        """Pages of a majority, or None when there is none by then."""
        loop = asyncio.get_running_loop()
        tasks = {asyncio.create_task(self._one(node)) for node in self._first}
        try:
            while not self._tracker.met and tasks and (left_s := deadline - loop.time()) > 0:
                before = len(self._pages)
                patience_s = min(HEDGE_S, left_s)
                done, tasks = await asyncio.wait(tasks, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if (len(self._pages) == before or self._failed) and self._rest:
                    rest, self._rest = self._rest, []
                    tasks |= {asyncio.create_task(self._one(node)) for node in rest}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._pages if self._tracker.met else None

    async def _one(self, node: NodeId) -> None:
        try:
            reply, _ = await self._peers.call(node, self._request)
        except ObjstoreError:
            self._failed = True
            self._tracker.failure(node)
            return
        if isinstance(reply, RegStale):
            self.stale = self._failed = True
            self._tracker.failure(node)
            return
        assert isinstance(reply, RegScanned), reply
        self._pages[node] = reply
        self._tracker.success(node)
