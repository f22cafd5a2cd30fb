"""Group commit: one sync per volume, one of the record journal, and one key-value commit for all that waits.

Whoever has changes queues them and waits; a single background task takes everything queued, makes the volumes
durable, then the journal, then commits all rows at once, while newcomers queue behind it. Order is the order of
`submit`, in the journal too, so a later entry may build on an earlier one that is not durable yet.

Entries that are `light` (what registers promise and accept: most of what a node writes) are told in the journal so
that their rows can be made again from it. A batch of these alone is durable with the sync of the journal. Its rows
wait in memory, where `ahead` shows them, for the next batch that is not light, or for FLUSH_S: all of a second in one
commit. Whoever walks over tables calls `flush` before.

Where the disk syncs quickly batches of light entries are stored on the event loop (`objstore.node.pace`), and gather
meanwhile.

Failure rules
- A full volume fails the entries that wrote to it, and only them.
- A full index or journal fails the whole batch *and everything queued behind it*: those may have been decided on
  rows that now never come. Nothing of them is stored; what the journal has of them is cut off before anyone hears.
- Any other error of the disk is final (an fsync that failed once says nothing about the pages it dropped): every
  entry fails, all later ones are refused, and `on_fatal` is told so that the process ends.

`settled` of an entry runs exactly once, in order, also when its waiter has been cancelled. It does the book-keeping;
the future only wakes the waiter.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from objstore.model.errors import Fatal, InsufficientStorage, ObjstoreError, Overloaded, Unavailable
from objstore.node.journal import Batch, Journal
from objstore.node.overlaid import Overlaid
from objstore.node.pace import Pace
from objstore.node.sync_times import SyncTimes
from objstore.node.volumes import Volumes
from objstore.ports import KV, DamagedKV, Scans, Write

logger = logging.getLogger(__name__)

BATCH_WRITES_MAX = 8192
BATCH_BYTES_MAX = 32 * 1024 * 1024
QUEUE_ENTRIES_MAX = 16384
QUEUE_BYTES_MAX = 64 * 1024 * 1024
AHEAD_BYTES_MAX = 8 * 1024 * 1024  # of rows that wait: what is read again at a start
FLUSH_S = 1.0

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of the process or the machine: they pass

Settled = Callable[[ObjstoreError | None], None]


class IndexLost(Fatal):
    """The index is damaged, so this acceptor may have forgotten a promise: it must never speak again. `why`: what was
    found."""

    why: str

    @classmethod
    def by(cls, damage: DamagedKV) -> IndexLost:
        lost = cls(
            f"The index of this node is damaged: {damage.strerror}. The node stops; started again it sets the index "
            "aside, indexes its volumes anew and takes its old place under a new id. Check the disk and the memory."
        )
        lost.why = str(damage.strerror)
        return lost


class Planned(NamedTuple):
    writes: Sequence[Write]
    records: Sequence[bytes] = ()


Plan = Callable[[], Planned]


@dataclass(slots=True, eq=False)
class _Entry:
    writes: Sequence[Write]
    records: Sequence[bytes]
    volumes: Sequence[int]
    plan: Plan | None
    light: bool
    settled: Settled | None
    done: asyncio.Future[None]
    weight: int


class _Stored(NamedTuple):
    full: dict[int, OSError]  # volumes, whose entries are not in the commit
    appended: Batch | None  # the end of the journal
    indexed: bool  # rows that waited are in the store
    waiting: Sequence[Write] = ()  # rows of this batch, which are not


class GroupCommit:
    """`pace`: of batches that are light."""

    def __init__(
        self, kv: KV, volumes: Volumes, journal: Journal, on_fatal: Callable[[Fatal], None], pace: Pace
    ) -> None:
        self._kv = kv
        self._volumes = volumes
        self._journal = journal
        self._on_fatal = on_fatal
        self._pace = pace
        self._queue: deque[_Entry] = deque()
        self._queued_bytes = 0
        self._batch: deque[_Entry] = deque()  # taken from the queue, not settled yet
        self._begin: asyncio.Handle | None = None  # of the next batch
        self._task: asyncio.Task[None] | None = None
        self._ahead: dict[tuple[str, bytes], bytes | None] = {}  # rows that wait; changed between two batches only
        self._ahead_bytes = 0
        self._flushing: asyncio.TimerHandle | None = None
        self.batches = 0
        self.times = SyncTimes()
        self.fatal: Fatal | None = None

    def submit(
        self,
        writes: Sequence[Write] = (),
        *,
        records: Sequence[bytes] = (),
        volumes: Sequence[int] = (),
        plan: Plan | None = None,
        light: bool | None = None,
        settled: Settled | None = None,
    ) -> asyncio.Future[None]:
        """Queue, and get a future for "durable". Raises when nothing was queued (`settled` is then not called).

        No writes: done as soon as everything submitted before is. `records` tell in the journal what `writes` do to
        registers. `plan` makes both when its turn comes, in an executor, alone in its batch, with all earlier entries
        committed, and their rows. `light`: the rows can be made from the records; so it is where there is nothing to
        commit.
        """
        if self.fatal is not None:
            raise self.refusal()
        weight = sum(len(key) + len(value or b"") for _, key, value in writes) + sum(map(len, records))
        if len(self._queue) >= QUEUE_ENTRIES_MAX or self._queued_bytes + weight > QUEUE_BYTES_MAX:
            raise Overloaded("The commit queue of this node is full because its disk is slower than its work; retry.")
        loop = asyncio.get_running_loop()
        if light is None:
            light = not (writes or volumes or plan)
        entry = _Entry(writes, records, volumes, plan, light, settled, loop.create_future(), weight)
        entry.done.add_done_callback(_seen)
        self._queue.append(entry)
        self._queued_bytes += weight
        if self._task is None and self._begin is None:
            self._begin = loop.call_soon(self._begin_now)
        return entry.done

    def flush(self) -> asyncio.Future[None]:
        """Done when the rows of everything that was submitted before are in the store."""
        if self._ahead or self.is_busy:
            return self.submit(light=False)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def followed(self, *, or_laid_over: bool = True) -> Scans:
        """The store, with the rows of everything that was submitted before; where these find no room in it, laid over
        it if that will do: lists go on while a disk is full."""
        try:
            await self.flush()
        except InsufficientStorage:
            if not or_laid_over:
                raise
            return Overlaid(self._kv, dict(self._ahead))
        return self._kv

    @property
    def ahead(self) -> Mapping[tuple[str, bytes], bytes | None]:
        """Rows that are durable and wait, by table and key. While a commit runs, the store may have these or newer."""
        return self._ahead

    def failed(self, error: OSError) -> ObjstoreError:
        """What to answer after an OSError of a write; ends the node unless the disk is not to blame, or merely full."""
        if isinstance(error, DamagedKV):
            self._fail_for_good(IndexLost.by(error))
            return self.refusal()
        if error.errno in SHORTAGES:
            return shortage(error)
        if error.errno == errno.ENOSPC:
            return InsufficientStorage(f"The disk of this node is full ({error}); free space or add nodes.")
        self._fail_for_good(Fatal(f"The disk of this node failed ({error}); the node stops. Check or replace it."))
        return self.refusal()

    def refusal(self) -> ObjstoreError:
        """What callers hear after a fatal error; Fatal itself is for this process only."""
        return Unavailable(f"This node has stopped serving. {self.fatal}")

    @property
    def is_busy(self) -> bool:
        return self._task is not None or self._begin is not None

    async def close(self) -> None:
        """Waits until everything queued is durable or has failed, and all rows are in the store. The last call."""
        if self.fatal is None and (self._journal.may_lead or self.is_busy):
            with contextlib.suppress(Overloaded):
                self.submit([self._journal.level_row()])
        while self.is_busy:
            await (asyncio.wait([self._task]) if self._task is not None else asyncio.sleep(0))
        self._end_flushing()

    def _end_flushing(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = None
        if not self._ahead or self.fatal is not None:
            return
        with contextlib.suppress(Overloaded):
            self.flush()
        self._flush_soon()  # until it has succeeded: the index may be full

    def _begin_now(self) -> None:
        self._begin = None
        with self._ending_on_bugs():
            while self._queue and self._is_quick():
                self._take()
                self._commit_inline()
        if self._queue:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _is_quick(self) -> bool:
        if not self._pace.is_quick or not self._journal.may_lead or self._ahead_bytes > AHEAD_BYTES_MAX:
            return False
        return all(entry.light for entry in self._queue)

    async def _run(self) -> None:
        try:
            with self._ending_on_bugs():
                while self._queue:
                    self._take()
                    await self._commit()
        finally:
            self._task = None

    @contextlib.contextmanager
    def _ending_on_bugs(self) -> Iterator[None]:
        """Without a committer nobody would ever be answered."""
        try:
            yield
        except Exception as error:
            logger.exception("The commit task failed")
            self._fail_for_good(Fatal(f"The commit task failed: {error!r}"))

    def _take(self) -> None:
        writes = size = 0
        while self._queue:
            entry = self._queue[0]
            if self._batch and (entry.plan or writes + len(entry.writes) > BATCH_WRITES_MAX or size >= BATCH_BYTES_MAX):
                return
            self._batch.append(self._queue.popleft())
            self._queued_bytes -= entry.weight
            writes += len(entry.writes)
            size += entry.weight
            if entry.plan:
                return

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            numbers = sorted({number for entry in self._batch for number in entry.volumes})
            syncers = {number: self._volumes.syncer(number) for number in numbers}
            stored = await loop.run_in_executor(None, self._store_timed, list(self._batch), syncers)
        except OSError as error:
            self._fail_all(self.failed(error))
            return
        self._settle_batch(stored, loop.time(), loop.time() - began)

    def _commit_inline(self) -> None:
        began = self._pace.now()
        try:
            stored = self._store_timed(list(self._batch), {})
        except OSError as error:
            self._fail_all(self.failed(error))
            return
        self._settle_batch(stored, asyncio.get_running_loop().time(), self._pace.now() - began)

    def _settle_batch(self, stored: _Stored, now: float, seconds: float) -> None:
        self.batches += 1
        self.times.note(now, seconds)
        if stored.appended is not None:
            self._journal.keep(stored.appended)
        if stored.waiting:
            self._ahead.update(((table, key), row) for table, key, row in stored.waiting)
            self._ahead_bytes += sum(len(key) + len(row or b"") for _, key, row in stored.waiting)
            self._flush_soon()
        elif stored.indexed:
            self._ahead.clear()
            self._ahead_bytes = 0
            self._end_flushing()
        while self._batch:
            entry = self._batch.popleft()
            lost = next((stored.full[number] for number in entry.volumes if number in stored.full), None)
            _settle(entry, None if lost is None else self.failed(lost))

    def _store_timed(self, batch: list[_Entry], syncers: dict[int, Callable[[], None]]) -> _Stored:
        """Blocking."""
        began = self._pace.now()
        stored = self._store(batch, syncers)
        if stored.waiting:
            self._pace.note(began)
        return stored

    def _store(self, batch: list[_Entry], syncers: dict[int, Callable[[], None]]) -> _Stored:
        """Blocking."""
        journal = self._journal
        full: dict[int, OSError] = {}
        for number, sync in syncers.items():
            try:
                sync()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                full[number] = error
        writes: list[Write] = []
        records: list[bytes] = []
        indexed = False
        if batch[0].plan and self._ahead:
            self._kv.commit([*self._waiting(), journal.end_row])
            indexed = True
        for entry in batch:
            if not any(number in full for number in entry.volumes):
                change = entry.plan() if entry.plan else entry
                writes.extend(change.writes)
                records.extend(change.records)
        ahead = [] if indexed else self._waiting()
        light = self._may_wait(batch)
        if not records:
            assert not (light and writes), "INV-12: rows without records"
            if writes or (ahead and not light):
                self._kv.commit([*ahead, *writes, *([journal.end_row] if ahead else [])])
                indexed = True
            return _Stored(full, None, indexed)
        appended = journal.prepare(records)
        try:
            journal.append(appended)
            if light and journal.may_lead and not journal.is_new_file(appended):
                return _Stored(full, appended, indexed, writes)
            self._kv.commit([*ahead, *writes, appended.row, *([] if journal.may_lead else [journal.ahead_row()])])
            journal.may_lead = True
        except OSError as error:
            if error.errno == errno.ENOSPC or error.errno in SHORTAGES:
                journal.undo(appended)
            raise  # any other error ends the node; whether the row came through is seen at the next start
        return _Stored(full, appended, indexed=True)

    def _may_wait(self, batch: list[_Entry]) -> bool:
        return all(entry.light for entry in batch) and self._ahead_bytes <= AHEAD_BYTES_MAX

    def _waiting(self) -> list[Write]:
        return [(table, key, row) for (table, key), row in self._ahead.items()]

    def _fail_for_good(self, fatal: Fatal) -> None:
        if self.fatal is None:
            self.fatal = fatal
            logger.critical("%s", fatal)
            self._end_flushing()
            self._on_fatal(fatal)
        self._fail_all(self.refusal())

    def _fail_all(self, error: ObjstoreError) -> None:
        self._queued_bytes = 0
        while self._batch:
            _settle(self._batch.popleft(), error)
        while self._queue:
            _settle(self._queue.popleft(), error)


def shortage(error: OSError) -> Overloaded:
    return Overloaded(f"This node is short of open files or memory ({error.strerror}); retry, or raise its limits.")


def _settle(entry: _Entry, error: ObjstoreError | None) -> None:
    if entry.settled is not None:
        entry.settled(error)
    if not entry.done.done():
        if error is None:
            entry.done.set_result(None)
        else:
            entry.done.set_exception(error)


def _seen(done: asyncio.Future[None]) -> None:
    """A failure is reported through `settled` too; a waiter that left must not make it a warning."""
    if not done.cancelled():
        done.exception()
