"""The record journal: every accepted register value in plain append-only files beside the volumes (P9).

The key-value store is what a node works with; the journal is what is left of its registers when the store is lost.
It is also their write-ahead log (INV-12): records are durable before the rows of their batch are committed, rows may
follow many batches later (`objstore.node.commit`), and the end up to which they have followed is a row of the same
commit. At the next start the rows are brought up to what lies beyond that end. A batch whose commit failed is cut off
before anybody hears of it: an acceptor must not appear to have accepted what it has denied since.

Files belong to a life of the node, which ends with the loss of its store: `records/<node id>-<number>.rec`. Those of
other ids are former lives (`objstore.node.lost`). What the bytes mean is in `objstore.node.journal_format`, how old
files are got rid of in `objstore.node.compaction`.

Threads: `prepare`, `append` and `undo` are called by the commit alone, in its executor job; everything else belongs
to the event loop, except what is said to block.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from objstore.model.errors import Corrupt, Fatal
from objstore.model.limits import MIB
from objstore.node import journal_format as form
from objstore.node.journal_format import HEADER_BYTES, Header, Record
from objstore.ports import KV, DamagedKV, Disk, File, Write

logger = logging.getLogger(__name__)

FOLDER = "records"
TABLE = "journal"
FILE_BYTES = 64 * MIB  # a file that is longer takes no more batches
_SUFFIX = ".rec"
_END = b"end"  # row: number of the newest file, bytes of it that count
_FIRST = b"first"  # row: number of the oldest file
_INCOMPLETE = b"incomplete"  # row: there while `Journal.incomplete`
_AHEAD = b"ahead"  # row: there while the files may hold what the rows do not
_END_ROW = struct.Struct(">IQ")
_FIRST_ROW = struct.Struct(">I")
_ZEROS = bytes(MIB)
BLOCK_BYTES = 4096  # of a file system, or a multiple
ALLOCATE_BYTES = MIB  # zeros written behind the end: a sync of blocks that are there is three times as fast


class Batch(NamedTuple):
    """Records on their way into a file. They count once `row` is committed (`keep`)."""

    file: File
    salt: bytes
    number: int
    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def row(self) -> Write:
        return TABLE, _END, _END_ROW.pack(self.number, self.end)


def path_of(node_id: str, number: int) -> str:
    return f"{FOLDER}/{node_id}-{number:08d}{_SUFFIX}"


def files_in(disk: Disk) -> dict[str, list[int]]:
    """Node id -> numbers of its files, ascending. Files of other names are not ours and stay untouched."""
    found: dict[str, list[int]] = {}
    for name in disk.list_dir(FOLDER) if disk.exists(FOLDER) else ():
        node_id, _, number = name.removesuffix(_SUFFIX).rpartition("-")
        if name.endswith(_SUFFIX) and node_id and len(number) == 8 and number.isdigit():
            found.setdefault(node_id, []).append(int(number))
    return found


class Journal:
    def __init__(
        self,
        disk: Disk,
        cluster_id: str,
        node_id: str,
        make_salt: Callable[[], bytes],
        *,
        file_bytes: int = FILE_BYTES,
        reserve_bytes: int = 0,
    ) -> None:
        """`reserve_bytes`: so much of the disk is left to those who give space back."""
        self._disk = disk
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._make_salt = make_salt
        self.file_bytes = file_bytes
        self._reserve_bytes = reserve_bytes
        self._file: File | None = None  # the newest one
        self._salt = b""
        self._closed = True  # the newest file takes no more batches
        self._end = 0
        self._allocated = 0  # of the newest file: what is behind the end, up to there, are zeros
        self._old_bytes = 0  # of all files but the newest
        self.first = 1
        self.number = 0  # of the newest file; 0: there is none yet
        self.may_lead = False  # the index knows that files may hold what its rows do not
        self.incomplete = False  # records of the rows are missing from the files

    @property
    def size_bytes(self) -> int:
        return self._old_bytes + self._end

    @property
    def end_row(self) -> Write:
        """Rows have followed up to what was kept last."""
        return TABLE, _END, _END_ROW.pack(self.number, self._end)

    def recover(self, kv: KV) -> list[Record]:
        """Blocking, once, at start. Records that are not in the rows yet: whoever calls commits them with `end_row`.
        `incomplete` says that files are missing which the rows can replace. DamagedKV: what is missing is nowhere."""
        self._disk.make_dir(FOLDER)
        row, first = kv.get(TABLE, _END), kv.get(TABLE, _FIRST)
        self.number, self._end = (0, 0) if row is None else _END_ROW.unpack(row)
        self.first = 1 if first is None else _FIRST_ROW.unpack(first)[0]
        present = files_in(self._disk).get(self._node_id, [])
        outside = [number for number in present if not self.first <= number <= self.number]
        for number in outside:  # begun and never committed, or compacted and not removed yet
            self._unlink(number)
        missing = set(range(self.first, self.number + 1)).difference(present)
        for number in present:
            if number not in outside and number != self.number:
                self._old_bytes += self._size(number)
        if missing:
            self._lament(f"{len(missing)} of its files are gone")
        records: list[Record] = []
        if self.number in present:
            records = self._reopen()
        else:
            self._end = 0
        self.may_lead = kv.get(TABLE, _AHEAD) is not None
        if self.number and self._file is None and self.may_lead:
            raise DamagedKV(
                "the newest file of the record journal is gone or cut, and may have had more in it than the index"
            )
        if kv.get(TABLE, _INCOMPLETE) is not None:
            self.incomplete = True
        elif self.incomplete:
            kv.commit([self.incomplete_row()])
        if self.number == 0:
            self._begin()
        return records

    def _begin(self) -> None:
        """The first file, empty: who finds none later knows that the journal is gone, not that nothing was accepted."""
        self._disk.open(self._path(1), create=True)
        self._disk.sync_dir(FOLDER)

    def _reopen(self) -> list[Record]:
        """Take up the newest file; what stands in it beyond the last commit of rows."""
        file = self._disk.open(self._path(self.number))
        size = file.size()
        try:
            self._salt = form.decode_header(file.pread(HEADER_BYTES, 0)).salt
            if size < self._end:
                raise Corrupt(f"{self._path(self.number)} was cut to {size} of {self._end} bytes")
        except Corrupt as error:
            self._lament(str(error))
            self._end = size
            return []
        try:
            tail = form.read_tail(file.pread, self._end, size, self._salt)
        except Corrupt as error:
            raise Fatal(f"{self._path(self.number)}: {error}. Start the release that wrote it.") from error
        if tail.is_lost:
            raise DamagedKV(f"the record journal is damaged at byte {tail.end} of {self._path(self.number)}")
        if not form.is_zero(file.pread, tail.end, size):
            _cut(file, tail.end, size - tail.end)
        self._end, self._allocated = tail.end, size
        self._file = file
        self._closed = False
        return tail.records

    def _lament(self, why: str) -> None:
        logger.error("The record journal is not complete: %s. It is written again from the index.", why)
        self.incomplete = True

    # --- appending -----------------------------------------------------------------------------------------

    def prepare(self, records: Sequence[bytes]) -> Batch:
        """Blocking. The next batch, not written yet; a new file for it if it is time."""
        if self._closed or self._end >= self.file_bytes:
            number, start, salt = self.number + 1, 0, self._make_salt()
            file: File = self._disk.open(self._path(number), create=True)
            pieces = [form.encode_header(Header(self._cluster_id, self._node_id, number, salt))]
            self._allocated = 0
        else:
            assert self._file is not None
            number, start, salt, file, pieces = self.number, self._end, self._salt, self._file, []
        pieces += form.frame(form.encode_synced(start), salt)
        for record in records:
            pieces += form.frame(record, salt)
        return Batch(file, salt, number, start, b"".join(pieces))

    def append(self, batch: Batch) -> None:
        """Blocking. Durable on return."""
        batch.file.pwrite(batch.data, batch.start)
        if batch.end > self._allocated:
            self._allocate(batch)
        batch.file.sync()
        if batch.number != self.number:
            self._disk.sync_dir(FOLDER)

    def _allocate(self, batch: Batch) -> None:
        """For the batches to come. Whether there is room for them is not this one's concern; but the index needs some
        to let go of what is deleted, and would find none where a journal has filled the disk with zeros."""
        length = min(ALLOCATE_BYTES, self.file_bytes - batch.end, self._disk.space()[0] - self._reserve_bytes)
        try:
            batch.file.pwrite(_ZEROS[: max(0, length)], batch.end)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        self._allocated = max(batch.end, batch.file.size())

    def undo(self, batch: Batch) -> None:
        """Blocking: the batch failed, wholly or its rows, and the node goes on: nothing of it may be read."""
        _cut(batch.file, batch.start, len(batch.data))

    def keep(self, batch: Batch) -> None:
        is_new = batch.number != self.number
        assert batch.start == (0 if is_new else self._end), "INV-12"
        if is_new:
            self._old_bytes += self._end
            self._closed = False
        self._file, self._salt, self.number, self._end = batch.file, batch.salt, batch.number, batch.end

    def is_new_file(self, batch: Batch) -> bool:
        return batch.number != self.number

    def ahead_row(self) -> Write:
        """Committed before a batch is durable here alone."""
        return TABLE, _AHEAD, b"\x01"

    def level_row(self) -> Write:
        """Committed with the last rows, when no more batches come."""
        return TABLE, _AHEAD, None

    def close_file(self) -> None:
        """The next batch begins a new file."""
        self._closed = True

    # --- old files -----------------------------------------------------------------------------------------

    def first_row(self, number: int) -> Write:
        """Committed once nothing older than this file is needed."""
        return TABLE, _FIRST, _FIRST_ROW.pack(number)

    def incomplete_row(self) -> Write:
        return TABLE, _INCOMPLETE, b"\x01"

    def complete_row(self) -> Write:
        return TABLE, _INCOMPLETE, None

    def remove_before(self, number: int) -> int:
        """Blocking; after `first_row` was committed. Oldest first. Returns the bytes that are free then (`removed`)."""
        freed = 0
        for old in [old for old in files_in(self._disk).get(self._node_id, []) if old < number]:
            freed += self._size(old)
            with contextlib.suppress(FileNotFoundError):
                self._unlink(old)
        return freed

    def removed(self, number: int, freed: int) -> None:
        self.first = number
        self._old_bytes -= freed

    def end_of(self, number: int) -> int | None:
        """How many bytes of a file count: all (None) but in the newest one."""
        return self._end if number == self.number else None

    def open_file(self, number: int) -> tuple[File, int, bytes]:
        """Blocking. An old file, its size, its salt. OSError when it is gone, Corrupt when its header is."""
        file = self._disk.open(self._path(number))
        return file, file.size(), form.decode_header(file.pread(HEADER_BYTES, 0)).salt

    def _unlink(self, number: int) -> None:
        """Durably before the next: a drop that is read kills only what lies before it, so it goes after that."""
        self._disk.unlink(self._path(number))
        self._disk.sync_dir(FOLDER)

    def _size(self, number: int) -> int:
        try:
            return self._disk.open(self._path(number)).size()
        except FileNotFoundError:
            return 0

    def _path(self, number: int) -> str:
        return path_of(self._node_id, number)


def _cut(file: File, start: int, length: int) -> None:
    """Zeros over what is there of a range: in place, so that a full disk does not matter. Blocks of zeros are left
    alone: a power cut may have left them without a place on the disk."""
    end = min(start + length, file.size())
    try:
        at = start
        while at < end:
            following = min(end, (at // BLOCK_BYTES + 1) * BLOCK_BYTES)
            if any(file.pread(following - at, at)):
                file.pwrite(memoryview(_ZEROS)[: following - at], at)
            at = following
        file.sync()
    except OSError as error:  # whatever it says: what must not be read stays there, so nothing may go on
        raise OSError(errno.EIO, f"the end of the record journal could not be cut: {error}") from error
