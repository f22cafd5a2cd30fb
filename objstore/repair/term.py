"""One term of the leading repairer: its loops, and what they share.

    govern   leases -> health -> the map: who is out, transitions
    survey   what is there -> inventory; then trims (only here: no listing may run meanwhile)
    obey     what operators ask: pause, budget, now
    work     the dispatcher: rebuilds and moves
    expire   what rules of buckets end: lifecycle
    report   inventories that buckets ask for
    tend     metadata replicas that fell behind; deleted keys; garbage
    publish  the survey, for every screen; the list of what is hurt

Each loop outlives what an unreachable node or coordinator does to it; only a bug or lost leadership ends the term.
Whoever writes or deletes asks `is_leader` right before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from objstore.cluster.bootstrap import spares
from objstore.cluster.detector import FailureDetector, Health, Status
from objstore.cluster.directory import Directory
from objstore.cluster.port import DAMAGE, MAP_KEY, SURVEY_KEY, Coordinator
from objstore.cluster.topology import read_leases
from objstore.engine.calls import Calls, ask
from objstore.engine.engine import Operations
from objstore.engine.peers import Peers
from objstore.engine.reading import BlobReader
from objstore.engine.rebuilding import Rebuilder
from objstore.engine.registers import Registers
from objstore.engine.writing import BlobWriter
from objstore.inventory.worker import InventoryWorker
from objstore.lifecycle.worker import LifecycleWorker
from objstore.model import limits
from objstore.model.cluster import ClusterMap, Level, Node, NodeLease, decode_map, is_at_least
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BlobId, NodeId
from objstore.model.plan import describe
from objstore.model.records import Register, RegisterKey, decode
from objstore.model.survey import DamagePage, Survey, decode_survey, encode_damage, encode_survey
from objstore.notify.sender import Sender
from objstore.notify.sweeper import Sweeper
from objstore.ports import Clock, Random
from objstore.register.change import Change, Outcome
from objstore.repair.account import Account, Picture, names_of, take_picture
from objstore.repair.antientropy import AntiEntropy
from objstore.repair.controller import Begin, CarryOut, Continue, Drop, Replace, decide, more_out_soon, waiting_for
from objstore.repair.damage import pages
from objstore.repair.dispatcher import Dispatcher, Silence
from objstore.repair.findings import Findings
from objstore.repair.garbage import Garbage
from objstore.repair.orders import Orders
from objstore.repair.pace import Pace, Timed
from objstore.repair.planning import Planning
from objstore.repair.remembering import put_back
from objstore.repair.report import Ledger
from objstore.repair.settings import RepairSettings
from objstore.repair.surveyor import Surveyor
from objstore.repair.tombstones import Tombstones
from objstore.repair.transition import Step, Transition, Versioned
from objstore.repair.usage import UsageBoard
from objstore.wire.messages import Ok, RecDone

log = logging.getLogger(__name__)

PUBLISH_S = 0.5
FRESH_S = 2.0  # the survey is put at least this often, changed or not
RESTING = 2  # times as long between two looks at a cluster in which nothing changes
FORGET_S = 30.0  # between two looks for registers on nodes that no longer own them
TEND_S = 1.0
OBEY_S = 1.0
DAMAGE_S = 3.0
NOTIFY_S = 1.0
USAGE_S = 2.0
REPORT_S = 5.0


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
    sender: Sender | None = None  # of event notifications; None: they are not looked after here


class Term:
    """One leadership. Make it with `begin`, then run all of `loops` until leadership is lost."""

    def __init__(self, office: Office, cluster_map: ClusterMap, last: Survey | None) -> None:
        self._office = office
        self._coordinator = office.coordinator
        self._directory = office.directory
        self._clock = clock = office.clock
        self._settings = settings = office.settings
        self._map = cluster_map
        self._orders = Orders(office.coordinator, clock, settings.budget)
        self._pace = Pace(clock, settings.budget)
        self._detector = FailureDetector(
            down_after_s=settings.down_after_s, out_after_s=settings.out_after_s, steady_s=settings.steady_s
        )
        self._health: Mapping[NodeId, Health] = {}
        self._silent_since: dict[NodeId, float] = {}  # members that do not answer the survey
        self._hurried: dict[NodeId, None] = {}  # silent nodes whose return is not waited for: an operator said so
        timed = Timed(office.peers, self._pace, clock)
        self._surveyor = Surveyor(timed, clock, cluster_map.code)
        self._inventory = inventory = self._surveyor.inventory
        ledger = Ledger()
        ledger.take_over(last)
        self._account = account = Account(clock, ledger, inventory, self._pace, self._orders)
        self._dispatcher = Dispatcher(
            Rebuilder(timed), inventory, clock, office.random, settings, self._pace, account, self._silence
        )
        self._antientropy = AntiEntropy(office.peers, partial(_rewrite, office.registers))
        self._tombstones = Tombstones(office.peers, clock, inventory, settings.tombstone_age_s)
        self._garbage = Garbage(office.peers, office.registers, inventory, clock, settings)
        self._transition = Transition(office.peers, office.coordinator, partial(_settle, office.registers))
        self._planning = Planning(office.coordinator, self._transition, clock)
        self._held_up = ""  # why the transition does not go on
        self._forgot_at = float("-inf")
        self._findings = Findings()
        self._usage_board = UsageBoard(office.coordinator)
        self._sweeper = Sweeper(office.registers, office.sender, inventory.pending) if office.sender else None
        operations = _operations(office)
        self._lifecycle = LifecycleWorker(operations, office.coordinator, clock, office.random, settings.lifecycle)
        self._reports = InventoryWorker(
            operations, office.coordinator, clock, office.random, day_ms=settings.lifecycle.day_ms
        )
        self._looked = asyncio.Event()
        self._picture: Picture | None = None

    @classmethod
    async def begin(cls, office: Office, cluster_map: ClusterMap) -> Term:
        entry = await office.coordinator.get(SURVEY_KEY)
        return cls(office, cluster_map, _last_survey(entry.value) if entry is not None else None)

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        shown = self.publish, self.publish_damage, self.publish_usage, self.report
        return self.govern, self.survey, self.obey, self.work, self.tend, self.notify, self.expire, *shown

    def _may_act(self) -> bool:
        return self._office.is_leader()

    def _note(self, text: str) -> None:
        log.info("%s", text)
        self._account.ledger.note(self._clock.wall_ms(), text)

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
        if not self._may_act():
            return False
        shown = decode_map(entry.value) if entry is not None else None
        if entry is None or shown is None or shown.progress < self._map.progress:  # it lost its store under us
            await put_back(self._coordinator, self._directory, self._office.peers, entry)
            return False
        now = Versioned(shown, entry.revision)
        self._map = now.map
        self._observe(leases)
        for line in self._findings.news(leases.values()):
            self._note(line)
        if self._directory.map_revision < now.revision:
            await self._directory.refresh()
        plan = await self._planning.read(now.map)
        action = decide(now.map, self._judged(), spares(now.map, leases.values()), plan)
        if isinstance(action, Begin) and more_out_soon(self._health, action.out, self._settings.out_after_s):
            return False
        if isinstance(action, Begin):
            return await self._took(now, await self._transition.begin(now, now.map.current.layout, action.out))
        if isinstance(action, Replace):
            lease = action.new
            node = Node(lease.id, lease.name, lease.zone, lease.capacity_bytes)
            step = await self._transition.replace(now, action.old, node)
            if step.now.revision != now.revision:
                self._note(f"node {lease.name} is back with an empty disk and takes its old place under a new identity")
            return await self._took(now, step)
        if isinstance(action, Drop):
            return await self._took(now, await self._transition.drop(now, action.gone))
        if isinstance(action, CarryOut):
            step = await self._planning.carry_out(now, action.plan, leases, self._survey_since)
            if step.now.revision != now.revision:
                self._note(f"the plan begins: {', '.join(map(describe, action.plan.changes))}")
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
            self._note(f"layout {after.next.epoch} begins; out: {names_of(after, after.next.out) or 'none'}")
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
                self._note(f"node {names_of(self._map, [node])} is {health.status.value}")

    def _judged(self) -> dict[NodeId, Health]:
        """The health of members; those whose return an operator does not wait for are out."""
        given_up = {
            node: found._replace(status=Status.OUT)
            for node, found in self._health.items()
            if node in self._hurried and found.status is not Status.UP
        }
        return {**self._health, **given_up}

    def _silent(self) -> dict[NodeId, float]:
        """Members that may come back by themselves, and for how long that is waited for."""
        now = self._clock.monotonic()
        silent = [node.id for node in self._map.nodes if node.id not in self._surveyor.stats]
        self._silent_since = {node: self._silent_since.get(node, now) for node in silent}
        unanswered_s = {node: now - since for node, since in self._silent_since.items()}
        return waiting_for(self._map, self._health, unanswered_s, self._settings.out_after_s)

    def _silence(self) -> Silence:
        silent = {node: left for node, left in self._silent().items() if node not in self._hurried}
        not_down_s = self._settings.out_after_s - self._settings.down_after_s
        late = frozenset(node for node, left in silent.items() if left > not_down_s)
        return Silence(frozenset(silent), late, self._at_least("full"), self._at_least("backfill"))

    def _at_least(self, level: Level) -> frozenset[NodeId]:
        """Members that say that they are that full."""
        return frozenset(id for id, lease in self._directory.nodes.items() if is_at_least(lease.level, level))

    # --- the data ---

    async def survey(self) -> None:
        while True:
            try:
                topology = self._directory.topology
                if topology is not None and topology.code == self._map.code:
                    began, began_ms = self._clock.monotonic(), self._clock.wall_ms()  # later changes may be missed
                    await self._surveyor.look(topology)
                    self._picture = take_picture(
                        self._inventory,
                        began,
                        began_ms,
                        listed=self._surveyor.listed,
                        told=self._surveyor.has_told_all,
                    )
                    self._looked.set()
                    await self._dispatcher.trim(self._may_act)
            except ObjstoreError as error:
                log.warning("the survey was interrupted: %s", error)
            await asyncio.sleep(self._settings.interval_s * (RESTING if self._surveyor.rests else 1))

    async def obey(self) -> None:
        """Follow what operators ask. Before that is known nothing is repaired: it may be paused."""
        while True:
            try:
                hurry = await self._orders.read()
                if hurry is not None:
                    self._hurry(hurry)
            except ObjstoreError as error:
                log.warning("what operators ask of repair cannot be read now: %s", error)
            self._dispatcher.paused = self._orders.paused
            self._dispatcher.rebalance_paused = self._orders.rebalance_paused
            self._pace.budget = self._orders.budget
            await asyncio.sleep(OBEY_S)

    def _hurry(self, blobs: frozenset[BlobId]) -> None:
        self._note("repair tries everything at once: an operator asked for it")
        self._hurried = dict.fromkeys(self._silent())
        self._surveyor.hurry()
        self._dispatcher.hurry(blobs)

    async def work(self) -> None:
        await self._looked.wait()
        await self._dispatcher.work()

    async def tend(self) -> None:
        while True:
            try:
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

    async def expire(self) -> None:
        while True:
            goes_on = False
            try:
                goes_on = await self._lifecycle.step(self._may_act)
            except ObjstoreError as error:
                log.info("lifecycle waits: %s", error)
            if not goes_on:
                await asyncio.sleep(self._settings.interval_s)

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

    async def notify(self) -> None:
        """Event notifications that no gateway has delivered."""
        await self._looked.wait()
        while self._sweeper is not None:
            await self._sweeper.sweep(self._may_act)
            await asyncio.sleep(NOTIFY_S)

    async def publish_damage(self) -> None:
        """Pages `damage/0`, `damage/1` ...; those that are not needed any more go."""
        put: list[DamagePage] = []
        await self._looked.wait()
        while True:
            assert self._picture is not None
            found = await pages(self._inventory, self._dispatcher, self._picture.as_of_ms, self._clock.monotonic())
            try:
                if self._may_act() and [(p.total, p.items) for p in found] != [(p.total, p.items) for p in put]:
                    for number, page in enumerate(found):
                        await self._coordinator.put(f"{DAMAGE}{number}", encode_damage(page))
                    for entry in (await self._coordinator.range(DAMAGE))[0]:
                        if entry.key not in [f"{DAMAGE}{number}" for number in range(len(found))]:
                            await self._coordinator.delete(entry.key)
                    put = found
            except ObjstoreError as error:
                log.info("the list of damage cannot be published now: %s", error)
            await asyncio.sleep(DAMAGE_S)

    async def report(self) -> None:
        """Inventories that configurations of buckets ask for."""
        await self._looked.wait()
        while True:
            try:
                if self._may_act() and self._surveyor.known_at > float("-inf"):
                    await self._reports.step(dict(self._inventory.usage.reporting), self._may_act)
            except ObjstoreError as error:
                log.info("inventory reports wait: %s", error)
            await asyncio.sleep(REPORT_S)

    async def publish_usage(self) -> None:
        await self._looked.wait()
        while True:
            known_at = self._surveyor.known_at
            if self._may_act() and known_at > float("-inf"):
                age_ms = round(1000 * (self._clock.monotonic() - known_at))
                try:
                    await self._usage_board.publish(self._inventory.usage.found(), self._clock.wall_ms() - age_ms)
                except ObjstoreError as error:
                    log.info("what is in each bucket cannot be published now: %s", error)
            await asyncio.sleep(USAGE_S)

    def _survey_since(self, moment: float) -> Survey | None:
        """By a look that began later and was judged by the present layout."""
        picture = self._picture
        if picture is None or picture.began <= moment or picture.epoch != self._map.newest.epoch:
            return None
        return picture.evidence(self._office.name)

    def _report(self) -> Survey:
        assert self._picture is not None, "a look has ended"
        silent = self._silent()
        self._hurried = {node: None for node in self._hurried if node in silent}
        situation = self._account.situation(
            self._map,
            self._dispatcher,
            self._picture,
            {node: left for node, left in silent.items() if node not in self._hurried},
            self._held_up,
            breaker_tripped=self._garbage.tripped,
        )
        told = self._account.survey(self._office.name, self._picture, situation, self._dispatcher)
        notify = self._sweeper.report if self._sweeper is not None else []
        return msgspec.structs.replace(told, notify=notify, lifecycle=self._lifecycle.shown)


def _operations(office: Office) -> Operations:
    """What a gateway can do with buckets and objects."""
    peers = office.peers
    return Operations(office.registers, BlobWriter(peers), BlobReader(peers), office.clock, office.random)


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


def _is_news(before: Status, now: Status) -> bool:
    """Late and back again is no event."""
    return before is not now and now is not Status.LATE and (before, now) != (Status.LATE, Status.UP)
