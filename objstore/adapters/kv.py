"""The real key-value store: LMDB with synchronous commits.

Chosen settings, each against a known way to lose data: `sync` and `metasync` on (a commit that returned is
durable), `writemap` off (a full disk is an error and not a SIGBUS), a sparse map larger than the data will be
(growing it in place races with readers), one environment per process and never across fork.

Errors leave as OSError: ENOSPC when the map or the file system is full (nothing was committed), DamagedKV when its
pages contradict each other, EIO for everything else. Pages carry no checksums: most damage goes unnoticed here
(`objstore.node.sealed` is above it), or ends the process by a signal (`objstore.cli.store`). Reads open and close
their transaction within the call, so no reader pins old pages.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from typing import Any

import lmdb

from objstore.adapters.disk import make_folder, sync_folder
from objstore.model.errors import Fatal
from objstore.model.limits import GIB, MIB
from objstore.ports import DamagedKV, Rows, Write

KEY_BYTES_MAX = 511  # compiled into LMDB
MAP_BYTES_MAX = 64 * GIB
MAP_BYTES_MIN = GIB
_READERS_MAX = 256
_NO_ROOM_BYTES = 16 * MIB  # so little is left: some 250 KiB are written at a time, and others may just have freed some
_BATCH_MIN, _BATCH_MAX = 16, 128  # rows of a scan taken at a time: a loop over each would cost more than to read it

_FORMAT_AT = 16  # magic and version in a meta page, after the header that every page has

# What LMDB says when it meets pages that it cannot have written. Another version of it is not among these, nor is
# "panic": that is an environment that failed to write, and sound again when it is opened again.
_DAMAGE = (
    lmdb.BadDbiError,  # the record of a table is another one than when it was opened
    lmdb.BadTxnError,  # a page made the transaction invalid: ours are used once, and end with their first error
    lmdb.CorruptedError,
    lmdb.CursorFullError,  # a tree deeper than any: pages that lead in a circle
    lmdb.IncompatibleError,  # flags of a table that we never set
    lmdb.InvalidError,
    lmdb.PageFullError,
    lmdb.PageNotFoundError,
    lmdb.ProblemError,
)


def default_map_size(path: str) -> int:
    """Room for the index: the size of the file system, within bounds. The file is sparse and the map is only
    address space, so too large costs nothing; too small would be a full disk too early."""
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    found = os.statvfs(parent)
    total = found.f_blocks * found.f_frsize
    return min(MAP_BYTES_MAX, max(MAP_BYTES_MIN, total)) // 4096 * 4096


class LmdbKV:
    """KV over one LMDB environment in the folder `path`, with one named database per table."""

    def __init__(self, path: str | os.PathLike[str], tables: Sequence[str], map_size: int | None = None) -> None:
        self.path = os.path.abspath(path)
        try:
            make_folder(self.path)
            self._env = lmdb.open(
                self.path,
                map_size=map_size or default_map_size(self.path),
                max_dbs=len(tables),
                max_readers=_READERS_MAX,
                max_spare_txns=1,
                readahead=False,
                writemap=False,
                sync=True,
                metasync=True,
            )
            self._tables = {table: self._env.open_db(table.encode()) for table in tables}
        except _DAMAGE as error:
            raise DamagedKV(f"it cannot be opened: {error}") from error
        except (lmdb.Error, OSError) as error:
            if isinstance(error, lmdb.Error) and _contradicts_itself(self.path):
                raise DamagedKV(f"it cannot be opened: {error}") from error
            raise Fatal(
                f"The index in {self.path} cannot be opened ({error}). Check the permissions, the disk and the release "
                "that wrote it. If it is lost, move that folder away: a node then indexes its volumes anew."
            ) from error
        sync_folder(self.path)  # the names of a new environment

    def get(self, table: str, key: bytes) -> bytes | None:
        try:
            with self._env.begin(db=self._table(table)) as reader:
                found: bytes | None = reader.get(_checked(key))
                return found
        except lmdb.Error as error:
            raise _as_os_error(error) from error

    def scan(self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None) -> Rows:
        found: Rows = []
        self._collect(table, start, end, limit, [], found, [])
        return found

    def window(
        self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> tuple[Rows, Rows, Rows]:
        before: Rows = []
        found: Rows = []
        after: Rows = []
        self._collect(table, start, end, limit, before, found, after)
        return before, found, after

    def _collect(
        self, table: str, start: bytes, end: bytes | None, limit: int | None, before: Rows, found: Rows, after: Rows
    ) -> None:
        room = -1 if limit is None else limit
        try:
            with self._env.begin(db=self._table(table)) as reader, reader.cursor() as cursor:
                is_at = cursor.set_range(start) if start else cursor.first()
                if start and (cursor.prev() if is_at else cursor.last()):
                    before.append(cursor.item())
                    cursor.next()
                elif is_at:
                    cursor.first()
                if not is_at or room == 0:
                    return
                items, size = cursor.iternext(), _BATCH_MIN
                while batch := list(islice(items, min(size, room - len(found)) if limit is not None else size)):
                    size = min(2 * size, _BATCH_MAX)
                    if end is not None and batch[-1][0] >= end:
                        stop = bisect_left(batch, (end,))
                        found += batch[:stop]
                        after.append(batch[stop])
                        break
                    found += batch
                    if len(found) == room:
                        break
        except lmdb.Error as error:
            raise _as_os_error(error) from error

    def commit(self, writes: Sequence[Write]) -> None:
        try:
            with self._env.begin(write=True) as transaction:
                for table, key, value in writes:
                    if value is None:
                        transaction.delete(_checked(key), db=self._table(table))
                    else:
                        transaction.put(_checked(key), value, db=self._table(table))
        except lmdb.Error as error:
            if str(error).endswith(os.strerror(errno.EIO)) and _is_full(self.path):
                raise OSError(errno.ENOSPC, f"index: {error}, with the file system full") from error
            raise _as_os_error(error) from error

    def usage(self) -> tuple[int, int]:
        """Pages of the tables; those that are free again do not count, though the file keeps them."""
        try:
            with self._env.begin() as reader:
                stats = [reader.stat(table) for table in self._tables.values()]
            size = int(self._env.info()["map_size"])
        except lmdb.Error as error:
            raise _as_os_error(error) from error
        pages = (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return sum(pages) * int(stats[0]["psize"]) if stats else 0, size

    def walk(self) -> None:
        """Read every page in use, those of LMDB's list of free pages too, which no row shows and every commit needs:
        a copy that is thrown away does. Raises DamagedKV; blocking, at start. See `objstore.cli.store` on signals."""
        drain, copy = os.pipe()  # not /dev/null: most kernels do not look at what is written there
        reader = threading.Thread(target=_read_to_the_end, args=(drain,))
        reader.start()
        try:
            self._env.copyfd(copy, compact=True)
        except lmdb.IncompatibleError:
            pass  # its count of pages does not add up: leaked ones are no damage, and one used twice shows in the rows
        except lmdb.Error as error:
            if str(error).endswith(os.strerror(errno.EFAULT)):
                raise DamagedKV(f"pages lead behind the end of the file: {error}") from error
            raise _as_os_error(error) from error
        finally:
            os.close(copy)
            reader.join()

    def close(self) -> None:
        self._env.close()

    def _table(self, name: str) -> Any:
        try:
            return self._tables[name]
        except KeyError:
            raise ValueError(f"there is no table {name!r}") from None


def _checked(key: bytes) -> bytes:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}")
    return key


def _read_to_the_end(pipe: int) -> None:
    with open(pipe, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _as_os_error(error: lmdb.Error) -> OSError:
    if isinstance(error, _DAMAGE):
        return DamagedKV(str(error))
    full = isinstance(error, (lmdb.MapFullError, lmdb.DiskError))
    return OSError(errno.ENOSPC if full else errno.EIO, f"index: {error}")


def _is_full(path: str) -> bool:
    """LMDB takes a write that was cut short for a failed one, and so is told of a disk that fills up in its midst. Of
    such a commit nothing counts, and the next one writes all its pages again, so it is safe to go on."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize < _NO_ROOM_BYTES


def _contradicts_itself(path: str) -> bool:
    """Whether the two meta pages differ in magic or format: who writes one has written the other. LMDB says only that
    it does not know the format."""
    try:
        with open(os.path.join(path, "data.mdb"), "rb") as file:
            one, other = (os.pread(file.fileno(), 8, page + _FORMAT_AT) for page in (0, mmap.PAGESIZE))
    except OSError:
        return False
    return one != other
