"""Which segments are worked on, how many at once, and what becomes of those that fail.

Takes segments from the inventory's agenda in its order. One that fails waits longer each time and never holds up the
others; one that cannot be helped now (waiting for a node, no place for a shard, too few shards) is parked until nodes
or layout change, and is no failure meanwhile. Moves of what is whole (a rebalance) begin only when nothing is rebuilt
or about to be; what cannot be helped, or fails on and on, does not hold them up, or a drain would never end. Trims are
kept apart: they run between two looks of the surveyor only, so that no listing sees a copy gone before it has seen
the other one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, Protocol

from objstore.engine.calls import in_parallel
from objstore.engine.rebuilding import Job, Rebuilder, Stored
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BlobId, NodeId
from objstore.model.survey import Kind
from objstore.ports import Clock, Random
from objstore.repair.inventory import Inventory
from objstore.repair.pace import Pace, Work
from objstore.repair.planner import SegmentPlan, plan_segment
from objstore.repair.settings import RepairSettings
from objstore.repair.tally import Harm, Left

log = logging.getLogger(__name__)

TICK_S = 0.1
RETRY_S = 1.0  # after the first failure, doubled per failure
RETRY_MAX_S = 60.0
FAILED_AFTER = 8  # attempts, after which an item counts as failed (and is still retried)
SET_ASIDE_MAX = 32  # segments passed over because their node has enough to do
PLANNED_AT_ONCE = 50  # between two turns of the event loop
TRIMS_PER_ROUND = 256
HOLDS_UP_MOVES = 3  # attempts: who failed more often no longer keeps a rebalance waiting


class Parked(Enum):
    WAITING = "for a node that may come back"
    BLOCKED = "no node for a shard"
    NO_ROOM = "no room on a node"
    HOPELESS = "too few readable shards"


@dataclass(frozen=True, slots=True)
class Failure:
    attempts: int
    again_at: float
    error: str


class Silence(NamedTuple):
    """Members that do not answer but are not given up, and those of them that are not even down. And members that are
    full: nothing is moved there; and those of them that take no rebuilt shards either."""

    silent: frozenset[NodeId] = frozenset()
    late: frozenset[NodeId] = frozenset()
    full: frozenset[NodeId] = frozenset()
    closed: frozenset[NodeId] = frozenset()


class Hopeless(NamedTuple):
    """What has too few readable shards."""

    objects: int = 0  # and parts of uploads
    rescuers: frozenset[NodeId] = frozenset()  # nodes that do not answer now and may make some of them readable


class Books(Protocol):
    """Who is told of what was done."""

    def moved(self, kind: Kind, traffic: float, written: int) -> None: ...

    def finished(self, kind: Kind, traffic: float, held_s: float, stored: Sequence[Stored]) -> None: ...

    def failed(self, kind: Kind) -> None: ...


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    kind: Kind
    work: Work
    scale: float  # bytes read and written per byte written
    margin: int  # losses that the segment survives now


class Dispatcher:
    def __init__(
        self,
        rebuilder: Rebuilder,
        inventory: Inventory,
        clock: Clock,
        random: Random,
        settings: RepairSettings,
        pace: Pace,
        books: Books,
        silence: Callable[[], Silence],
    ) -> None:
        self.failures: dict[bytes, Failure] = {}
        self.paused = False
        self.rebalance_paused = False
        self._rebuilder = rebuilder
        self._inventory = inventory
        self._clock = clock
        self._random = random
        self._settings = settings
        self._pace = pace
        self._books = books
        self._ask_silence = silence
        self._silence = Silence()  # as of the last turn of the event loop: the inventory's nodes may change in any
        self._seen: tuple[int, Silence] | None = None
        self._parked: dict[bytes, Parked] = {}
        self._waiting = 0  # of those parked
        self._first: dict[bytes, None] = {}  # segments that an operator asked for
        self._rescuers: dict[bytes, frozenset[NodeId]] = {}  # by hopeless segment
        self._running: dict[bytes, _Running] = {}
        self._trims: dict[bytes, None] = {}
        self._writes: Counter[NodeId] = Counter()  # jobs that write to a node
        self._wake = asyncio.Event()

    # --- what is told and asked ---

    @property
    def in_work(self) -> int:
        return len(self._running)

    @property
    def only_moves(self) -> bool:
        return bool(self._running) and all(one.kind == "rebalance" for one in self._running.values())

    @property
    def in_flight(self) -> Left:
        """What jobs that go on have done already."""
        written = [(one.work.written, one.scale) for one in self._running.values()]
        return Left(0, sum(size for size, _ in written), round(sum(size * scale for size, scale in written)))

    def parked(self) -> tuple[Counter[Parked], Left]:
        """How many of each, and what would be to be done about them."""
        counted: Counter[Parked] = Counter()
        left = Left()
        for segment, why in self._parked.items():
            flaw = self._inventory.flaws.get(segment)
            if flaw is not None:
                counted[why] += 1
                left = Left(left.segments + 1, left.to_write + flaw.to_write, left.traffic + flaw.traffic)
        return counted, left

    @property
    def full(self) -> frozenset[NodeId]:
        """Members that something may be parked for."""
        return self._silence.full

    def why_parked(self, segment: bytes) -> Parked | None:
        return self._parked.get(segment)

    def rescuers_of(self, segment: bytes) -> frozenset[NodeId]:
        return self._rescuers.get(segment, frozenset())

    def is_running(self, segment: bytes) -> bool:
        return segment in self._running

    def hurry(self, blobs: Collection[BlobId]) -> None:
        """Try everything again at once, segments of these blobs before all others."""
        now = self._clock.monotonic()
        for segment, failure in self.failures.items():
            self.failures[segment] = Failure(failure.attempts, now, failure.error)
        self._seen = None
        for segment in self._inventory.flaws if blobs else ():
            if BlobId(segment[:16]) in blobs:
                self._unpark(segment)
                self._first[segment] = None
                self._push(segment)
        self._wake.set()

    def hopeless(self) -> Hopeless:
        found = [segment for segment in self._rescuers if segment in self._inventory.flaws]
        users = {key for segment in found for key in self._inventory.users_of(BlobId(segment[:16]))}
        return Hopeless(len(users), frozenset().union(*{self._rescuers[segment] for segment in found}))

    # --- rebuilds and moves ---

    async def work(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._look_again()
                self._pace.step(self._margin())
                if not self.paused:
                    await self._fill(group)
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _look_again(self) -> None:
        """Bring back what was parked when nodes or layout have changed, and failures whose pause is over."""
        self._silence = self._ask_silence()
        seen = (self._inventory.generation, self._silence)
        if seen != self._seen:
            self._seen = seen
            parked, self._parked, self._rescuers, self._waiting = self._parked, {}, {}, 0
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
            self._inventory.agenda.push(segment, 0 if segment in self._first else flaw.rank)

    def _margin(self) -> int | None:
        """Losses that what is being repaired survives, at least; None: nothing is."""
        return min((one.margin for one in self._running.values() if one.kind == "repair"), default=None)

    def _may_move(self) -> bool:
        """Whether a rebalance may go on: nothing on the agenda comes before it, this is asked when it is next."""
        if self.rebalance_paused or self._waiting:
            return False
        moving = sum(one.kind == "rebalance" for one in self._running.values())
        if moving < len(self._running) or moving >= max(1, self._settings.jobs // 2):
            return False
        return not any(
            failure.attempts < HOLDS_UP_MOVES and self._harm(segment) is Harm.DAMAGED
            for segment, failure in self.failures.items()
        )

    def _harm(self, segment: bytes) -> Harm:
        flaw = self._inventory.flaws.get(segment)
        return flaw.harm if flaw is not None else Harm.NONE

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
            if self._harm(segment) is Harm.MISPLACED and not self._may_move():
                is_first = segment in self._first
                self._first.pop(segment, None)
                self._push(segment)
                if is_first:
                    continue
                break  # behind it there are only others like it
            job = self._job(segment)
            if job is None:
                continue
            if any(self._writes[node] >= self._settings.jobs_per_node for node in _targets(job)):
                aside.append(segment)
                continue
            self._first.pop(segment, None)
            running = self._running[segment] = self._begin(segment, job)
            self._writes.update(_targets(job))
            group.create_task(self._run(segment, running))
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
        self._unpark(segment)
        found = self._plan(segment)
        if found is None:
            return None
        plan, job = found
        if plan.trim:
            self._trims[segment] = None
        if plan.rebuild:
            return replace(job, move=())  # redundancy comes first
        if plan.move:
            return job
        if plan.hopeless:
            self._parked[segment] = Parked.HOPELESS
            self._rescuers[segment] = self._inventory.rescuers(segment)
        elif plan.waiting:
            self._parked[segment] = Parked.WAITING
            self._waiting += 1
        elif plan.no_room:
            self._parked[segment] = Parked.NO_ROOM
        elif plan.blocked:
            self._parked[segment] = Parked.BLOCKED
        if segment in self._parked and not plan.trim:
            self.failures.pop(segment, None)
        return None

    def _unpark(self, segment: bytes) -> None:
        self._waiting -= self._parked.pop(segment, None) is Parked.WAITING
        self._rescuers.pop(segment, None)

    def _begin(self, segment: bytes, job: Job) -> _Running:
        flaw = self._inventory.flaws[segment]
        kind: Kind = "rebalance" if flaw.harm is Harm.MISPLACED else "repair"
        scale = (job.blob.k + len(job.rebuild)) / len(job.rebuild) if job.rebuild else 2.0
        work = self._pace.work(lambda written: self._books.moved(kind, written * scale, written))
        return _Running(job, kind, work, scale, flaw.readable - job.blob.k)

    async def _run(self, segment: bytes, running: _Running) -> None:
        job, work = running.job, running.work
        try:
            stored = await self._rebuilder.run(job, work.slot, self._pace.window_bytes)
            for one in stored:
                self._inventory.note_stored(one.node, job.partition, one.fragment)
            self._books.finished(running.kind, work.written * running.scale, work.held_s, stored)
        except ObjstoreError as error:
            self._fail(segment, str(error), running.kind)
        else:
            self.failures.pop(segment, None)
        finally:
            self._running.pop(segment, None)
            self._writes.subtract(_targets(job))
        self._inventory.judge(PLANNED_AT_ONCE)
        self._push(segment)  # there may be more to do
        self._wake.set()

    def _fail(self, segment: bytes, error: str, kind: Kind) -> None:
        known = self.failures.get(segment)
        attempts = known.attempts + 1 if known else 1
        pause = min(RETRY_MAX_S, RETRY_S * 2 ** (attempts - 1)) * self._random.uniform(0.5, 1.0)
        self.failures[segment] = Failure(attempts, self._clock.monotonic() + pause, error)
        self._books.failed(kind)
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
                    self._fail(segment, str(error), "rebalance")
                    return
                if done:
                    trimmed += 1
                    self._inventory.note_deleted(trim.extra, job.partition, {job.fragment(trim.shard).pack()})

        await in_parallel(self._settings.jobs, segments, one)
        return trimmed


def _targets(job: Job) -> list[NodeId]:
    return [*(placed.target for placed in job.rebuild), *(moved.target for moved in job.move)]
