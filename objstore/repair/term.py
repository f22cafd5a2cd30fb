"""One term of the leading repairer: its loops, and what they share.

    govern   leases -> health -> the map: who is out, transitions
    survey   what is there -> inventory; then trims (only here: no listing may run meanwhile)
    work     the dispatcher: rebuilds and moves
    tend     metadata replicas that fell behind; deleted keys; garbage
    publish  the survey, for every screen

Each loop outlives what an unreachable node or coordinator does to it; only a bug or lost leadership ends the term.
Whoever writes or deletes asks `is_leader` right before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from objstore.cluster.bootstrap import spares
from objstore.cluster.detector import FailureDetector, Health, Status
from objstore.cluster.directory import Directory
from objstore.cluster.port import MAP_KEY, NODES, REPAIR_CONTROL_KEY, SURVEY_KEY, Coordinator
from objstore.engine.calls import Calls, ask
from objstore.engine.peers import Peers
from objstore.engine.rebuilding import Rebuilder, Stored
from objstore.engine.registers import Registers
from objstore.model import limits
from objstore.model.cluster import ClusterMap, Node, NodeLease, decode_map, decode_node_lease
from objstore.model.errors import ObjstoreError
from objstore.model.ids import NodeId
from objstore.model.records import Register, RegisterKey, decode
from objstore.model.survey import (
    NodeHoldings,
    ObjectCounts,
    RepairControl,
    Survey,
    decode_control,
    decode_survey,
    encode_survey,
)
from objstore.ports import Clock, Random
from objstore.register.change import Change, Outcome
from objstore.repair.antientropy import AntiEntropy
from objstore.repair.controller import Begin, Continue, Replace, decide, room_for_out, waiting_for
from objstore.repair.dispatcher import FAILED_AFTER, Budget, Dispatcher, Hopeless, Parked, Silence
from objstore.repair.garbage import Garbage
from objstore.repair.redundancy import can_lose, totals
from objstore.repair.report import Ledger, Situation
from objstore.repair.settings import RepairSettings
from objstore.repair.surveyor import Surveyor
from objstore.repair.tombstones import Tombstones
from objstore.repair.transition import Step, Transition, Versioned
from objstore.wire.messages import Ok, RecDone

log = logging.getLogger(__name__)

PUBLISH_S = 0.5
FRESH_S = 2.0  # the survey is put at least this often, changed or not
FORGET_S = 30.0  # between two looks for registers on nodes that no longer own them
TEND_S = 1.0


@dataclass(frozen=True, slots=True)
class Office:
    """What every term of a process works with."""

    name: str
    is_leader: Callable[[], bool]
    coordinator: Coordinator
    directory: Directory
    peers: Peers
    registers: Registers
    clock: Clock
    random: Random
    settings: RepairSettings


@dataclass(frozen=True, slots=True)
class Picture:
    """What the last look that ended has found. While the next one reads, the inventory is neither here nor there."""

    as_of_ms: int
    epoch: int  # of the layout that it was judged by
    generation: int  # of the inventory; -1: not every member that answers has told what it holds
    objects: ObjectCounts
    can_lose: int
    redundancy: list[int]
    nodes: dict[str, NodeHoldings]  # by node id


class Term:
    """One leadership. Make it with `begin`, then run all of `loops` until leadership is lost."""

    def __init__(self, office: Office, cluster_map: ClusterMap, last: Survey | None) -> None:
        self._office = office
        self._coordinator = office.coordinator
        self._directory = office.directory
        self._clock = clock = office.clock
        self._settings = settings = office.settings
        self._map = cluster_map
        self._ledger = Ledger()
        self._ledger.take_over(last)
        self._detector = FailureDetector(
            down_after_s=settings.down_after_s, out_after_s=settings.out_after_s, steady_s=settings.steady_s
        )
        self._health: Mapping[NodeId, Health] = {}
        self._silent_since: dict[NodeId, float] = {}  # members that do not answer the survey
        self._budget = Budget(clock, settings.bandwidth)
        self._surveyor = Surveyor(office.peers, clock, cluster_map.code)
        self._inventory = inventory = self._surveyor.inventory
        rebuilder = Rebuilder(office.peers, self._budget.spend)
        self._dispatcher = Dispatcher(rebuilder, inventory, clock, office.random, settings, self._stored, self._silence)
        self._antientropy = AntiEntropy(office.peers, partial(_rewrite, office.registers))
        self._tombstones = Tombstones(office.peers, clock, inventory, settings.tombstone_age_s)
        self._garbage = Garbage(office.peers, office.registers, inventory, clock, settings)
        self._transition = Transition(office.peers, office.coordinator, partial(_settle, office.registers))
        self._held_up = ""  # why the transition does not go on
        self._forgot_at = float("-inf")
        self._looked = asyncio.Event()
        self._picture: Picture | None = None

    @classmethod
    async def begin(cls, office: Office, cluster_map: ClusterMap) -> Term:
        entry = await office.coordinator.get(SURVEY_KEY)
        return cls(office, cluster_map, _last_survey(entry.value) if entry is not None else None)

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        return self.govern, self.survey, self.work, self.tend, self.publish

    def _may_act(self) -> bool:
        return self._office.is_leader()

    def _stored(self, stored: Stored) -> None:
        self._ledger.stored(self._clock.monotonic(), stored.size)

    def _note(self, text: str) -> None:
        log.info("%s", text)
        self._ledger.note(self._clock.wall_ms(), text)

    # --- the map ---

    async def govern(self) -> None:
        while True:
            goes_on = False
            try:
                goes_on = await self._govern()
            except ObjstoreError as error:
                log.warning("the map cannot be looked after now: %s", error)
            if not goes_on:
                await asyncio.sleep(self._settings.interval_s)

    async def _govern(self) -> bool:
        """One step. True: there is more to do at once."""
        leases = await read_leases(self._coordinator)
        entry = await self._coordinator.get(MAP_KEY)
        if entry is None or not self._may_act():
            return False
        now = Versioned(decode_map(entry.value), entry.revision)
        self._map = now.map
        self._observe(leases)
        if self._directory.map_revision < now.revision:
            await self._directory.refresh()
        action = decide(now.map, self._health, spares(now.map, leases.values()))
        if isinstance(action, Begin):
            room = room_for_out(now.map)
            return await self._took(now, await self._transition.begin(now, now.map.current.layout, action.out, room))
        if isinstance(action, Replace):
            lease = action.new
            node = Node(lease.id, lease.name, lease.zone, lease.capacity_bytes)
            step = await self._transition.replace(now, action.old, node, room_for_out(now.map))
            if step.now.revision != now.revision:
                self._note(f"node {lease.name} is back with an empty disk and takes its old place under a new identity")
            return await self._took(now, step)
        if isinstance(action, Continue):
            return await self._took(now, await self._transition.advance(now))
        self._held_up = ""
        if not now.map.recovering and self._clock.monotonic() - self._forgot_at >= FORGET_S:
            self._forgot_at = self._clock.monotonic()
            await self._transition.forget(now.map)
            await release_journals(self._office.peers, now.map, leases)
        return False

    async def _took(self, before: Versioned, step: Step) -> bool:
        if step.held_up != self._held_up and step.held_up:
            self._note(step.held_up)
        self._held_up = step.held_up
        if step.now.revision == before.revision:
            return False
        self._map = after = step.now.map
        if before.map.next is None and after.next is not None:
            self._note(f"layout {after.next.epoch} begins; out: {_names(after, after.next.out) or 'none'}")
        elif after.next is None:
            self._note(f"layout {after.current.epoch} holds")
            self._forgot_at = float("-inf")
        await self._directory.refresh()
        return not step.held_up

    def _observe(self, leases: Mapping[NodeId, NodeLease]) -> None:
        members = [node.id for node in self._map.nodes]
        before = self._health
        now = self._clock.monotonic()
        self._health = self._detector.observe(now, members, leases, self._map.newest.out)
        for node, health in self._health.items():
            known = before.get(node)
            if known is not None and _is_news(known.status, health.status):
                self._note(f"node {_names(self._map, [node])} is {health.status.value}")

    def _silent(self) -> dict[NodeId, float]:
        """Members that may come back by themselves, and for how long that is waited for."""
        now = self._clock.monotonic()
        silent = [node.id for node in self._map.nodes if node.id not in self._surveyor.stats]
        self._silent_since = {node: self._silent_since.get(node, now) for node in silent}
        unanswered_s = {node: now - since for node, since in self._silent_since.items()}
        return waiting_for(self._map, self._health, unanswered_s, self._settings.out_after_s)

    def _silence(self) -> Silence:
        silent = self._silent()
        not_down_s = self._settings.out_after_s - self._settings.down_after_s
        return Silence(frozenset(silent), frozenset(node for node, left in silent.items() if left > not_down_s))

    # --- the data ---

    async def survey(self) -> None:
        while True:
            try:
                topology = self._directory.topology
                if topology is not None and topology.code == self._map.code:
                    began_ms = self._clock.wall_ms()  # what changes during the look may not be seen by it
                    await self._surveyor.look(topology)
                    self._picture = self._take_picture(began_ms)
                    self._looked.set()
                    await self._dispatcher.trim(self._may_act)
            except ObjstoreError as error:
                log.warning("the survey was interrupted: %s", error)
            await asyncio.sleep(self._settings.interval_s)

    async def work(self) -> None:
        await self._looked.wait()
        await self._dispatcher.work()

    async def tend(self) -> None:
        while True:
            try:
                await self._read_control()
                if self._picture is not None and not self._dispatcher.paused:
                    await self._tend()
            except ObjstoreError as error:
                log.warning("metadata repair and garbage collection wait: %s", error)
            await asyncio.sleep(TEND_S)

    async def _tend(self) -> None:
        for partition, disputes in list(self._surveyor.disputes.items()):
            topology = self._directory.topology
            if disputes and topology is not None and self._may_act():
                await self._antientropy.heal(topology, partition, disputes)
        topology = self._directory.topology
        if topology is not None:
            await self._tombstones.collect(topology, self._may_act)
        await self._garbage.collect(self._may_act)

    async def _read_control(self) -> None:
        entry = await self._coordinator.get(REPAIR_CONTROL_KEY)
        try:
            control = decode_control(entry.value) if entry is not None else RepairControl()
        except msgspec.DecodeError as error:
            log.error("%s cannot be read and is ignored: %s", REPAIR_CONTROL_KEY, error)
        else:
            self._dispatcher.paused = control.pauses(self._clock.wall_ms())

    # --- what everybody sees ---

    async def publish(self) -> None:
        put: Survey | None = None
        put_at = float("-inf")
        await self._looked.wait()
        while True:
            survey = self._report()
            now = self._clock.monotonic()
            if self._may_act() and (put is None or now - put_at >= FRESH_S or not _same(put, survey)):
                try:
                    await self._coordinator.put(SURVEY_KEY, encode_survey(survey))
                    put, put_at = survey, now
                except ObjstoreError as error:
                    log.info("the survey cannot be published now: %s", error)
            await asyncio.sleep(PUBLISH_S)

    def _take_picture(self, as_of_ms: int) -> Picture:
        inventory, code = self._inventory, self._map.code
        return Picture(
            as_of_ms=as_of_ms,
            epoch=inventory.topology.map.newest.epoch,
            generation=inventory.generation if self._surveyor.listed else -1,
            objects=ObjectCounts(*totals(inventory.histogram, code)),
            can_lose=can_lose(inventory.histogram, code, len(inventory.live)),
            redundancy=list(inventory.histogram),
            nodes={
                node.id: NodeHoldings(inventory.fragments_on(node.id), inventory.missing_on(node.id))
                for node in self._map.nodes
            },
        )

    def _report(self) -> Survey:
        assert self._picture is not None, "a look has ended"
        picture = self._picture
        return Survey(
            as_of_ms=picture.as_of_ms,
            leader=self._office.name,
            epoch=picture.epoch,
            code=str(self._map.code),
            objects=picture.objects,
            can_lose=picture.can_lose,
            redundancy=picture.redundancy,
            repair=self._ledger.progress(self._clock.monotonic(), self._clock.wall_ms(), self._situation()),
            nodes=picture.nodes,
            events=list(self._ledger.events),
            receipt=self._ledger.receipt,
        )

    def _situation(self) -> Situation:
        inventory, dispatcher = self._inventory, self._dispatcher
        failures = list(dispatcher.failures.values())
        failed = [failure for failure in failures if failure.attempts >= FAILED_AFTER]
        parked = dispatcher.parked()
        looked = self._picture is not None and self._picture.generation == inventory.generation
        hopeless = dispatcher.hopeless() if looked else Hopeless()  # until then nodes may hold what is not listed yet
        silent = self._silent()
        return Situation(
            code=self._map.code,
            members=len(self._map.nodes),
            live=len(inventory.live),
            debt=inventory.in_debt + inventory.parts_in_debt,
            bytes_left=inventory.missing_bytes,
            restored=inventory.restored,
            in_work=dispatcher.in_work,
            waiting=parked[Parked.WAITING],
            blocked=parked[Parked.BLOCKED],
            hopeless=hopeless.objects,
            rescuers=sorted(_names(self._map, [node]) for node in hopeless.rescuers),
            retrying=len(failures),
            failed=len(failed),
            retries=dispatcher.retries,
            last_error=failures[-1].error if failures else "",
            moving=_how_far(self._map),
            moving_held_up=self._held_up,
            silent=[_names(self._map, [node]) for node in silent],
            rebuild_in_s=min(silent.values(), default=None),
            throttled=self._budget.holds_back,
            paused=dispatcher.paused,
            breaker_tripped=self._garbage.tripped,
        )


async def release_journals(calls: Calls, cluster_map: ClusterMap, leases: Mapping[NodeId, NodeLease]) -> None:
    """Members that lost their index were synced by their peers before this layout held: nobody needs what they have
    of their former lives. Only where the map has no `next` and no recovery goes on. Best effort."""
    assert cluster_map.next is None and not cluster_map.recovering
    for node in cluster_map.nodes:
        lease = leases.get(node.id)
        if lease is not None and lease.lost:
            try:
                await ask(calls, node.id, RecDone(), Ok, timeout_s=limits.RPC_TIMEOUT_S)
            except ObjstoreError as error:
                log.info("node %s still has the journal of its former life: %s", node.name, error)
            else:
                log.info("node %s is whole again: the journal of its former life is removed", node.name)


async def read_leases(coordinator: Coordinator) -> dict[NodeId, NodeLease]:
    """Those that can be read; another version's are skipped."""
    entries, _ = await coordinator.range(NODES)
    leases: dict[NodeId, NodeLease] = {}
    for entry in entries:
        try:
            leases[NodeId(entry.key.removeprefix(NODES))] = decode_node_lease(entry.value)
        except msgspec.DecodeError as error:
            log.error("the lease %s cannot be read: %s", entry.key, error)
    return leases


async def _settle(registers: Registers, key: RegisterKey) -> None:
    """`ports.Settle`: a change that changes nothing still runs its full round."""
    await registers.change(key, lambda body: Outcome())


async def _rewrite(registers: Registers, key: RegisterKey, state: bytes, listing: bytes) -> None:
    """`ports.Rewrite`."""
    await registers.change(key, _again(decode(state, Register).body if state else b"", listing))


def _again(expected: bytes, listing: bytes) -> Change:
    def change(body: bytes) -> Outcome:
        return Outcome(b"", body, listing, None) if body == expected else Outcome()

    return change


def _last_survey(raw: bytes) -> Survey | None:
    try:
        return decode_survey(raw)
    except msgspec.DecodeError as error:
        log.error("the last survey cannot be read and is left aside: %s", error)
        return None


def _same(one: Survey, other: Survey) -> bool:
    return msgspec.structs.replace(one, as_of_ms=0) == msgspec.structs.replace(other, as_of_ms=0)


def _how_far(cluster_map: ClusterMap) -> str:
    if cluster_map.next is None:
        return ""
    synced = sum(byte.bit_count() for byte in cluster_map.synced)
    return f"metadata moves to layout {cluster_map.next.epoch}: {synced} of {cluster_map.partitions} partitions"


def _is_news(before: Status, now: Status) -> bool:
    """Late and back again is no event."""
    return before is not now and now is not Status.LATE and (before, now) != (Status.LATE, Status.UP)


def _names(cluster_map: ClusterMap, nodes: Collection[NodeId]) -> str:
    return " ".join(sorted(node.name for node in cluster_map.nodes if node.id in nodes))
