"""Keeps the record journal short: what still counts of the oldest file is written again at its end, then the file goes.

A ring, so that little space is needed at a time. A value is moved by an entry of the commit queue that is planned in
its turn: everything before it is in the rows then, so what the row still holds is what counts, and what follows in
the journal happened later. Of the other records of a file only the highest tag of each partition is carried on, and
its floor as it is now: a drop or a forget kills what lies before it, and nothing older than the oldest file is left.

A journal that has lost records (`Journal.incomplete`) is written again from the rows instead, whole. The tags under
which values were accepted are not in the rows; there the fence stands for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from objstore.model.clock import ZERO
from objstore.model.errors import Corrupt, ObjstoreError
from objstore.model.limits import MIB
from objstore.node import journal_format as form
from objstore.node import register_rows as rows
from objstore.node.commit import SHORTAGES, GroupCommit, Planned
from objstore.node.index import rows_of
from objstore.node.journal import Journal
from objstore.node.journal_format import Damage, Drop, Fence, Value
from objstore.ports import KV

logger = logging.getLogger(__name__)

STEP_BYTES = MIB  # moved by one entry
LOOK_BYTES = 8 * MIB  # looked at for it
PAUSE_S = 2.0

_Moved = list[tuple[Value, bytes]]


@dataclass(slots=True)
class _Move:
    """How far the oldest file is moved. Kept over a failure, so that nothing is written twice."""

    number: int
    tags: dict[int, int] = field(default_factory=dict)  # of every partition that it speaks of
    damage: Damage = field(default_factory=Damage)
    pieces: Iterator[_Moved] = field(init=False)
    piece: _Moved = field(default_factory=list)  # the one that is being moved


@dataclass(slots=True)
class _Rewrite:
    """How far the rows are written again."""

    begin: int  # number of the first file that holds them
    at: bytes | None = None  # next row; None: not even fences and floors are written
    following: bytes | None = b""  # `at` of the next step; None: there are no more rows


class Compactor:
    def __init__(self, kv: KV, journal: Journal, commits: GroupCommit, live_bytes: Callable[[], int]) -> None:
        self._kv = kv
        self._journal = journal
        self._commits = commits
        self._live_bytes = live_bytes
        self._move: _Move | None = None
        self._rewrite: _Rewrite | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_due(self) -> bool:
        journal = self._journal
        return journal.incomplete or journal.size_bytes > 2 * self._live_bytes() + journal.file_bytes

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def distrust(self) -> None:
        """Records were found damaged: all is written again."""
        await self._commits.submit([self._journal.incomplete_row()])
        self._journal.incomplete = True
        self._move = None

    async def close(self) -> None:
        """Ends with the current step; no file is touched after that."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._commits.fatal is None and not self._stopping.is_set():
            try:
                while self.is_due and not self._stopping.is_set():
                    await self._compact()
            except (OSError, ObjstoreError) as error:
                logger.warning("The record journal cannot be compacted now: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._stopping.wait()

    async def _compact(self) -> None:
        """Get rid of the oldest file, or of all when records are missing. After a failure, again: it goes on."""
        if self._journal.incomplete:
            await self._write_again()
        else:
            await self._move_oldest()

    # --- the oldest file -----------------------------------------------------------------------------------

    async def _move_oldest(self) -> None:
        move = self._move
        if move is None:
            number = self._journal.first
            if number == self._journal.number:
                self._journal.close_file()
                await self._commits.flush()  # a batch may still be on its way into the file
            move = self._move = _Move(number)
            move.pieces = self._pieces(move)
        while await self._next_piece(move):
            await self._commits.submit(plan=partial(self._plan_move, move.piece))
            move.piece = []
            if self._stopping.is_set():
                return
        if move.damage.places:
            logger.error("A file of the record journal is damaged; the journal is written again from the index.")
            await self.distrust()
            return
        await self._commits.submit(plan=partial(self._plan_end, move))
        self._move = None
        await self._drop_before(move.number + 1)

    async def _next_piece(self, move: _Move) -> bool:
        loop = asyncio.get_running_loop()
        while not move.piece:
            try:
                piece = await loop.run_in_executor(None, next, move.pieces, None)
            except OSError:
                self._move = None  # the walk is over; begin again
                raise
            if piece is None:
                return False
            move.piece = piece
        return True

    def _pieces(self, move: _Move) -> Iterator[_Moved]:
        """Blocking. The values of the file that were still in the rows when they were looked at."""
        try:
            yield from self._values(move)
        except (OSError, Corrupt) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                raise
            logger.error("A file of the record journal cannot be read: %s", error)
            move.damage.places += 1

    def _values(self, move: _Move) -> Iterator[_Moved]:
        file, size, salt = self._journal.open_file(move.number)
        piece: _Moved = []
        moved = looked = 0
        for found in form.walk(file.pread, size, salt, move.damage):
            record = form.decode(found.record)
            if isinstance(record, form.Promise | form.Synced):
                continue  # the rows of an old file are in the index, promises too
            tag = record.tag if isinstance(record, (Value, Drop, Fence)) else 0
            move.tags[record.partition] = max(move.tags.get(record.partition, 0), tag)
            looked += len(found.record)
            if isinstance(record, Value) and self._is_current(record):
                piece.append((record, found.record))
                moved += len(found.record)
            if moved >= STEP_BYTES or looked >= LOOK_BYTES:
                yield piece
                piece, moved, looked = [], 0, 0
        yield piece

    def _plan_move(self, piece: _Moved) -> Planned:
        return Planned((), [record for value, record in piece if self._is_current(value)])

    def _plan_end(self, move: _Move) -> Planned:
        """The file is no longer needed: what it said of whole partitions is said again, as it is now."""
        records = [form.encode_fence(partition, tag) for partition, tag in sorted(move.tags.items())]
        floors = [(partition, rows.read_floor(self._kv, partition)) for partition in sorted(move.tags)]
        records += [form.encode_floor(partition, floor.pack()) for partition, floor in floors if floor != ZERO]
        return Planned([self._journal.first_row(move.number + 1)], records)

    def _is_current(self, value: Value) -> bool:
        place = rows.place_of(value.partition, value.key)
        key = rows.stored_key(place)
        raw = self._kv.get(rows.REG, key)
        if raw is None:
            return False
        row = rows.unpack(key, raw)
        return row.place == place and row.accepted == value.ballot

    # --- all of them ---------------------------------------------------------------------------------------

    async def _write_again(self) -> None:
        rewrite = self._rewrite
        if rewrite is None:
            rewrite = self._rewrite = _Rewrite(self._journal.number + 1)
            self._journal.close_file()
        while rewrite.following is not None:
            await self._commits.submit(plan=partial(self._plan_rows, rewrite))
            rewrite.at = rewrite.following
            if self._stopping.is_set():
                return
        await self._commits.submit([self._journal.first_row(rewrite.begin), self._journal.complete_row()])
        self._journal.incomplete = False
        self._rewrite = None
        await self._drop_before(rewrite.begin)
        logger.info("The record journal is complete again")

    def _plan_rows(self, rewrite: _Rewrite) -> Planned:
        if rewrite.at is None:
            state = [form.encode_fence(partition, tag) for partition, tag in rows.fences(self._kv)]
            state += [form.encode_floor(partition, floor.pack()) for partition, floor in rows.floors(self._kv)]
            return Planned((), state)
        rewrite.following = None
        records: list[bytes] = []
        size = 0
        for key, raw in rows_of(self._kv, rows.REG, rewrite.at):
            if size >= STEP_BYTES:
                rewrite.following = key
                break
            row = rows.unpack(key, raw)
            if not row.is_written:
                continue
            held = rows.complete(self._kv, row, with_data=True)
            partition = int.from_bytes(row.place[:2], "big")
            tag = rows.read_fence(self._kv, partition)
            ballot = held.acceptor.accepted.pack()
            records.append(form.encode_value(partition, tag, row.place[2:], ballot, *held[1:]))
            size += len(records[-1])
        return Planned((), records)

    async def _drop_before(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        freed = await loop.run_in_executor(None, self._journal.remove_before, number)
        self._journal.removed(number, freed)
