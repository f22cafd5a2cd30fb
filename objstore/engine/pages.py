"""One page of each of many partitions: a replica tells it, and a majority vouches for it by digest (INV-4).

First by that of the whole partition, which acceptors know without reading a row. Where these differ, because something
is being written there or was missed, by that of the page; where these differ too, the caller compares whole pages.
Partitions share nodes, so each node is asked once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import NamedTuple, TypeAlias

import xxhash

from objstore.engine.peers import Peers
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import Space
from objstore.placement.topology import MetaView
from objstore.register.quorum import QuorumTracker, Sets, majority_of, members
from objstore.register.scan import agreed, vouches
from objstore.wire.messages import Page, PageAsk, RegPaged, RegPages

HEDGE_S = 0.1

Starts: TypeAlias = Mapping[int, bytes]  # partition -> first name


class Want(Enum):
    PAGE = "names, listings and both digests"
    DIGEST = "both digests"
    WHOLE = "the digest of the whole partition"


Asks: TypeAlias = dict[NodeId, dict[int, Want]]  # of each node of which partition what


class Range(NamedTuple):
    bucket: BucketId
    space: Space
    end: bytes  # b"" = no end
    limit: int  # names of one page


async def agreed_pages(peers: Peers, what: Range, starts: Starts, deadline: float) -> dict[int, Page]:
    """The pages that a majority of their replicas agrees on; of other partitions, none. Never raises for what a node
    does, nor later than the deadline."""
    asking = _Asking(peers, what, starts)
    await asking.run(deadline)
    return asking.agreed


class _Asking:
    """Each partition under one layout view (INV-1)."""

    def __init__(self, peers: Peers, what: Range, starts: Starts) -> None:
        self._peers = peers
        self._what = what
        self._starts = starts
        self._views = {partition: peers.topology.meta_view(partition) for partition in starts}
        self._pages: dict[int, dict[NodeId, Page]] = {partition: {} for partition in starts}
        self._told: dict[int, list[NodeId]] = {partition: [] for partition in starts}
        self._asked: dict[int, dict[NodeId, Want]] = {partition: {} for partition in starts}
        self._open = set(starts)  # not settled
        self._patient = True
        self.agreed: dict[int, Page] = {}

    async def run(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        salt = xxhash.xxh3_64_intdigest(self._what.bucket + min(self._starts.values(), default=b""))
        tasks: set[asyncio.Task[None]] = set()
        asks = first_asks(self._views, self._peers.is_up, salt)
        try:
            while asks:
                tasks |= self._ask(asks)
                done, tasks = await asyncio.wait(tasks, timeout=HEDGE_S)
                _check(done)
                asks = self._those_that_differ()
            if self._open:
                tasks |= self._ask(self._rest())
            while self._open and tasks and (left_s := deadline - loop.time()) > 0:
                done, tasks = await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                _check(done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _those_that_differ(self) -> Asks:
        """Who does not vouch for what was told, and was not asked of the page itself yet."""
        asks: Asks = {}
        for partition in sorted(self._open):
            pages = self._pages[partition]
            for teller in self._told[partition]:
                for node, page in pages.items():
                    if self._asked[partition][node] is Want.WHOLE and not vouches(page, pages[teller]):
                        asks.setdefault(node, {})[partition] = Want.DIGEST
        return asks

    def _rest(self) -> Asks:
        """Whom else to ask of what is not settled, because somebody failed or is late: everybody; and for the page
        itself if nobody has told it."""
        self._patient = False
        asks: Asks = {}
        for partition in sorted(self._open):
            self._look(partition)
            if partition in self._open:
                for node in members(self._views[partition].sets):
                    if node not in self._asked[partition]:
                        asks.setdefault(node, {})[partition] = Want.DIGEST if self._told[partition] else Want.PAGE
        return asks

    def _ask(self, asks: Asks) -> set[asyncio.Task[None]]:
        for node, partitions in asks.items():
            for partition, want in partitions.items():
                self._asked[partition][node] = want
        return {asyncio.create_task(self._one(node, partitions)) for node, partitions in asks.items()}

    async def _one(self, node: NodeId, partitions: Mapping[int, Want]) -> None:
        asks = [
            PageAsk(p, self._views[p].tag, self._starts[p], want is Want.PAGE, want is not Want.WHOLE)
            for p, want in partitions.items()
        ]
        what = self._what
        try:
            reply, _ = await self._peers.call(node, RegPages(what.bucket, what.space, what.end, what.limit, asks))
        except ObjstoreError:
            return
        assert isinstance(reply, RegPaged) and len(reply.pages) == len(asks), reply
        for ask, page in zip(asks, reply.pages, strict=True):
            self._pages[ask.partition][node] = page
            if ask.tell:
                self._told[ask.partition].append(node)
            self._look(ask.partition)

    def _look(self, partition: int) -> None:
        """Agreed, or a majority has answered and does not agree: then whole pages are compared rather than waited
        for those that are late."""
        if partition not in self._open:
            return
        sets, pages = self._views[partition].sets, self._pages[partition]
        page = agreed(sets, pages, self._told[partition])
        if page is not None:
            self.agreed[partition] = page
        elif self._patient or not _is_majority(sets, pages):
            return
        self._open.discard(partition)


def _check(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.result()


def _is_majority(sets: Sets, nodes: Iterable[NodeId]) -> bool:
    tracker = QuorumTracker(sets)
    for node in nodes:
        tracker.success(node)
    return tracker.met


def first_asks(views: Mapping[int, MetaView], is_up: Callable[[NodeId], bool], salt: int) -> Asks:
    """For each node its partitions, and of which it tells the page. Of each partition a majority is asked, nodes that
    are up before others; in one order for all partitions, so that few nodes are asked in all, which `salt` turns, so
    that it is not always the same ones."""
    nodes = sorted({node for view in views.values() for node in members(view.sets)})
    nodes.sort(key=lambda node: (not is_up(node), xxhash.xxh3_64_intdigest(node.encode(), salt)))
    rank = {node: i for i, node in enumerate(nodes)}
    asks: Asks = {}
    tells = dict.fromkeys(nodes, 0)
    for partition, view in views.items():
        first = majority_of(view.sets, sorted(members(view.sets), key=rank.__getitem__))
        teller = min(first, key=lambda node: (tells[node], rank[node]))
        tells[teller] += 1
        for node in first:
            asks.setdefault(node, {})[partition] = Want.PAGE if node == teller else Want.WHOLE
    return asks
