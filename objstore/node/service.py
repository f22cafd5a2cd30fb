"""The node as others see it: one handler per message, over the stores of this package.

`open_node` puts them together from a data folder and starts the one periodic task. Not here: configuration, network,
the lease in the coordinator (`objstore.cli`), and every decision about which node should hold what.

After a failure of its disk the node refuses everything (`on_fatal` is how its process learns that it must end).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec

from objstore.model import limits
from objstore.model.cluster import Level
from objstore.model.errors import Fatal, InvalidRequest, ObjstoreError, StaleEpoch, Unreachable
from objstore.model.histogram import Histogram
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubControl, ScrubReport
from objstore.node import damage, identity, index, journal, register_rows, sealed, trimming
from objstore.node.commit import GroupCommit, IndexLost
from objstore.node.journal import Journal
from objstore.node.journal_format import SALT_BYTES
from objstore.node.pace import Pace
from objstore.node.parts import Parts
from objstore.node.parts import recover as recover_parts
from objstore.node.quarantine import Bounds
from objstore.node.scrub import Scrub, Source
from objstore.node.scrub_place import Places
from objstore.node.scrub_sources import Fragments, IndexRows, JournalRecords
from objstore.node.sealed import SealedKV
from objstore.node.space import Room, Thresholds
from objstore.node.streams import Streams
from objstore.node.volumes import VOLUME_BYTES, Volumes
from objstore.ports import KV, Buffer, Clock, DamagedKV, Disk, Later, Random
from objstore.wire import messages as msg
from objstore.wire.messages import NodeStatsReply, Pong, Reply, Request

logger = logging.getLogger(__name__)

# Of the key-value store of a node, and its name in the data folder. `counted`: see SealedKV.
INDEX = "index"
TABLES = (identity.TABLE, *index.TABLES, *register_rows.TABLES, journal.TABLE, trimming.TABLE, sealed.TABLE)
COUNTED = tuple(table for table in TABLES if table not in (register_rows.INLINE, sealed.TABLE))
TICK_S = 10.0

INCOMING = (msg.FragPut, msg.FragOpen, msg.FragCommit)
CLIENT_CALLS = (msg.RegRead, msg.RegPrepare, msg.FragRead, msg.FragPut, msg.FragOpen)
"""What operations of clients consist of, unless it is backfill."""

_Quick: TypeAlias = Callable[[Any, Buffer], "tuple[Reply, Buffer] | Later | None"]
_Handler: TypeAlias = Callable[[Any, Buffer], Awaitable[tuple[Reply, Buffer]]]


async def open_node(
    disk: Disk,
    raw: KV,
    clock: Clock,
    random: Random,
    *,
    cluster_id: str,
    name: str,
    zone: str,
    capacity_bytes: int,
    reserve_bytes: int,
    partition_bits: int = limits.PARTITION_BITS,
    volume_bytes: int = VOLUME_BYTES,
    record_file_bytes: int = journal.FILE_BYTES,
    quarantine: Bounds | None = None,
    thresholds: Thresholds | None = None,
    scrub_rate: int = 0,
    quick_s: float = 0.0,
    on_fatal: Callable[[Fatal], None] = lambda fatal: None,
    newest_map: Callable[[], bytes] = bytes,
    has_share: Callable[[NodeId], bool] = lambda node: True,
) -> NodeService:
    """Start on a data folder: recover, or begin. `raw` must have TABLES. Raises Fatal when the folder is not ours.
    scrub_rate: bytes per second that are read back to find rot; 0 = none.
    quick_s: how long blocking work may usually take that is done on the event loop (`objstore.node.pace`).
    newest_map: the encoded cluster map as far as this process knows it, for those who ask; b"" = none.
    has_share: whether that map gives this node a share of the data.

    A store that is found damaged is marked, and the node ends; whoever starts it again sets the store aside first."""
    fresh_id = NodeId(random.bytes(8).hex())
    loop = asyncio.get_running_loop()
    opened: list[Parts] = []

    def on_damage(found: DamagedKV) -> None:
        if opened:
            loop.call_soon_threadsafe(opened[0].commits.failed, found)

    def ending(fatal: Fatal) -> None:
        if isinstance(fatal, IndexLost):
            _mark_lost(disk, fatal)
        on_fatal(fatal)

    def recover() -> Parts:
        kv = SealedKV(raw, COUNTED, on_damage=on_damage)
        found = identity.establish(disk, kv, cluster_id, partition_bits, fresh_id)
        begun = partial(Journal, file_bytes=record_file_bytes, reserve_bytes=reserve_bytes)
        records = begun(disk, cluster_id, found.node_id, partial(random.bytes, SALT_BYTES))
        volumes = Volumes(disk, volume_bytes=volume_bytes)
        commits = GroupCommit(kv, volumes, records, ending, Pace(quick_s, clock.monotonic))
        room = Room(capacity_bytes, reserve_bytes, thresholds or Thresholds())
        return recover_parts(found, disk, kv, clock, records, volumes, commits, room, Pace(quick_s, clock.monotonic))

    try:
        parts = await loop.run_in_executor(None, recover)
    except DamagedKV as error:
        lost = IndexLost.by(error)
        _mark_lost(disk, lost)
        raise lost from error
    except OSError as error:
        raise Fatal(f"The data folder cannot be opened: {error}. Check its disk and its permissions.") from error
    opened.append(parts)
    streams = Streams(parts.fragments, clock, int.from_bytes(random.bytes(6), "big"))
    boot = int.from_bytes(random.bytes(6), "big")
    scrub = _scrub(parts, Places(disk), clock, scrub_rate) if scrub_rate else None
    return NodeService(
        parts,
        streams,
        quarantine or Bounds(),
        scrub,
        newest_map,
        lambda: has_share(parts.node_id),
        name=name,
        zone=zone,
        boot=boot,
        clock=clock,
    )


def _mark_lost(disk: Disk, lost: IndexLost) -> None:
    try:
        damage.mark(disk, INDEX, lost.why)
    except OSError as error:
        logger.critical("The damage of the index cannot be noted (%s); it will be found again.", error)


def _scrub(parts: Parts, places: Places, clock: Clock, rate: int) -> Scrub:
    sources: list[Source] = [
        IndexRows(parts.kv, TABLES, lambda: parts.space.index().used),
        JournalRecords(parts.records, parts.compactor),
        Fragments(parts.fragments, parts.volumes),
    ]
    return Scrub(sources, places, clock, rate, lambda: parts.is_busy, lambda: parts.demand.calls)


class NodeReport(NamedTuple):
    """What goes into the node's lease as it is: fields of `model.cluster.NodeLease`."""

    level: Level
    room_bytes: int
    index_used_bytes: int
    index_size_bytes: int
    damaged: int
    damaged_ms: int
    scrub: ScrubReport
    sync_ms: int


class NodeService:
    """Service of one node. `close` it before its disk and key-value store."""

    def __init__(
        self,
        parts: Parts,
        streams: Streams,
        quarantine: Bounds,
        scrub: Scrub | None,
        newest_map: Callable[[], bytes],
        has_share: Callable[[], bool],
        *,
        name: str,
        zone: str,
        boot: int,
        clock: Clock,
    ) -> None:
        self.id = parts.node_id
        self._clock = clock
        self.name = name
        self.zone = zone
        self._volumes = parts.volumes
        self._space = parts.space
        self._commits = parts.commits
        self._registers = registers = parts.registers
        self._fragments = fragments = parts.fragments
        self._lost = lost = parts.lost
        self._streams = streams
        self._scrub = scrub
        self._quarantine = quarantine
        self._newest_map = newest_map
        self._has_share = has_share
        self._incoming = 0  # fragments on their way in
        self.coordinator_away_ms: Callable[[], int] = lambda: 0  # set by whoever follows it for this node
        self._boot = boot
        self._demand = parts.demand
        self._quick: dict[type, _Quick] = {
            msg.RegRead: registers.read,
            msg.RegPrepare: registers.prepare,
            msg.RegAccept: registers.accept,
            msg.RegPages: registers.vouch,
        }
        self._handlers: dict[type, _Handler] = {
            msg.Ping: self._ping,
            msg.RegRead: registers.read_later,
            msg.RegScan: registers.scan,
            msg.RegPages: registers.pages,
            msg.RegFence: registers.fence,
            msg.RegPull: registers.pull,
            msg.RegInstall: registers.install,
            msg.RegDigests: registers.digests,
            msg.RegDrop: registers.drop,
            msg.RecPull: lost.pull,
            msg.RecDone: lost.done,
            msg.RegForget: registers.forget,
            msg.FragPut: fragments.put,
            msg.FragOpen: streams.open,
            msg.FragWrite: streams.write,
            msg.FragCommit: streams.commit,
            msg.FragAbort: streams.abort,
            msg.FragHead: fragments.head,
            msg.FragRead: fragments.read,
            msg.FragLocate: fragments.locate,
            msg.FragList: fragments.list,
            msg.FragVerify: fragments.verify,
            msg.FragDelete: fragments.delete,
            msg.NodeStats: self._node_stats,
            msg.MapRead: self._map_read,
        }
        self._compactor = parts.compactor
        self._compactor.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick_forever())]
        if scrub is not None:
            self._tasks.append(loop.create_task(scrub.run()))

    @property
    def has_lost_records(self) -> bool:
        """Journals of former lives are here, for recovery."""
        return bool(self._lost)

    @property
    def is_written(self) -> bool:
        """It was a member of a cluster map: something was stored here, or moved here or away."""
        return bool(self._registers.count or self._fragments.count or self._registers.is_fenced)

    def begin(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, Buffer] | Later | None:
        """See ports.Service: what registers answer, which is most of what a node is asked."""
        if self._commits.fatal is not None:
            raise self._commits.refusal()
        if isinstance(request, msg.Named):
            request = self._for_me(request)
        quick = self._quick.get(type(request))
        if quick is None:
            return None
        try:
            begun = quick(request, payload)
        except DamagedKV as error:
            raise self._commits.failed(error) from error
        if begun is not None and isinstance(request, CLIENT_CALLS) and not getattr(request, "backfill", False):
            self._demand.calls += 1
        return begun

    async def handle(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, Buffer]:
        begun = self.begin(request, payload)
        if isinstance(begun, Later):
            await begun.done
            return begun.answer
        if begun is not None:
            return begun
        if isinstance(request, msg.Named):
            request = self._for_me(request)
        handler = self._handlers.get(type(request))
        if handler is None:
            raise InvalidRequest(f"a node does not answer {type(request).__name__}; ask the coordinator")
        if isinstance(request, CLIENT_CALLS) and not getattr(request, "backfill", False):
            self._demand.calls += 1
        try:
            if isinstance(request, INCOMING):
                return await self._take_in(handler, request, payload)
            return await handler(request, payload)
        except DamagedKV as error:
            raise self._commits.failed(error) from error

    async def _take_in(self, handler: _Handler, request: Request, payload: Buffer) -> tuple[Reply, Buffer]:
        """Fragments come only to who has a share: one that was drained stays empty, whatever an old map says to a
        writer, so that it can be let go of (INV-17)."""
        if not self._has_share():
            raise StaleEpoch(f"{self.name} has no share of the data any more; there is a later cluster map")
        self._incoming += 1
        try:
            return await handler(request, payload)
        finally:
            self._incoming -= 1

    def _for_me(self, named: msg.Named) -> Request:
        """What is asked of this node. Who lost the disk and came back under the old address is another acceptor: it
        must not answer for the one that made promises and accepted values there."""
        if named.node != self.id:
            raise Unreachable(f"node {named.node} is no longer here: this is node {self.id}, with another disk")
        try:
            return msg.decode_request(named.request)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"the request inside cannot be read: {error}") from error

    def tick(self) -> None:
        """Periodic work: end the streams that nobody writes to any more."""
        dropped = self._streams.drop_idle()
        if dropped:
            logger.warning("%d unfinished fragment streams were silent for too long and are dropped", dropped)

    async def check_volumes(self) -> None:
        """Periodic work: notice volumes that somebody removed or cut, and let go of what was damaged long ago. What
        fails is tried again the next time."""
        if self._commits.fatal is not None:
            return
        try:
            await self._fragments.quarantine_lost()
            await self._fragments.purge_quarantine(self._quarantine)
        except (OSError, ObjstoreError) as error:
            logger.warning("The volumes could not be checked now: %s", error)

    def stats(self, *, changes: bool = False) -> NodeStatsReply:
        return NodeStatsReply(
            id=self.id,
            name=self.name,
            capacity_bytes=self._space.capacity_bytes,
            used_bytes=self._volumes.kept_bytes,
            free_bytes=self._space.free_bytes(),
            fragments=self._fragments.count,
            registers=self._registers.count,
            boot=self._boot,
            data_changes=self._fragments.changes.tolist() if changes else [],
            meta_changes=self._registers.changes.tolist() if changes else [],
            client_calls=self._demand.calls,
            closed=not self._has_share() and not self._incoming,
        )

    def steer_scrub(self, control: ScrubControl) -> None:
        """What an operator asks of the scrub of every node. One that is configured not to scrub does not."""
        if self._scrub is not None:
            self._scrub.steer(control)

    def report(self) -> NodeReport:
        index_used, index_size = self._space.index()
        toll = self._fragments.toll
        return NodeReport(
            level=self._space.level(),
            room_bytes=self._space.room_bytes(),
            index_used_bytes=index_used,
            index_size_bytes=index_size,
            damaged=toll.open,
            damaged_ms=toll.last_ms,
            scrub=self._scrub.report() if self._scrub is not None else ScrubReport(),
            sync_ms=round(1000 * self._commits.times.usual_s(asyncio.get_running_loop().time())),
        )

    @property
    def commit_times(self) -> Histogram:
        return self._commits.times.histogram

    async def close(self) -> None:
        """Everything that was queued is durable or has failed on return."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._compactor.close()
        await self._commits.close()

    async def _ping(self, request: msg.Ping, payload: Buffer) -> tuple[Reply, Buffer]:
        return Pong(self.name, "node", self.id, self._clock.wall_ms(), self.coordinator_away_ms()), b""

    async def _node_stats(self, request: msg.NodeStats, payload: Buffer) -> tuple[Reply, Buffer]:
        return self.stats(changes=request.changes), b""

    async def _map_read(self, request: msg.MapRead, payload: Buffer) -> tuple[Reply, Buffer]:
        """Nothing of it is kept over a restart: other nodes know it, and the coordinator tells it again."""
        return msg.MapFound(), self._newest_map()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()
            await self.check_volumes()
