"""Keeps an Inventory true to the cluster: asks nodes what changed, and re-reads only that.

One look: change counters of all nodes, registers of partitions that changed, counters again, fragments of
partitions that changed, then judging. Registers come before fragments on purpose: whatever was committed when
the registers were read has its fragments on disk when they are listed, so a fresh object never looks damaged.
A partition that changes all the time is read every BUSY_S only, and the rarer the longer that takes, unless an object
just seen needs it. Where all counters are what they were when nothing was left to read, a look is over with that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from objstore.engine.calls import Calls, ask, in_parallel
from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.cluster import ErasureCode
from objstore.model.errors import ObjstoreError, StaleEpoch
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Clock
from objstore.repair.inventory import Inventory
from objstore.repair.reading import read_record, scan_states
from objstore.repair.record import Record
from objstore.wire.messages import (
    FragList,
    FragListed,
    NodeStats,
    NodeStatsReply,
    RegDigested,
    RegDigests,
    RegPull,
    RegPulled,
)

log = logging.getLogger(__name__)

STATS_TIMEOUT_S = 1.0
WIDTH = 16  # calls in flight
BUSY_S = 5.0  # how often a partition that never rests is read,
BUSY_SHARE = 0.025  # but it is not being read for more of the time than this
SETTLED_MS = 2000  # a younger write may still be on its way to some replicas
LIST_LIMIT = 8192
JUDGED_AT_ONCE = 200  # between two turns of the event loop: a few ms
LOADED_AT_ONCE = 100  # registers, for the same reason; up to WIDTH partitions are loaded side by side
SPARSE = 4  # up to so many changed registers are read one by one instead of by a scan


@dataclass(slots=True)
class _Read:
    """How a partition looked when it was last read, and at the previous look."""

    signature: tuple[object, ...] | None = None
    seen: tuple[object, ...] | None = None
    at: float = 0.0
    took_s: float = 0.0

    @property
    def rests(self) -> bool:
        """It was read as it looked when it was last looked at."""
        return self.seen is not None and self.signature == self.seen

    def due(self, signature: tuple[object, ...], now: float) -> bool:
        rests = signature == self.seen
        self.seen = signature
        if signature == self.signature:
            return False
        return rests or self.signature is None or now - self.at >= max(BUSY_S, self.took_s / BUSY_SHARE)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A settled register whose newest state some answering owners lack."""

    key: bytes
    ballot: bytes
    source: NodeId
    lagging: tuple[NodeId, ...]


@dataclass(slots=True)
class _Meta(_Read):
    digest: tuple[int, int] | None = None  # of the state last loaded, when all owners agreed on it
    suspects: dict[bytes, bytes] = field(default_factory=dict)  # key -> newest ballot that somebody lacked
    known_at: float = float("-inf")  # what is loaded is not older: a majority said so then


class Surveyor:
    """`inventory` is complete once `look` has returned; before that its numbers mean nothing."""

    def __init__(self, calls: Calls, clock: Clock, code: ErasureCode) -> None:
        self.inventory = Inventory(code)
        self.complete = False
        self.listed = False  # in the last look every member that answers has told what it holds
        self.stats: dict[NodeId, NodeStatsReply] = {}  # of the members that answer
        self.disputes: dict[int, list[Dispute]] = {}
        self.rests = False  # the last look found all as it was read before
        self.known_at = float("-inf")  # of no partition is anything older loaded; -inf: not all were read yet
        self._calls = calls
        self._clock = clock
        self._meta: dict[int, _Meta] = {}
        self._data: dict[tuple[NodeId, int], _Read] = {}
        # Counters under which all was read, of registers and of fragments.
        self._meta_rest: tuple[Topology, Mapping[NodeId, tuple[int, Sequence[int]]]] | None = None
        self._data_rest: tuple[Topology, Mapping[NodeId, tuple[int, Sequence[int]]]] | None = None

    def hurry(self) -> None:
        """The next look reads whatever has changed, partitions that change all the time too."""
        for look in (*self._meta.values(), *self._data.values()):
            look.at = float("-inf")

    async def look(self, topology: Topology) -> None:
        self.stats = await self._ask_all(topology)
        self.inventory.set_cluster(topology, self.stats)
        self.inventory.begin_look()
        needed: dict[int, None] = {}
        counters = (topology, {node: (stats.boot, stats.meta_changes) for node, stats in self.stats.items()})
        self.rests = counters == self._meta_rest
        if self.rests:
            now = self._clock.monotonic()
            for look in self._meta.values():
                look.known_at = now
            self.known_at = now
        else:
            needed = await self._read_registers(topology)
            self._meta_rest = counters if all(look.rests for look in self._meta.values()) else None
            late = await self._ask_all(topology)
            self.stats = {node: late[node] for node in self.stats if node in late}
            self.inventory.set_cluster(topology, self.stats)
        counters = (topology, {node: (stats.boot, stats.data_changes) for node, stats in self.stats.items()})
        self.listed = True
        if counters != self._data_rest:
            self.rests = False
            await self._read_fragments(topology, needed)
            looks = (self._data[node, p] for node in self.stats for p in range(topology.map.partitions))
            self._data_rest = counters if all(look.rests for look in looks) else None
        self.inventory.end_look()
        await self._judge()
        self.complete = True

    async def _judge(self) -> None:
        while not self.inventory.is_judged:
            self.inventory.judge(JUDGED_AT_ONCE)
            await asyncio.sleep(0)

    async def _ask_all(self, topology: Topology) -> dict[NodeId, NodeStatsReply]:
        answers: dict[NodeId, NodeStatsReply] = {}

        async def one(node: NodeId) -> None:
            try:
                reply, _ = await ask(self._calls, node, NodeStats(True), NodeStatsReply, timeout_s=STATS_TIMEOUT_S)
            except ObjstoreError as error:
                log.debug("survey: node %s does not answer: %s", node, error)
            else:
                answers[node] = reply

        asked = [node for node in topology.node_ids if self._calls.is_up(node)]
        await in_parallel(len(asked), asked, one)
        return {node: answers[node] for node in asked if node in answers}

    # --- registers ---

    async def _read_registers(self, topology: Topology) -> dict[int, None]:
        """Load what changed. Returns the data partitions that blobs not seen before are in."""
        now = self._clock.monotonic()
        due: dict[int, tuple[NodeId, ...]] = {}
        for partition in range(topology.map.partitions):
            owners = topology.meta_view(partition).sets[0]
            answering = tuple(node for node in owners if node in self.stats)
            signature = (
                topology.meta_view(partition).tag,
                *((n, *self._meta_counter(n, partition)) for n in answering),
            )
            look = self._meta.setdefault(partition, _Meta())
            if look.due(signature, now):
                due[partition] = answering
            elif signature == look.signature:
                look.known_at = now
            if partition % 1024 == 1023:
                await asyncio.sleep(0)
        digests = await self._digests(due)
        needed: dict[int, None] = {}

        async def one(partition: int) -> None:
            began = self._clock.monotonic()
            try:
                complete = await self._read_partition(topology, partition, due[partition], digests, needed)
            except ObjstoreError as error:
                log.debug("survey: registers of partition %d: %s", partition, error)
                return
            look = self._meta[partition]
            look.signature, look.at = look.seen if complete else None, now
            look.took_s = self._clock.monotonic() - began
            if self._is_majority(topology, partition, [n for n in due[partition] if (n, partition) in digests]):
                look.known_at = now

        await in_parallel(WIDTH, due, one)
        self.known_at = min(look.known_at for look in self._meta.values())
        return needed

    def _meta_counter(self, node: NodeId, partition: int) -> tuple[int, int]:
        stats = self.stats[node]
        return stats.boot, stats.meta_changes[partition] if partition < len(stats.meta_changes) else 0

    async def _digests(self, due: Mapping[int, tuple[NodeId, ...]]) -> dict[tuple[NodeId, int], tuple[int, int]]:
        wanted: dict[NodeId, list[int]] = {}
        for partition, owners in due.items():
            for node in owners:
                wanted.setdefault(node, []).append(partition)
        found: dict[tuple[NodeId, int], tuple[int, int]] = {}

        async def one(node: NodeId) -> None:
            partitions = wanted[node]
            try:
                reply, _ = await ask(
                    self._calls, node, RegDigests(partitions), RegDigested, timeout_s=limits.RPC_TIMEOUT_S
                )
            except ObjstoreError as error:
                log.debug("survey: digests of node %s: %s", node, error)
                return
            for partition, count, digest in zip(partitions, reply.counts, reply.digests, strict=True):
                found[node, partition] = (count, digest)

        await in_parallel(WIDTH, wanted, one)
        return found

    async def _read_partition(
        self,
        topology: Topology,
        partition: int,
        owners: tuple[NodeId, ...],
        digests: Mapping[tuple[NodeId, int], tuple[int, int]],
        needed: dict[int, None],
    ) -> bool:
        """False if an owner did not answer just now, or no majority did: then the partition is read again next time, as
        who begins to answer may know of objects that nobody else does."""
        look = self._meta[partition]
        answering = [node for node in owners if (node, partition) in digests]
        seen = [digests[node, partition] for node in answering]
        if not answering:
            self.disputes.pop(partition, None)
            self.inventory.set_replicas(partition, 0, {})
            return False
        agreed = seen[0] if all(one == seen[0] for one in seen) else None
        if agreed is None or agreed != look.digest:
            sources = answering[:1] if agreed is not None else answering
            tag = topology.meta_view(partition).tag
            ballots = {node: await self._ballots(node, partition, tag) for node in sources}
            look.digest = None  # whatever happens meanwhile, what is loaded no longer belongs to it
            lagging = self._load_lags(partition, ballots)
            if self._is_majority(topology, partition, answering):
                self._forget(partition, ballots)
            await self._load(topology, partition, ballots, needed)
        else:
            lagging = {}
        if agreed is not None:
            self.disputes.pop(partition, None)
            look.suspects = {}
        look.digest = agreed
        self.inventory.set_replicas(partition, len(answering), lagging)
        return len(answering) == len(owners) and self._is_majority(topology, partition, answering)

    @staticmethod
    def _is_majority(topology: Topology, partition: int, answering: list[NodeId]) -> bool:
        return len(answering) > len(topology.meta_view(partition).sets[0]) // 2

    async def _ballots(self, node: NodeId, partition: int, tag: int) -> dict[bytes, bytes]:
        """What a node accepted; StaleEpoch if it knows a newer layout, under which it may have dropped everything."""
        found: dict[bytes, bytes] = {}
        after = b""
        while True:
            request = RegPull(partition, after, limits.SCAN_RECORDS_MAX, ballots_only=True)
            page, _ = await ask(self._calls, node, request, RegPulled, timeout_s=limits.RPC_TIMEOUT_S)
            if page.fence > tag:
                raise StaleEpoch(f"partition {partition} is fenced at {page.fence} on node {node}")
            for i, key in enumerate(page.keys):
                ballot = page.ballots[16 * i : 16 * i + 16]
                if any(ballot):  # else it was promised only
                    found[key] = ballot
            if not page.more or not page.keys:
                return found
            after = page.keys[-1]

    def _load_lags(self, partition: int, ballots: Mapping[NodeId, Mapping[bytes, bytes]]) -> dict[bytes, int]:
        """Registers that some owners have not got the newest state of, writes that are under way left aside."""
        look = self._meta[partition]
        now_ms = self._clock.wall_ms()
        newest = _newest(ballots)
        suspects: dict[bytes, bytes] = {}
        disputes: list[Dispute] = []
        for key, (ballot, source) in newest.items():
            lagging = tuple(node for node, held in ballots.items() if held.get(key, b"") < ballot)
            if not lagging:
                continue
            suspects[key] = ballot
            age_ms = now_ms - (Ballot.unpack(ballot).time >> 16)
            if age_ms >= SETTLED_MS or look.suspects.get(key) == ballot:
                disputes.append(Dispute(key, ballot, source, lagging))
        if suspects:
            look.seen = None  # look again next time, changed or not
        look.suspects = suspects
        self.disputes[partition] = disputes
        return {dispute.key: len(dispute.lagging) for dispute in disputes}

    def _forget(self, partition: int, ballots: Mapping[NodeId, Mapping[bytes, bytes]]) -> None:
        """Registers that a majority knows nothing of. Fewer owners prove nothing: they may have been away."""
        known = self.inventory.records.get(partition, {})
        for key in [key for key in known if not any(key in held for held in ballots.values())]:
            self.inventory.set_record(partition, key, None)

    async def _load(
        self,
        topology: Topology,
        partition: int,
        ballots: Mapping[NodeId, Mapping[bytes, bytes]],
        needed: dict[int, None],
    ) -> None:
        """Decode registers whose newest ballot is not the one that was decoded."""
        known = self.inventory.records.get(partition, {})
        newest = _newest(ballots)
        wanted: dict[NodeId, list[bytes]] = {}
        for key, (ballot, source) in newest.items():
            record = known.get(key)
            if record is None or record.ballot < ballot:
                wanted.setdefault(source, []).append(key)
        tag = topology.meta_view(partition).tag
        uploads = False
        try:
            for node, keys in wanted.items():
                async for page in scan_states(self._calls, node, partition, tag, keys, sparse=SPARSE):
                    for i, (key, ballot, state) in enumerate(page, start=1):
                        if any(ballot):  # else it was forgotten since
                            record = read_record(key, ballot, state)
                            uploads = uploads or bool(record.upload)
                            self._take(topology, partition, key, record, needed)
                        if i % LOADED_AT_ONCE == 0:
                            await asyncio.sleep(0)
        finally:  # what was read before a call failed is not read again
            if uploads:
                self.inventory.end_parts(partition)

    def _take(self, topology: Topology, partition: int, key: bytes, record: Record, needed: dict[int, None]) -> None:
        for ref in record.blobs:
            if not self.inventory.knows(ref.id):
                for segment in range(ref.segments):
                    needed[topology.partition_of_blob(ref.id, segment)] = None
        self.inventory.set_record(partition, key, record)

    # --- fragments ---

    async def _read_fragments(self, topology: Topology, needed: Mapping[int, None]) -> None:
        now = self._clock.monotonic()
        due: list[tuple[NodeId, int]] = []
        for node, stats in self.stats.items():
            for partition in range(topology.map.partitions):
                changes = stats.data_changes[partition] if partition < len(stats.data_changes) else 0
                signature = (stats.boot, changes)
                look = self._data.setdefault((node, partition), _Read())
                if look.due(signature, now) or (partition in needed and signature != look.signature):
                    due.append((node, partition))
            await asyncio.sleep(0)
        due.sort(key=lambda one: one[1])  # all nodes of a partition close together in time

        async def one(what: tuple[NodeId, int]) -> None:
            node, partition = what
            noted = -1
            while noted != self.inventory.noted(node, partition):  # else it is older than what repair has noted since
                noted = self.inventory.noted(node, partition)
                try:
                    listing = await self._list(node, partition)
                except ObjstoreError as error:
                    log.debug("survey: fragments of partition %d on %s: %s", partition, node, error)
                    self.listed = False
                    return
            self.inventory.set_fragments(node, partition, listing)
            look = self._data[what]
            look.signature, look.at = look.seen, now

        await in_parallel(WIDTH, due, one)

    def has_told_all(self, node: NodeId) -> bool:
        """Of a node without a share: it took nothing in any more when the last look began to read what nodes hold, and
        nothing had changed there that is not read yet."""
        if node not in self.stats or not self.stats[node].closed:
            return False
        looks = [self._data.get((node, partition)) for partition in range(self.inventory.topology.map.partitions)]
        return self.listed and all(look is not None and look.rests for look in looks)

    async def _list(self, node: NodeId, partition: int) -> bytes:
        pages: list[bytes] = []
        after = b""
        while True:
            request = FragList(partition, after, LIST_LIMIT)
            page, _ = await ask(self._calls, node, request, FragListed, timeout_s=limits.RPC_TIMEOUT_S)
            pages.append(page.fragments)
            if not page.more or not page.fragments:
                return b"".join(pages)
            after = page.fragments[-21:]


def _newest(ballots: Mapping[NodeId, Mapping[bytes, bytes]]) -> dict[bytes, tuple[bytes, NodeId]]:
    newest: dict[bytes, tuple[bytes, NodeId]] = {}
    for node, held in ballots.items():
        for key, ballot in held.items():
            if key not in newest or ballot > newest[key][0]:
                newest[key] = (ballot, node)
    return newest
