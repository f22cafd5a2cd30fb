"""Ordered scans of a bucket: a merge of its metadata partitions, each a merge over a majority of its replicas.

The cost of a page follows its length, not the size of bucket or cluster: every partition keeps its names in
byte order and is read in pages as the merge consumes them. Common prefixes are jumped over, not read through.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import itemgetter
from typing import TypeAlias

from objstore.engine.pages import HEDGE_S, Range, agreed_pages
from objstore.engine.peers import Peers
from objstore.model import limits
from objstore.model.errors import ObjstoreError, QuorumLost
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import RegisterKey, Space, Value
from objstore.register.quorum import QuorumTracker, majority_first, members
from objstore.register.scan import after, merge
from objstore.wire.messages import RegScan, RegScanned, RegStale

READS_AT_ONCE = 64  # disputed names read at the same time
LOST_PAUSE_S = 0.1  # before another look for a majority
PAGE_MIN = 16  # names asked of one partition at least
FEW = 8  # a partition of which less than this part of a page is left is read with those of which nothing is


Read: TypeAlias = Callable[[RegisterKey], Awaitable[Value]]
"""A linearizable read of one register, without its data."""

Pair: TypeAlias = tuple[bytes, bytes]  # name, listing
_name = itemgetter(0)


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
        self._peers = peers
        self._range = Range(bucket, space, end, _page_size(expect, len(partitions)))
        self._expect = expect
        self._given = 0  # pairs, so far
        self._parts = [_PartitionScan(read, peers, self._range, partition, start) for partition in partitions]
        self._ready: list[Pair] = []
        self._at = 0  # of the next one in `_ready`

    async def next(self) -> Pair | None:
        """The next visible pair, or None at the end."""
        if self._at == len(self._ready):
            self._ready, self._at = await self._merge(), 0
            if not self._ready:
                return None
        self._at += 1
        return self._ready[self._at - 1]

    async def batch(self) -> list[Pair]:
        """As many of the next visible pairs as are known, or [] at the end."""
        ready = self._ready[self._at :] or await self._merge()
        self._ready, self._at = [], 0
        return ready

    def skip_to(self, name: bytes) -> None:
        """Go on at the first name >= `name`."""
        self._at = bisect_left(self._ready, (name,), self._at)
        for part in self._parts:
            part.skip_to(name)

    async def _merge(self) -> list[Pair]:
        """The names below all that is not read yet, once there are any; [] at the end."""
        found: list[Pair] = []
        while not found:
            if any(part.is_dry for part in self._parts):
                await self._fill()
            bounds = [part.start for part in self._parts if not part.finished]
            for part in self._parts:
                found += part.take(min(bounds) if bounds else None)
            if not bounds:
                break
        found.sort(key=_name)
        self._given += len(found)
        return found

    async def _fill(self) -> None:
        """Read the next page of each that is dry or soon will be; a short one when little more is expected."""
        deadline = asyncio.get_running_loop().time() + limits.OPERATION_TIMEOUT_S
        missing = self._expect - self._given
        limit = _page_size(missing if missing > 0 else self._expect, len(self._parts))
        parts = [part for part in self._parts if part.is_low(limit)]
        starts = {part.partition: part.start for part in parts}
        pages = await agreed_pages(self._peers, self._range._replace(limit=limit), starts, deadline)
        others = []
        for part in parts:
            page = pages.get(part.partition)
            if page is None:
                others.append(part)
            else:
                part.add(zip(page.names, page.listings, strict=True), after(page))
        if others:
            await asyncio.gather(*(part.compare(deadline) for part in others))


def _page_size(expect: int, partitions: int) -> int:
    """Names to ask of each partition so that all together mostly have the `expect` first ones of the bucket: how many
    of those are in one partition is spread like a Poisson number. With 2 standard deviations one list in ten has to
    ask again, for a few; with 3 hardly any, but all read a tenth more."""
    mean = expect / partitions
    return min(limits.SCAN_RECORDS_MAX, max(PAGE_MIN, int(mean + (2 * mean**0.5 if partitions > 1 else 0)) + 1))


class _PartitionScan:
    def __init__(self, read: Read, peers: Peers, what: Range, partition: int, start: bytes) -> None:
        self._read = read
        self._peers = peers
        self._range = what
        self.partition = partition
        self.start = start  # all below was read; of no meaning when it is finished
        self.finished = bool(what.end) and start >= what.end
        self._rows: list[Pair] = []

    @property
    def is_dry(self) -> bool:
        return not self._rows and not self.finished

    def is_low(self, page: int) -> bool:
        return len(self._rows) * FEW < page and not self.finished

    def add(self, pairs: Iterable[Pair], until: bytes) -> None:
        """What was read up to `until`, b"" = to the end; tombstones have no listing."""
        self._rows += [pair for pair in pairs if pair[1]]
        self.start = until
        self.finished = not until

    def take(self, until: bytes | None) -> list[Pair]:
        """What is below that name, out of here; all for None."""
        at = len(self._rows) if until is None else bisect_left(self._rows, (until,))
        taken, self._rows = self._rows[:at], self._rows[at:]
        return taken

    def skip_to(self, name: bytes) -> None:
        self.take(name)
        if not self._rows and not self.finished and self.start < name:
            self.start = name
            self.finished = bool(self._range.end) and name >= self._range.end

    async def compare(self, deadline: float) -> None:
        """The next page, from whole pages of a majority."""
        sets, pages = await self._pages(deadline)
        merged = merge(sets, pages)
        self.add(await self._resolve(merged.names), merged.until)

    async def _resolve(self, names: Sequence[tuple[bytes, bytes | None]]) -> list[Pair]:
        disputed = [name for name, listing in names if listing is None]
        values: dict[bytes, bytes] = {}
        for i in range(0, len(disputed), READS_AT_ONCE):
            some = disputed[i : i + READS_AT_ONCE]
            found = await asyncio.gather(
                *(self._read(RegisterKey(self._range.bucket, self._range.space, name)) for name in some)
            )
            values.update((name, value.listing) for name, value in zip(some, found, strict=True))
        settled = ((name, values[name] if listing is None else listing) for name, listing in names)
        return [(name, listing) for name, listing in settled if listing]

    async def _pages(self, deadline: float) -> tuple[tuple[tuple[NodeId, ...], ...], dict[NodeId, RegScanned]]:
        """One page from at least a majority of the replicas, under one layout view; QuorumLost when there is none
        by then, however slowly they fail to answer."""
        loop = asyncio.get_running_loop()
        while True:
            topology = self._peers.topology
            view = topology.meta_view(self.partition)
            ask = _Asking(self._peers, view.sets, self._request(view.tag))
            pages = await ask.run(deadline)
            if pages is not None:
                return view.sets, pages
            if loop.time() + LOST_PAUSE_S >= deadline:
                raise QuorumLost(f"no majority of the replicas of metadata partition {self.partition} answers a scan")
            if ask.stale:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._peers.refresh(topology)
            await asyncio.sleep(LOST_PAUSE_S)

    def _request(self, tag: int) -> RegScan:
        what = self._range
        return RegScan(self.partition, tag, what.bucket, what.space, self.start, what.end, what.limit)


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
            while tasks and not self._is_decided and (left_s := deadline - loop.time()) > 0:
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

    @property
    def _is_decided(self) -> bool:
        """Who is silent is not waited for where so many have refused that he could not help."""
        return self._tracker.met or (self._tracker.hopeless and not self._rest)

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
