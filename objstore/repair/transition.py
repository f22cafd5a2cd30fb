"""Moving the metadata from one view to the next: fence, sync, switch. Everything needed to go on is in the map.

    begin     newcomers forget what they knew of the partition (INV-6) and the map gets `next`: from now on every
              operation needs majorities of both owner sets, under the joint tag
    fence     a majority of the old owners refuses older tags for good: no old-only operation can commit any more
    sync      per register the highest ballot of a majority of fenced old owners goes to a majority of the new ones
    mark      the partition's bit in the map; its operations need the new owners alone
    finish    all marked: `next` becomes `current`, and former owners forget

Three things sync must respect, or an acknowledged write could vanish (tests/unit/repair/test_transition.py):

- an old owner outside the majority may hold a ballot that was never chosen. Whoever made it had a majority of
  promises, so one of the majority here promised it. Where a promise is above the highest accepted ballot, copying
  is not enough: the register is *settled*, by a full round under the joint tag, above that promise;
- RegInstall keeps promises like an accept does. A register that could not be installed on a majority is settled;
- what old owners have forgotten, new ones must know as forgotten: a majority of them takes over the floor (INV-11),
  after the values, which it would shut out. Where one of the old majority has forgotten what another still holds, the
  floor is a promise above that ballot like any other, and the register is settled.

Every step is safe to repeat, and to be done by two leaders at once: tags and ballots only rise, and the map is
changed by compare-and-swap.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from objstore.cluster.port import MAP_KEY, Coordinator
from objstore.engine.calls import Calls, ask, in_parallel
from objstore.model import limits
from objstore.model.cluster import ClusterMap, Layout, Node, View, encode_map
from objstore.model.errors import ObjstoreError, QuorumLost
from objstore.model.ids import NodeId
from objstore.model.records import RegisterKey
from objstore.placement.topology import Topology
from objstore.register.forgetting import Look
from objstore.repair.controller import room_for_out
from objstore.repair.ports import Settle
from objstore.repair.reading import Whole, installing, look_at, pull_whole
from objstore.wire.messages import (
    Ok,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegForget,
)

log = logging.getLogger(__name__)

WIDTH = 16  # partitions synced at a time
BATCH = 128  # partitions per change of the map
FENCE_TIMEOUT_S = 10.0  # up to 2^16 partitions in one commit
DROP_TIMEOUT_S = 30.0

_ZERO = bytes(16)


@dataclass(frozen=True, slots=True)
class Versioned:
    """A map as it is in the coordinator."""

    map: ClusterMap
    revision: int


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a step: the map as it is now, and why it went no further ("" = nothing holds it up)."""

    now: Versioned
    held_up: str = ""


class Transition:
    def __init__(self, calls: Calls, coordinator: Coordinator, settle: Settle) -> None:
        self._calls = calls
        self._coordinator = coordinator
        self._settle = settle

    # --- begin ---

    async def begin(
        self,
        start: Versioned,
        layout: Layout,
        out: Collection[NodeId],
        *,
        newcomers: Sequence[Node] = (),
        leaving: Collection[NodeId] = (),
    ) -> Step:
        """Publish the view after the current one: a new layout, or the same with other nodes out.

        Nodes that cannot be prepared are left out of it as well, as far as others can stand in for them. `newcomers`
        become members with it, `leaving` are none any more once it holds."""
        now = start.map
        widened = msgspec.structs.replace(now, nodes=(*now.nodes, *newcomers), leaving=tuple(sorted(leaving)))
        return await self.publish(start, widened, layout, out)

    async def publish(self, start: Versioned, draft: ClusterMap, layout: Layout, out: Collection[NodeId]) -> Step:
        """As `begin`. `draft`: the map to be, but for its next view."""
        assert start.map.next is None
        room = room_for_out(draft.code, layout)
        left_out = sorted(set(out))
        while True:
            view = View(start.map.current.epoch + 1, layout, tuple(left_out))
            planned = msgspec.structs.replace(draft, next=view)
            silent = await self._prepare(planned)
            if not silent:
                break
            left_out = sorted({*left_out, *silent})
            if sum(node in layout.nodes for node in left_out) > room:
                return Step(start, f"{_names(draft, silent)} cannot be prepared to take metadata: no answer")
        if draft == start.map and layout == start.map.current.layout and view.out == start.map.current.out:
            return Step(start)
        topology = Topology(planned)
        same = [p for p in range(planned.partitions) if _same_owners(topology, p)]
        return await self._put(start, msgspec.structs.replace(planned, synced=_with_bits(planned, same)))

    async def replace(self, start: Versioned, old: NodeId, new: Node) -> Step:
        """Publish a layout in which `new`, not a member yet, has every slot of `old`; `old` leaves when it holds."""
        current = start.map.current
        nodes = tuple(new.id if node == old else node for node in current.layout.nodes)
        layout = msgspec.structs.replace(current.layout, nodes=nodes)
        out = [node for node in current.out if node != old]
        return await self.begin(start, layout, out, newcomers=(new,), leaving=(old,))

    async def drop(self, start: Versioned, gone: NodeId) -> Step:
        """Let go of a member without a share."""
        current = start.map.current
        assert gone not in current.layout.nodes
        out = [node for node in current.out if node != gone]
        return await self.begin(start, current.layout, out, leaving=(gone,))

    async def _prepare(self, planned: ClusterMap) -> list[NodeId]:
        """Make every newcomer forget. Returns those that did not confirm."""
        assert planned.next is not None
        topology = Topology(planned)
        newcomers: dict[NodeId, list[int]] = {}
        for partition in range(planned.partitions):
            old = topology.meta_owners(partition, planned.current)
            for node in topology.meta_owners(partition, planned.next):
                if node not in old:
                    newcomers.setdefault(node, []).append(partition)
        silent: list[NodeId] = []

        async def drop(node: NodeId) -> None:
            try:
                request = RegDrop(newcomers[node], _joint_tag(planned))
                await ask(self._calls, node, request, Ok, timeout_s=DROP_TIMEOUT_S)
            except ObjstoreError as error:
                log.warning("transition: node %s is not ready to take metadata: %s", node, error)
                silent.append(node)

        await in_parallel(WIDTH, sorted(newcomers), drop)
        return silent

    # --- go on ---

    async def advance(self, now: Versioned) -> Step:
        """Sync up to BATCH partitions and mark them; or finish. Call it again until the map has no `next`."""
        assert now.map.next is not None
        topology = Topology(now.map)
        left = [p for p in range(now.map.partitions) if not now.map.is_synced(p)]
        if not left:
            return await self._finish(now)
        fenced = await self._fence(topology, left)
        ready = [p for p in left if _has_majority(topology.meta_owners(p, now.map.current), fenced)]
        synced: list[int] = []
        reasons: dict[str, None] = {}
        if len(ready) < len(left):
            reasons[self._missing_old(topology, left, fenced)] = None

        async def sync(partition: int) -> None:
            try:
                await self._sync(topology, partition, fenced)
            except ObjstoreError as error:
                log.info("transition: partition %d waits: %s", partition, error)
                reasons[str(error)] = None
            else:
                synced.append(partition)

        for first in range(0, len(ready), BATCH):
            await in_parallel(WIDTH, ready[first : first + BATCH], sync)
            if synced:
                break
        why = next(iter(reasons), "")
        if not synced:
            return Step(now, why)
        step = await self._put(now, msgspec.structs.replace(now.map, synced=_with_bits(now.map, synced)))
        return Step(step.now, step.held_up or (why if len(ready) <= BATCH else ""))

    async def _fence(self, topology: Topology, partitions: Sequence[int]) -> dict[NodeId, None]:
        """Ask all old owners to refuse older tags. Returns those that confirmed."""
        wanted: dict[NodeId, list[int]] = {}
        for partition in partitions:
            for node in topology.meta_owners(partition, topology.map.current):
                wanted.setdefault(node, []).append(partition)
        done: dict[NodeId, None] = {}

        async def fence(node: NodeId) -> None:
            try:
                request = RegFence(wanted[node], _joint_tag(topology.map))
                await ask(self._calls, node, request, Ok, timeout_s=FENCE_TIMEOUT_S)
            except ObjstoreError as error:
                log.info("transition: node %s is not fenced: %s", node, error)
            else:
                done[node] = None

        await in_parallel(WIDTH, [node for node in sorted(wanted) if self._calls.is_up(node)], fence)
        return done

    async def _finish(self, now: Versioned) -> Step:
        assert now.map.next is not None
        view = now.map.next
        assert not set(now.map.leaving) & set(view.layout.nodes)
        members = tuple(node for node in now.map.nodes if node.id not in now.map.leaving)
        done = msgspec.structs.replace(now.map, nodes=members, current=view, next=None, synced=b"", leaving=())
        return await self._put(now, done)

    async def forget(self, cluster_map: ClusterMap) -> None:
        """Former owners drop what they still hold. Best effort; only where the map has no `next`."""
        assert cluster_map.next is None
        topology = Topology(cluster_map)
        owned: dict[NodeId, set[int]] = {node: set() for node in topology.node_ids}
        for partition in range(cluster_map.partitions):
            for node in topology.meta_owners(partition, cluster_map.current):
                owned.setdefault(node, set()).add(partition)

        async def one(node: NodeId) -> None:
            foreign = [p for p in range(cluster_map.partitions) if p not in owned[node]]
            try:
                found, _ = await ask(
                    self._calls, node, RegDigests(foreign), RegDigested, timeout_s=limits.RPC_TIMEOUT_S
                )
                held = [p for p, count in zip(foreign, found.counts, strict=True) if count]
                if held:
                    request = RegDrop(held, 2 * cluster_map.current.epoch)
                    await ask(self._calls, node, request, Ok, timeout_s=DROP_TIMEOUT_S)
            except ObjstoreError as error:
                log.info("transition: node %s still holds registers of others: %s", node, error)

        await in_parallel(WIDTH, [node for node in topology.node_ids if self._calls.is_up(node)], one)

    # --- sync of one partition ---

    async def _sync(self, topology: Topology, partition: int, fenced: Collection[NodeId]) -> None:
        """Returns when the partition is safe with its new owners; raises Unavailable when it cannot be now."""
        assert topology.map.next is not None
        tag = _joint_tag(topology.map)
        old = topology.meta_owners(partition, topology.map.current)
        new = topology.meta_owners(partition, topology.map.next)
        looks = await self._look(partition, dict.fromkeys((*(node for node in old if node in fenced), *new)))
        sources = {node: looks[node] for node in old if node in looks and looks[node].fence >= tag}
        targets = {node: looks[node] for node in new if node in looks}
        _need_majority(topology, "old", old, sources)
        _need_majority(topology, "new", new, targets)

        best, unsettled = _decide(sources)
        await self._copy(partition, tag, best, sources, targets)
        changed = [node for node, look in targets.items() if any(look.accepted(key) < best[key][0] for key in best)]
        targets.update(await self._look(partition, changed))
        for key, (ballot, _) in best.items():
            if sum(look.accepted(key) >= ballot for look in targets.values()) <= len(new) // 2:
                unsettled[key] = None
        for key in unsettled:
            await self._settle(RegisterKey.unpack(key))
        await self._raise_floor(topology, partition, sources, targets, best)

    async def _raise_floor(
        self,
        topology: Topology,
        partition: int,
        sources: Mapping[NodeId, Look],
        targets: Mapping[NodeId, Look],
        best: Mapping[bytes, tuple[bytes, NodeId]],
    ) -> None:
        """New owners that lack a register come last: it would then have to be written anew to get there."""
        assert topology.map.next is not None
        floor = max(look.floor for look in sources.values())
        if floor == _ZERO:
            return
        new = topology.meta_owners(partition, topology.map.next)
        knowing: dict[NodeId, None] = {}

        async def one(node: NodeId) -> None:
            try:
                request = RegForget(partition, _joint_tag(topology.map), floor)
                await ask(self._calls, node, request, Ok, timeout_s=limits.RPC_TIMEOUT_S)
            except ObjstoreError as error:
                log.info("transition: node %s did not take the floor of partition %d: %s", node, partition, error)
            else:
                knowing[node] = None

        whole = [n for n, look in targets.items() if all(look.accepted(key) >= best[key][0] for key in best)]
        await in_parallel(max(1, len(whole)), whole, one)
        if not _has_majority(new, knowing):
            rest = [node for node in targets if node not in knowing]
            await in_parallel(max(1, len(rest)), rest, one)
        _need_majority(topology, "new", new, knowing)

    async def _look(self, partition: int, nodes: Collection[NodeId]) -> dict[NodeId, Look]:
        """What these nodes hold; those that do not answer are missing from the result."""
        found: dict[NodeId, Look] = {}

        async def one(node: NodeId) -> None:
            try:
                found[node] = await look_at(self._calls, node, partition)
            except ObjstoreError as error:
                log.info("transition: partition %d on node %s: %s", partition, node, error)

        asked = [node for node in nodes if self._calls.is_up(node)]
        await in_parallel(max(1, len(asked)), asked, one)
        return {node: found[node] for node in nodes if node in found}

    async def _copy(
        self,
        partition: int,
        tag: int,
        best: Mapping[bytes, tuple[bytes, NodeId]],
        sources: Mapping[NodeId, Look],
        targets: Mapping[NodeId, Look],
    ) -> None:
        lacking: dict[bytes, list[NodeId]] = {}
        by_source: dict[NodeId, list[bytes]] = {}
        for key in sorted(best):
            ballot, source = best[key]
            nodes = [node for node, look in targets.items() if look.accepted(key) < ballot]
            if nodes:
                lacking[key] = nodes
                by_source.setdefault(source, []).append(key)
        for source, keys in by_source.items():
            held = sorted(key for key, (accepted, _) in sources[source].ballots.items() if accepted != _ZERO)
            async for page in pull_whole(self._calls, source, partition, held, keys):
                for node in targets:
                    chosen = [one for one in page if node in lacking.get(one.key, ())]
                    if chosen:
                        await self._install(partition, tag, node, chosen)

    async def _install(self, partition: int, tag: int, node: NodeId, records: Sequence[Whole]) -> None:
        """Best effort: whether it arrived is seen by looking again."""
        request, data = installing(partition, tag, records)
        try:
            await ask(self._calls, node, request, Ok, data, timeout_s=limits.RPC_TIMEOUT_S)
        except ObjstoreError as error:
            log.info("transition: node %s did not take %d registers: %s", node, len(records), error)

    # --- the map ---

    async def _put(self, before: Versioned, after: ClusterMap) -> Step:
        assert after.progress > before.map.progress, "INV-15"
        revision = await self._coordinator.put(MAP_KEY, encode_map(after), expected=before.revision)
        if revision is None:
            return Step(before, "the map was changed by someone else; reading it again")
        return Step(Versioned(after, revision))

    def _missing_old(self, topology: Topology, left: Sequence[int], fenced: Collection[NodeId]) -> str:
        for partition in left:
            owners = topology.meta_owners(partition, topology.map.current)
            if not _has_majority(owners, fenced):
                return _majority_lost(topology, "old", owners, fenced)
        return ""


def _decide(sources: Mapping[NodeId, Look]) -> tuple[dict[bytes, tuple[bytes, NodeId]], dict[bytes, None]]:
    """(highest accepted ballot and who holds it, by key; registers with a promise above it).

    Promises of absent registers up to the floor are kept by the floor itself."""
    floor = max(look.floor for look in sources.values())
    best: dict[bytes, tuple[bytes, NodeId]] = {}
    promised: dict[bytes, bytes] = {}
    for node, look in sources.items():
        for key, (accepted, promise) in look.ballots.items():
            promised[key] = max(promised.get(key, _ZERO), promise)
            if accepted != _ZERO and (key not in best or accepted > best[key][0]):
                best[key] = (accepted, node)
    for key in best if floor != _ZERO else ():
        promised[key] = max(promised[key], *(look.promised(key) for look in sources.values()))
    unsettled = {key: None for key, promise in promised.items() if promise > best.get(key, (floor, ""))[0]}
    return {key: found for key, found in best.items() if key not in unsettled}, unsettled


def _joint_tag(cluster_map: ClusterMap) -> int:
    assert cluster_map.next is not None
    return 2 * cluster_map.next.epoch - 1


def _same_owners(topology: Topology, partition: int) -> bool:
    """Nothing moves, and majorities of before and after meet: such a partition needs neither fence nor sync."""
    assert topology.map.next is not None
    old = topology.meta_owners(partition, topology.map.current)
    return sorted(old) == sorted(topology.meta_owners(partition, topology.map.next))


def _with_bits(cluster_map: ClusterMap, partitions: Collection[int]) -> bytes:
    bits = bytearray(cluster_map.synced or bytes(-(-cluster_map.partitions // 8)))
    for partition in partitions:
        bits[partition >> 3] |= 1 << (partition & 7)
    return bytes(bits)


def _has_majority(owners: Sequence[NodeId], nodes: Collection[NodeId]) -> bool:
    return sum(node in nodes for node in owners) > len(owners) // 2


def _need_majority(topology: Topology, which: str, owners: Sequence[NodeId], nodes: Collection[NodeId]) -> None:
    if not _has_majority(owners, nodes):
        raise QuorumLost(_majority_lost(topology, which, owners, nodes))


def _majority_lost(topology: Topology, which: str, owners: Sequence[NodeId], nodes: Collection[NodeId]) -> str:
    silent = [node for node in owners if node not in nodes]
    return (
        f"metadata cannot move: of {len(owners)} {which} owners of a partition only {len(owners) - len(silent)} "
        f"answer; bring back one of {_names(topology.map, silent)}"
    )


def _names(cluster_map: ClusterMap, nodes: Collection[NodeId]) -> str:
    return " ".join(sorted(node.name for node in cluster_map.nodes if node.id in nodes))
