"""Which segments are worked on, how many at once, and what becomes of those that fail.

Takes segments from the inventory's agenda in its order. One that fails waits longer each time and never holds up the
others; one that cannot be helped now (waiting for a node, no place for a shard, too few shards) is parked until nodes
or layout change, and is no failure meanwhile. Trims are kept apart: they run between two looks of the surveyor only,
so that no listing sees a copy gone before it has seen the other one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from objstore.engine.calls import in_parallel
from objstore.engine.rebuilding import Job, Rebuilder, Stored
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BlobId, NodeId
from objstore.ports import Clock, Random
from objstore.repair.inventory import Inventory
from objstore.repair.planner import SegmentPlan, plan_segment
from objstore.repair.settings import RepairSettings

log = logging.getLogger(__name__)

TICK_S = 0.1
RETRY_S = 1.0  # after the first failure, doubled per failure
RETRY_MAX_S = 60.0
FAILED_AFTER = 8  # attempts, after which an item counts as failed (and is still retried)
SET_ASIDE_MAX = 32  # segments passed over because their node has enough to do
PLANNED_AT_ONCE = 50  # between two turns of the event loop
TRIMS_PER_ROUND = 256


class Parked(Enum):
    WAITING = "for a node that may come back"
    BLOCKED = "no node for a shard"
    HOPELESS = "too few readable shards"


@dataclass(frozen=True, slots=True)
class Failure:
    attempts: int
    again_at: float
    error: str


class Silence(NamedTuple):
    """Members that do not answer but are not given up, and those of them that are not even down."""

    silent: frozenset[NodeId] = frozenset()
    late: frozenset[NodeId] = frozenset()


class Hopeless(NamedTuple):
    """What has too few readable shards."""

    objects: int = 0  # and parts of uploads
    rescuers: frozenset[NodeId] = frozenset()  # nodes that do not answer now and may make some of them readable


class Budget:
    """Bytes per second, averaged over a quarter of a second; 0 = unlimited."""

    BURST_S = 0.25

    def __init__(self, clock: Clock, rate: int) -> None:
        self.rate = rate
        self._clock = clock
        self._paid_until = 0.0

    async def spend(self, size: int) -> None:
        if self.rate <= 0:
            return
        now = self._clock.monotonic()
        self._paid_until = max(now, self._paid_until) + size / self.rate
        if (pause := self._paid_until - now - self.BURST_S) > 0:
            await asyncio.sleep(pause)

    @property
    def holds_back(self) -> bool:
        return self.rate > 0 and self._paid_until - self._clock.monotonic() > self.BURST_S


class Dispatcher:
    def __init__(
        self,
        rebuilder: Rebuilder,
        inventory: Inventory,
        clock: Clock,
        random: Random,
        settings: RepairSettings,
        on_stored: Callable[[Stored], None],
        silence: Callable[[], Silence],
    ) -> None:
        self.failures: dict[bytes, Failure] = {}
        self.paused = False
        self.retries = 0
        self._rebuilder = rebuilder
        self._inventory = inventory
        self._clock = clock
        self._random = random
        self._settings = settings
        self._on_stored = on_stored
        self._ask_silence = silence
        self._silence = Silence()  # as of the last turn of the event loop: the inventory's nodes may change in any
        self._seen: tuple[int, Silence] | None = None
        self._parked: dict[bytes, Parked] = {}
        self._rescuers: dict[bytes, frozenset[NodeId]] = {}  # by hopeless segment
        self._running: dict[bytes, Job] = {}
        self._trims: dict[bytes, None] = {}
        self._writes: Counter[NodeId] = Counter()  # jobs that write to a node

    # --- what is told and asked ---

    @property
    def in_work(self) -> int:
        return len(self._running)

    def parked(self) -> Counter[Parked]:
        flaws = self._inventory.flaws
        return Counter(why for segment, why in self._parked.items() if segment in flaws)

    def hopeless(self) -> Hopeless:
        found = [segment for segment in self._rescuers if segment in self._inventory.flaws]
        users = {key for segment in found for key in self._inventory.users_of(BlobId(segment[:16]))}
        return Hopeless(len(users), frozenset().union(*{self._rescuers[segment] for segment in found}))

    # --- rebuilds and moves ---

    async def work(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look_again()
                if not self.paused:
                    await self._fill(group)
                await asyncio.sleep(TICK_S)

    async def _look_again(self) -> None:
        """Bring back what was parked when nodes or layout have changed, and failures whose pause is over."""
        self._silence = self._ask_silence()
        seen = (self._inventory.generation, self._silence)
        if seen != self._seen:
            self._seen = seen
            parked, self._parked, self._rescuers = self._parked, {}, {}
            for done, segment in enumerate(parked):
                self._push(segment)
                if done % 1000 == 999:
                    await asyncio.sleep(0)
        now = self._clock.monotonic()
        for segment, failure in list(self.failures.items()):
            if segment not in self._inventory.flaws:
                del self.failures[segment]
            elif failure.again_at <= now and segment not in self._running:
                self._push(segment)

    def _push(self, segment: bytes) -> None:
        flaw = self._inventory.flaws.get(segment)
        if flaw is not None:
            self._inventory.agenda.push(segment, flaw.readable)

    async def _fill(self, group: asyncio.TaskGroup) -> None:
        aside: list[bytes] = []
        planned = 0
        self._silence = self._ask_silence()
        while len(self._running) < self._settings.jobs and len(aside) < SET_ASIDE_MAX:
            segment = self._inventory.agenda.pop()
            if segment is None:
                break
            planned += 1
            if planned % PLANNED_AT_ONCE == 0:
                await asyncio.sleep(0)
                self._silence = self._ask_silence()
            failure = self.failures.get(segment)
            if segment in self._running or (failure and failure.again_at > self._clock.monotonic()):
                continue
            job = self._job(segment)
            if job is None:
                continue
            if any(self._writes[node] >= self._settings.jobs_per_node for node in _targets(job)):
                aside.append(segment)
                continue
            self._running[segment] = job
            self._writes.update(_targets(job))
            group.create_task(self._run(segment, job))
        for segment in aside:
            self._push(segment)

    def _plan(self, segment: bytes) -> tuple[SegmentPlan, Job] | None:
        view = self._inventory.view(segment, *self._silence)
        blob = self._inventory.blob(segment)
        if view is None or blob is None:
            return None
        partition = self._inventory.partition_of(segment)
        plan = plan_segment(view, lambda: self._inventory.topology.handoff(partition))
        number = int.from_bytes(segment[16:], "big")
        return plan, Job(blob, number, partition, view.holders, plan.rebuild, plan.move)

    def _job(self, segment: bytes) -> Job | None:
        """What to do now; None parks the segment, or leaves it to the trims."""
        self._parked.pop(segment, None)
        self._rescuers.pop(segment, None)
        found = self._plan(segment)
        if found is None:
            return None
        plan, job = found
        if plan.trim:
            self._trims[segment] = None
        if plan.rebuild or plan.move:
            return job
        if plan.hopeless:
            self._parked[segment] = Parked.HOPELESS
            self._rescuers[segment] = self._inventory.rescuers(segment)
        elif plan.waiting:
            self._parked[segment] = Parked.WAITING
        elif plan.blocked:
            self._parked[segment] = Parked.BLOCKED
        if segment in self._parked and not plan.trim:
            self.failures.pop(segment, None)
        return None

    async def _run(self, segment: bytes, job: Job) -> None:
        try:
            for stored in await self._rebuilder.run(job):
                self._inventory.note_stored(stored.node, job.partition, stored.fragment)
                self._on_stored(stored)
        except ObjstoreError as error:
            self._fail(segment, str(error))
        else:
            self.failures.pop(segment, None)
        finally:
            self._running.pop(segment, None)
            self._writes.subtract(_targets(job))
        self._inventory.judge(PLANNED_AT_ONCE)
        self._push(segment)  # there may be more to do

    def _fail(self, segment: bytes, error: str) -> None:
        known = self.failures.get(segment)
        attempts = known.attempts + 1 if known else 1
        pause = min(RETRY_MAX_S, RETRY_S * 2 ** (attempts - 1)) * self._random.uniform(0.5, 1.0)
        self.failures[segment] = Failure(attempts, self._clock.monotonic() + pause, error)
        self.retries += 1
        log.warning("repair of segment %s failed %d times, again in %.0f s: %s", segment.hex(), attempts, pause, error)

    # --- trims ---

    async def trim(self, may_act: Callable[[], bool]) -> int:
        """Call between two looks. Deletes copies that are also at home, after home has read its own back."""
        if self.paused:
            return 0
        segments = [segment for segment in self._trims if segment not in self._running][:TRIMS_PER_ROUND]
        trimmed = 0

        async def one(segment: bytes) -> None:
            nonlocal trimmed
            del self._trims[segment]
            found = self._plan(segment)
            if found is None:
                return
            plan, job = found
            epoch = self._inventory.topology.epoch
            for trim in plan.trim:
                try:
                    done = await self._rebuilder.trim(
                        job, trim, epoch, lambda: may_act() and self._inventory.topology.epoch == epoch
                    )
                except ObjstoreError as error:
                    self._fail(segment, str(error))
                    return
                if done:
                    trimmed += 1
                    self._inventory.note_deleted(trim.extra, job.partition, {job.fragment(trim.shard).pack()})

        await in_parallel(self._settings.jobs, segments, one)
        return trimmed


def _targets(job: Job) -> list[NodeId]:
    return [*(placed.target for placed in job.rebuild), *(moved.target for moved in job.move)]
