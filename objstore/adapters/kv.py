"""The real key-value store: LMDB with synchronous commits.

Chosen settings, each against a known way to lose data: `sync` and `metasync` on (a commit that returned is
durable), `writemap` off (a full disk is an error and not a SIGBUS), a sparse map larger than the data will be
(growing it in place races with readers), one environment per process and never across fork.

Errors leave as OSError: ENOSPC when the map or the file system is full (nothing was committed), EIO for
everything else. Reads open and close their transaction within the call, so no reader pins old pages.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

import lmdb

from objstore.model.errors import Fatal
from objstore.model.limits import GIB
from objstore.ports import Write

KEY_BYTES_MAX = 511  # compiled into LMDB
MAP_BYTES_MAX = 64 * GIB
MAP_BYTES_MIN = GIB
_READERS_MAX = 256


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
            os.makedirs(self.path, exist_ok=True)
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
        except (lmdb.Error, OSError) as error:
            raise Fatal(
                f"The index in {self.path} cannot be opened ({error}). If its files are damaged, bring them back "
                "from a copy, or move that folder away and start without it: a node then indexes its volumes anew."
            ) from error
        for folder in (self.path, os.path.dirname(self.path)):  # the names of a new environment
            _sync_folder(folder)

    def get(self, table: str, key: bytes) -> bytes | None:
        try:
            with self._env.begin(db=self._table(table)) as reader:
                found: bytes | None = reader.get(_checked(key))
                return found
        except lmdb.Error as error:
            raise _as_os_error(error) from error

    def scan(
        self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        room = -1 if limit is None else limit
        if room == 0:
            return found
        try:
            with self._env.begin(db=self._table(table)) as reader, reader.cursor() as cursor:
                if not (cursor.set_range(start) if start else cursor.first()):
                    return found
                for key, value in cursor.iternext():
                    if end is not None and key >= end:
                        break
                    found.append((key, value))
                    if len(found) == room:
                        break
        except lmdb.Error as error:
            raise _as_os_error(error) from error
        return found

    def commit(self, writes: Sequence[Write]) -> None:
        try:
            with self._env.begin(write=True) as transaction:
                for table, key, value in writes:
                    if value is None:
                        transaction.delete(_checked(key), db=self._table(table))
                    else:
                        transaction.put(_checked(key), value, db=self._table(table))
        except lmdb.Error as error:
            raise _as_os_error(error) from error

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


def _as_os_error(error: lmdb.Error) -> OSError:
    full = isinstance(error, (lmdb.MapFullError, lmdb.DiskError))
    return OSError(errno.ENOSPC if full else errno.EIO, f"index: {error}")


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
