"""The cluster as this process knows it: the map, and the nodes that live. Follows the coordinator.

A map may also come from another process that has seen it (`offer`), for a process that missed a change of it and
cannot reach the coordinator. Such a map is as good as one from there: every map that anybody ever read was published by
compare-and-swap and was durable before anybody could read it, so all of them are steps of one history
(`ClusterMap.progress`). And an early one is safe to act on, whoever it came from: its tags are lower than those of the
owners who have moved on, and they refuse them (`register/DESIGN.md`).

Invariants:

- the coordinator's absence changes nothing here: the last view stays (P7), `last_contact` tells its age;
- after an absence the coordinator may have lost all leases through no fault of their holders; a node that is
  missing then is kept for `AMNESTY_S`, the time it has to register again;
- the map never goes back: not to an earlier one (INV-15), not to another cluster;
- a map under recovery is not taken: nobody owns anything by it (`objstore.recovery`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from objstore.cluster.port import MAP_KEY, NODES, Coordinator, Entry
from objstore.model.cluster import ClusterMap, NodeLease, decode_map, decode_node_lease
from objstore.model.errors import Fatal, ObjstoreError, Unavailable
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Clock

log = logging.getLogger(__name__)

WATCH_S = 20.0
RETRY_S = 0.5  # after the coordinator did not answer
PAUSE_S = 0.05  # between two reads of what changes often, so that many changes are read at once
AMNESTY_S = 10.0


class Directory:
    """One per process. `topology` is None until a first map was read. `with_nodes`: follow the leases too; their
    changes are many, so that those who only need the map do without."""

    def __init__(self, coordinator: Coordinator, clock: Clock, *, with_nodes: bool = True) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._prefixes = (MAP_KEY, NODES) if with_nodes else (MAP_KEY,)
        self._nodes: dict[NodeId, NodeLease] = {}
        self._amnesty_until = 0.0
        self._forgiven = False  # `nodes` has some without a lease
        self._seen: dict[str, int] = {}  # prefix -> revision of the store at the newest read
        self._tasks: list[asyncio.Task[None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # replaced at every change
        self.topology: Topology | None = None
        self.raw_map = b""  # of `topology`
        self.map_revision = 0  # of the map that the coordinator last showed
        self.last_contact = clock.monotonic()  # before the first answer: when we began to ask
        self._unreadable = ""  # why the map that the coordinator shows is of no use here
        self.problem = "not asked yet"  # why the coordinator did not answer; "" while it does
        self._away_since: float | None = None  # when it did not answer first

    @property
    def nodes(self) -> Mapping[NodeId, NodeLease]:
        """The nodes that live, as far as known."""
        return MappingProxyType(self._nodes)

    def lease(self, node: NodeId) -> NodeLease | None:
        """None: as far as known it does not live."""
        return self._nodes.get(node)

    @property
    def away_ms(self) -> int:
        """For how long the coordinator has not answered; 0 while it does."""
        return 0 if self._away_since is None else 1 + int((self._clock.monotonic() - self._away_since) * 1000)

    def gives_share(self, node: NodeId) -> bool:
        """Whether the newest map gives it a share of the data; so it is while no map is known."""
        return self.topology is None or node in self.topology.map.newest.layout.nodes

    def start(self) -> None:
        for prefix in self._prefixes:
            self._tasks.append(asyncio.create_task(self._follow(prefix), name=f"directory {prefix}"))

    async def close(self) -> None:
        tasks = [*self._tasks, *([self._refreshing] if self._refreshing else [])]
        self._tasks = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Read everything again now; who asks meanwhile waits for the same read. Raises Unavailable."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_all(), name="directory refresh")
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())  # somebody looked
        await asyncio.shield(self._refreshing)

    def offer(self, raw: bytes) -> None:
        """A map that another process has seen: taken if it is later than ours."""
        found = self._readable(raw)
        known = self.topology
        if found is not None and (known is None or found.progress > known.map.progress):
            log.info("layout %d is known from another process", found.newest.epoch)
            self._take_map(raw, found)

    async def wait_ready(self, timeout_s: float) -> None:
        """Until there is a map. On time-out: Unavailable, with what is missing."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.topology is None:
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"no cluster map after {timeout_s:.0f} s: {self.missing()}") from None

    async def wait_change(self, timeout_s: float) -> bool:
        """Until the map or the set of live nodes changes; False on time-out."""
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def is_lost(self) -> bool:
        """There is no map that holds, but there are nodes with data of this cluster."""
        asked = MAP_KEY in self._seen
        unknown = self.topology is None and not self._unreadable
        return asked and unknown and any(lease.has_former_life for lease in self._nodes.values())

    def missing(self) -> str:
        """Why there is no map, as a line to show."""
        if self.problem:
            return f"the coordinator does not answer ({self.problem})"
        if self._unreadable:
            return self._unreadable
        if self.is_lost:
            return "the metadata or the cluster map was lost; run: objstore recover"
        if MAP_KEY not in self._seen:
            return "it was not read yet: this process has just started; retry"
        names = " ".join(sorted(lease.name for lease in self._nodes.values())) or "none"
        return f"too few nodes have registered, or no repairer runs to make the map; nodes seen: {names}"

    # --- following ---

    async def _follow(self, prefix: str) -> None:
        revision = -1
        while True:
            try:
                if revision >= 0:
                    newest = await self._coordinator.watch(prefix, revision, self._patience_s(prefix))
                    self._heard()
                    if newest == revision and not self._forgiven:
                        continue
                    await asyncio.sleep(PAUSE_S)
                revision = await self._read(prefix)
            except ObjstoreError as error:
                revision = -1  # the coordinator may come back as another one: read, whatever its revision
                self._lost(error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("following %s failed; trying on", prefix)
                revision = -1
                await asyncio.sleep(RETRY_S)

    def _patience_s(self, prefix: str) -> float:
        if prefix == NODES and self._forgiven:
            return min(WATCH_S, max(PAUSE_S, self._amnesty_until - self._clock.monotonic()))
        return WATCH_S

    async def _read_all(self) -> None:
        try:
            for prefix in self._prefixes:
                await self._read(prefix)
        except ObjstoreError as error:
            self._lost(error)
            raise

    async def _read(self, prefix: str) -> int:
        known = self.topology
        entries, revision = await self._coordinator.range(prefix)
        self._heard()
        if revision < self._seen.get(prefix, 0):
            return self._seen[prefix]  # a later read was faster
        self._seen[prefix] = revision
        if prefix == NODES:
            self._take_nodes({entry.key: entry.value for entry in entries})
        else:
            for entry in entries:
                if entry.key == MAP_KEY:
                    self._see_map(entry, known)
        return revision

    def _see_map(self, entry: Entry, before: Topology | None) -> None:
        """What the coordinator shows. `before`: what was known when it was asked."""
        if self.topology is not None and entry.revision == self.map_revision:
            return
        found = self._readable(entry.value)
        if found is None:
            return
        if before is not None and found.progress < before.map.progress:
            log.error("the map went back from epoch %d to %d; keeping ours", before.epoch, found.newest.epoch)
            return
        if self.topology is not None and found.progress < self.topology.map.progress:
            return  # somebody offered a later one meanwhile
        self.map_revision = entry.revision
        if entry.value != self.raw_map:
            self._take_map(entry.value, found)

    def _readable(self, raw: bytes) -> ClusterMap | None:
        """The map in `raw`, if we may act on it."""
        try:
            found = decode_map(raw)
        except (msgspec.DecodeError, Fatal) as error:
            self._unreadable = str(error)
            log.error("a cluster map cannot be read (%s); keeping the last one", error)
            return None
        self._unreadable = ""
        if found.recovering:
            return None  # it says who owns nothing yet: the map before it, or none, stays until the recovery is done
        if self.topology is not None and found.cluster_id != self.topology.map.cluster_id:
            log.error("there is a map of another cluster (%s); keeping ours", found.cluster_id)
            return None
        return found

    def _take_map(self, raw: bytes, found: ClusterMap) -> None:
        self.topology = Topology(found)
        self.raw_map = raw
        self._announce()

    def _take_nodes(self, raw: Mapping[str, bytes]) -> None:
        found: dict[NodeId, NodeLease] = {}
        for key, value in raw.items():
            try:
                found[NodeId(key.removeprefix(NODES))] = decode_node_lease(value)
            except msgspec.DecodeError as error:
                log.error("the lease %s cannot be read (%s); another version of objstore?", key, error)
        gone = [node for node in self._nodes if node not in found]
        self._forgiven = bool(gone) and self._clock.monotonic() < self._amnesty_until
        if self._forgiven:
            found.update((node, self._nodes[node]) for node in gone)
        joined_or_left = found.keys() != self._nodes.keys()
        moved = any(lease.address != self._nodes[node].address for node, lease in found.items() if node in self._nodes)
        self._nodes = found
        if joined_or_left or moved:
            self._announce()

    # --- contact ---

    def _heard(self) -> None:
        self.last_contact = self._clock.monotonic()
        self._away_since = None
        if self.problem:
            self.problem = ""
            if self._nodes:
                log.info("the coordinator answers again")
                self._amnesty_until = self.last_contact + AMNESTY_S

    def _lost(self, error: ObjstoreError) -> None:
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
        if not self.problem:
            log.warning("the coordinator does not answer, going on with what is known: %s", error)
        self.problem = str(error) or type(error).__name__
        self._seen.clear()  # it may come back as another one, counting differently

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
