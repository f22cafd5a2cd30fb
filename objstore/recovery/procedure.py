"""The recovery, step by step. Look first (`examine` changes nothing), then `carry_out` what was found.

    claim      the map is marked with the epoch of this recovery, by compare-and-swap: nobody else changes it from now
               on, and a recovery that was interrupted, or runs at the same time, is left with lower tags
    close      every live node refuses lower tags; those that become owners forget what they held of the partition
    rebuild    per partition: read all replicas, merge, give the values and the floor to a majority of the new owners
    publish    the new map, by compare-and-swap
    release    the journals of the former lives may go

Until the map is published nothing is destroyed that it would not have destroyed anyway (INV-6: what a node that was
no owner held), so that an interrupted recovery is simply run again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from objstore.cluster.bootstrap import map_of
from objstore.cluster.port import CLUSTER_KEY, MAP_KEY, Coordinator, Entry
from objstore.cluster.topology import read_leases
from objstore.engine.calls import in_parallel
from objstore.model import limits
from objstore.model.cluster import ClusterMap, ErasureCode, NodeLease, View, decode_map, encode_map
from objstore.model.errors import Conflict, ObjstoreError, QuorumLost, Unavailable
from objstore.model.ids import NodeId
from objstore.placement.topology import Topology
from objstore.ports import Random, Transport
from objstore.recovery import plan
from objstore.recovery.census import Census
from objstore.recovery.merge import (
    Holding,
    held_by_majority,
    highest_floor,
    installable,
    lacking,
    newest,
    newest_without_map,
)
from objstore.recovery.plan import Outlook
from objstore.recovery.pull import Leaseholders, again, ask_again, holding_of, lives_of
from objstore.recovery.roster import Roster, call_the_roll
from objstore.register.forgetting import Look
from objstore.repair.reading import Whole, installing, look_at
from objstore.wire.messages import MapFound, MapRead, Ok, RecDone, RegDrop, RegFence, RegForget

log = logging.getLogger(__name__)

WIDTH = 4  # partitions in work at a time; each is held in memory whole
CLOSE_TIMEOUT_S = 30.0  # up to 2^16 partitions in one commit
INSTALL_BYTES = limits.SCAN_BYTES_MAX

Progress = Callable[[str, int, int], None]  # step, done, of how many


@dataclass(frozen=True, slots=True)
class Defaults:
    """For a map that has to be made anew, as for a first one."""

    code: ErasureCode
    partition_bits: int
    codec: str
    initial_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What `examine` saw. `before`: the map as it is in the coordinator; None: there is none, or none that held."""

    cluster_id: str
    before: ClusterMap | None
    revision: int
    planned: ClusterMap  # what will be published
    leases: Mapping[NodeId, NodeLease]
    roster: Roster
    outlook: Outlook
    census: Census

    @property
    def unfinished(self) -> bool:
        """An earlier recovery was interrupted."""
        return (self.before is None and self.revision > 0) or bool(self.before and self.before.recovering)

    @property
    def is_needed(self) -> bool:
        return self.before is None or self.unfinished or self.outlook.headless > 0

    @property
    def missing_names(self) -> list[str]:
        members = self.before.nodes if self.before else ()
        return sorted(node.name for node in members if node.id in self.roster.missing)


class MapChanged(Conflict):
    """Before anything was done: what was found is no longer so."""


class Recovery:
    def __init__(
        self, coordinator: Coordinator, transport: Transport, random: Random, defaults: Defaults, progress: Progress
    ) -> None:
        self._coordinator = coordinator
        self._transport = transport
        self._proposer = int.from_bytes(random.bytes(8), "big") | 1
        self._defaults = defaults
        self._progress = progress

    # --- look ---

    async def examine(self) -> Finding:
        identity = await self._coordinator.get(CLUSTER_KEY)
        if identity is None:
            raise Unavailable("the coordinator does not say which cluster this is; is it still starting?")
        cluster_id = cluster_id_of(identity)
        entry = await self._coordinator.get(MAP_KEY)
        found = decode_map(entry.value) if entry else None
        before = found if found and found.current.epoch else None
        leases = await read_leases(self._coordinator)
        if not leases:
            raise Unavailable("no node runs: start all that there are, then look again")
        if before is None and not any(lease.has_former_life for lease in leases.values()):
            raise Unavailable("there is nothing to recover: no node holds data of a former life, and there is no map")
        calls = Leaseholders(self._transport, leases)
        roster = await _roll(calls, before, leases)
        partitions = 1 << (before.partition_bits if before else self._defaults.partition_bits)
        census, tag = await self._count(calls, before, roster, partitions)
        tag = max(tag, _taken(found), await _remembered(calls, leases))
        roster = await _roll(calls, before, leases)  # damage shows when it is read
        planned = self._plan(cluster_id, before, roster, leases, plan.next_epoch(before, tag))
        outlook = plan.outlook(before, roster) if before else self._outlook_without_map(leases, partitions)
        revision = entry.revision if entry else 0
        return Finding(cluster_id, before, revision, planned, leases, roster, outlook, census)

    async def _count(
        self, calls: Leaseholders, before: ClusterMap | None, roster: Roster, partitions: int
    ) -> tuple[Census, int]:
        """(what there is, the highest tag that anybody has seen)"""
        census = Census()
        tag = 0
        done = 0

        async def one(partition: int) -> None:
            nonlocal tag, done
            values, holdings = await self._merged(calls, before, roster, partition)
            census.add(values.values())
            tag = max([tag, *(holding.tag for holding in holdings.values())])
            done += 1
            self._progress("reading", done, partitions)

        await in_parallel(WIDTH, range(partitions), one)
        return census, tag

    async def _merged(
        self, calls: Leaseholders, before: ClusterMap | None, roster: Roster, partition: int
    ) -> tuple[dict[bytes, Whole], dict[NodeId, Holding]]:
        """Who counts: with a map the owners, without one everybody."""
        replicas = plan.owners_before(Topology(before), partition) if before else tuple(roster.sources)
        holdings: dict[NodeId, Holding] = {}

        async def read(replica: NodeId) -> None:
            holdings[replica] = await holding_of(calls, roster.sources[replica], partition)

        await in_parallel(len(replicas), [replica for replica in replicas if replica in roster.sources], read)
        if before is not None:
            return newest(holdings.values()), holdings
        return newest_without_map(holdings, self._defaults.code.m + 1), holdings

    def _plan(
        self,
        cluster_id: str,
        before: ClusterMap | None,
        roster: Roster,
        leases: Mapping[NodeId, NodeLease],
        epoch: int,
    ) -> ClusterMap:
        if before is not None:
            return plan.recovered_map(before, roster, leases, epoch)
        made = map_of(
            leases.values(),
            cluster_id=cluster_id,
            code=self._defaults.code,
            partition_bits=self._defaults.partition_bits,
            codec=self._defaults.codec,
        )
        return msgspec.structs.replace(made, current=View(epoch, made.current.layout))

    def _outlook_without_map(self, leases: Mapping[NodeId, NodeLease], partitions: int) -> Outlook:
        """How many owners are missing nobody knows; the configuration says how many nodes there were at first."""
        code = self._defaults.code
        missing = max(self._defaults.initial_nodes, code.nodes_min) - len(leases)
        return Outlook(partitions, partitions, partitions if missing > code.m else 0)

    # --- act ---

    async def carry_out(self, found: Finding) -> ClusterMap:
        """The map that holds now. Raises Conflict when somebody else changed it meanwhile: look again."""
        why = plan.unable(found.planned, found.leases)
        if why:
            raise QuorumLost(why)
        calls = Leaseholders(self._transport, found.leases)
        revision = await self._claim(found)
        await self._close(calls, found)
        await self._rebuild(calls, found)
        if await self._coordinator.put(MAP_KEY, encode_map(found.planned), expected=revision) is None:
            raise Conflict("another recovery was faster; look again: objstore status")
        log.info("metadata recovered: layout %d holds", found.planned.current.epoch)
        await self._release(calls, found)
        return found.planned

    async def _claim(self, found: Finding) -> int:
        epoch = found.planned.current.epoch
        if found.before is not None:
            claimed = msgspec.structs.replace(found.before, recovering=epoch)
        else:
            nobody = View(0, found.planned.current.layout)
            claimed = msgspec.structs.replace(found.planned, current=nobody, recovering=epoch)
        revision = await self._coordinator.put(MAP_KEY, encode_map(claimed), expected=found.revision)
        if revision is None:
            raise MapChanged("the cluster map was changed meanwhile; look again: objstore recover")
        return revision

    async def _close(self, calls: Leaseholders, found: Finding) -> None:
        """From here on no round under an older tag can end at any node that runs."""
        topology = Topology(found.planned)
        partitions = range(found.planned.partitions)
        old = Topology(found.before) if found.before else None
        forgetting: dict[NodeId, list[int]] = {node: [] for node in found.leases}
        for partition in partitions:
            sources = plan.owners_before(old, partition) if old else tuple(found.leases)
            for node in topology.meta_owners(partition, found.planned.current):
                if node in forgetting and node not in sources:
                    forgetting[node].append(partition)
        tag = 2 * found.planned.current.epoch
        done = 0

        async def one(node: NodeId) -> None:
            nonlocal done
            drop = forgetting[node]
            if drop:
                await ask_again(calls, node, RegDrop(drop, tag), Ok, timeout_s=CLOSE_TIMEOUT_S)
            keep = sorted(set(partitions).difference(drop))
            await ask_again(calls, node, RegFence(keep, tag), Ok, timeout_s=CLOSE_TIMEOUT_S)
            done += 1
            self._progress("closing", done, len(found.leases))

        await in_parallel(WIDTH, sorted(found.leases), one)

    async def _rebuild(self, calls: Leaseholders, found: Finding) -> None:
        topology = Topology(found.planned)
        done = 0

        async def one(partition: int) -> None:
            nonlocal done
            values, holdings = await self._merged(calls, found.before, found.roster, partition)
            owners = topology.meta_owners(partition, found.planned.current)
            targets = [node for node in owners if node in found.leases]
            tag = 2 * found.planned.current.epoch
            await self._give(calls, partition, tag, values, targets, len(owners))
            await _raise_floor(calls, partition, tag, highest_floor(holdings.values()), targets, len(owners))
            done += 1
            self._progress("rebuilding", done, found.planned.partitions)

        await in_parallel(WIDTH, range(found.planned.partitions), one)

    async def _give(
        self,
        calls: Leaseholders,
        partition: int,
        tag: int,
        values: Mapping[bytes, Whole],
        targets: list[NodeId],
        owners: int,
    ) -> None:
        looks = await _look(calls, partition, targets)
        values = installable(values, looks.values(), self._proposer)

        async def one(node: NodeId) -> None:
            try:
                for page in _pages(lacking(values, looks[node])):
                    request, data = installing(partition, tag, page)
                    await ask_again(calls, node, request, Ok, data)
            except Unavailable as error:
                log.warning("recovery: node %s did not take all of partition %d: %s", node, partition, error)

        await in_parallel(len(targets), list(looks), one)
        if not held_by_majority(values, (await _look(calls, partition, targets)).values(), owners):
            raise QuorumLost(
                f"partition {partition}: no majority of its new owners took all of its registers; nothing is lost, "
                "run it again: objstore recover"
            )

    async def _release(self, calls: Leaseholders, found: Finding) -> None:
        """Best effort: the repairer does it too (a member with journals of former lives, under a settled map)."""
        for node, lease in sorted(found.leases.items()):
            if lease.lost and any(member.id == node for member in found.planned.nodes):
                try:
                    await ask_again(calls, node, RecDone(), Ok, timeout_s=CLOSE_TIMEOUT_S)
                except ObjstoreError as error:
                    log.warning("node %s keeps the journals of its former lives for now: %s", lease.name, error)


def cluster_id_of(identity: Entry) -> str:
    return str(json.loads(identity.value)["id"])


async def _roll(calls: Leaseholders, before: ClusterMap | None, leases: Mapping[NodeId, NodeLease]) -> Roster:
    lives = {node: await lives_of(calls, node) for node, lease in sorted(leases.items()) if lease.lost}
    return call_the_roll(before, leases, lives)


def _taken(found: ClusterMap | None) -> int:
    """As a tag: the epoch of a recovery before this one, also of one that had no map to begin with."""
    return 2 * found.recovering if found else 0


async def _remembered(calls: Leaseholders, leases: Mapping[NodeId, NodeLease]) -> int:
    """As a tag: the newest layout that the nodes know of. It is above the coordinator's map only if an old copy of that
    was put back. Were the map that is published not later, gateways would go on by the one that they remember."""
    seen = 0

    async def one(node: NodeId) -> None:
        nonlocal seen
        _, raw = await ask_again(calls, node, MapRead(), MapFound)
        if raw:
            seen = max(seen, 2 * decode_map(raw).newest.epoch)

    await in_parallel(len(leases), sorted(leases), one)
    return seen


async def _look(calls: Leaseholders, partition: int, nodes: list[NodeId]) -> dict[NodeId, Look]:
    found: dict[NodeId, Look] = {}

    async def one(node: NodeId) -> None:
        try:
            found[node] = await again(lambda: look_at(calls, node, partition))
        except Unavailable as error:
            log.warning("recovery: partition %d on node %s: %s", partition, node, error)

    await in_parallel(len(nodes), nodes, one)
    return found


def _pages(records: list[Whole]) -> list[list[Whole]]:
    pages: list[list[Whole]] = []
    size = 0
    for record in records:
        length = len(record.key) + len(record.listing) + len(record.state) + len(record.data)
        if not pages or len(pages[-1]) == limits.SCAN_RECORDS_MAX or size + length > INSTALL_BYTES:
            pages.append([])
            size = 0
        pages[-1].append(record)
        size += length
    return pages


async def _raise_floor(
    calls: Leaseholders, partition: int, tag: int, floor: bytes, targets: list[NodeId], owners: int
) -> None:
    if not any(floor):
        return
    raised = 0

    async def one(node: NodeId) -> None:
        nonlocal raised
        try:
            await ask_again(calls, node, RegForget(partition, tag, floor), Ok)
            raised += 1
        except Unavailable as error:
            log.warning("recovery: node %s did not raise the floor of partition %d: %s", node, partition, error)

    await in_parallel(len(targets), targets, one)
    if raised <= owners // 2:
        raise QuorumLost(f"partition {partition}: no majority of its new owners raised its floor; run it again")
