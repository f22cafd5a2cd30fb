"""SimKV: the key-value store in memory. Plain and correct; the same contract suite runs on it and on LMDB.

It outlives the processes of a simulated node: hold on to it, call `crash`, and open the node again. Injected
faults are explicit fields, so that a scenario reads like what it does.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from random import Random

from objstore.ports import Rows, Write

KEY_BYTES_MAX = 511


class SimKV:
    def __init__(self, tables: Sequence[str], capacity: int | None = None) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {table: {} for table in tables}
        self._order: dict[str, list[bytes]] = {table: [] for table in tables}
        self.capacity = capacity  # bytes of keys and values; beyond: ENOSPC
        self.used = 0
        self.commits = 0
        self.fail_commit: OSError | None = None  # raised by every commit while set; nothing is stored
        self.before_change: Callable[[], None] = _nothing  # called before each commit; may raise: the power is cut

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._table(table).get(_checked(key))

    def scan(self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None) -> Rows:
        return self.window(table, start, end, limit=limit)[1]

    def window(
        self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> tuple[Rows, Rows, Rows]:
        rows, order = self._table(table), self._order[table]
        first = bisect_left(order, start)
        last = first
        while last < len(order) and (end is None or order[last] < end) and (limit is None or last < first + limit):
            last += 1
        is_cut = limit is not None and last == first + limit
        spans = order[first - 1 : first] if first else [], order[first:last], [] if is_cut else order[last : last + 1]
        before, found, after = ([(key, rows[key]) for key in span] for span in spans)
        return before, found, after

    def commit(self, writes: Sequence[Write]) -> None:
        self.before_change()
        if self.fail_commit is not None:
            raise self.fail_commit
        for table, key, _ in writes:
            self._table(table)
            _checked(key)
        newest = {(table, key): value for table, key, value in writes}
        growth = sum(_weight(key, value) - _weight(key, self.get(table, key)) for (table, key), value in newest.items())
        if self.capacity is not None and growth > 0 and self.used + growth > self.capacity:
            raise OSError(errno.ENOSPC, "index: the map is full")
        for (table, key), value in newest.items():
            self._store(table, key, value)
        self.used += growth
        self.commits += 1

    def usage(self) -> tuple[int, int]:
        return self.used, self.capacity or 1 << 40

    def close(self) -> None:
        """Nothing to give back; the contents stay for the next one who opens it."""

    def crash(self, random: Random) -> None:
        """Power loss: every commit that returned is kept, and there is never half of one. Faults are lifted."""
        self.fail_commit = None
        self.before_change = _nothing

    def places(self) -> list[tuple[str, bytes, int]]:
        """Every byte that is stored: table, key, and which byte of key and value it is."""
        return [
            (table, key, at)
            for table, rows in self._tables.items()
            for key, value in rows.items()
            for at in range(len(key) + len(value))
        ]

    def flip(self, table: str, key: bytes, at: int, mask: int = 0x01) -> bool:
        """Bit rot in one byte of a row, as it is on a page: a key that rots stays where it is among the others. False:
        it would become the key of another row, which is not simulated."""
        rows, order = self._tables[table], self._order[table]
        place = order.index(key)
        raw = bytearray(key + rows[key])
        raw[at] ^= mask
        rotten = bytes(raw[: len(key)])
        if rotten != key:
            if rotten in rows:
                return False
            del rows[key]
        order[place] = rotten
        rows[rotten] = bytes(raw[len(key) :])
        return True

    def _store(self, table: str, key: bytes, value: bytes | None) -> None:
        rows = self._tables[table]
        order = self._order[table]
        if value is None:
            if rows.pop(key, None) is not None:
                at = bisect_left(order, key)
                if at == len(order) or order[at] != key:  # only after keys rotted
                    at = order.index(key)
                del order[at]
        else:
            if key not in rows:
                insort(order, key)
            rows[key] = bytes(value)

    def _table(self, name: str) -> dict[bytes, bytes]:
        try:
            return self._tables[name]
        except KeyError:
            raise ValueError(f"there is no table {name!r}") from None


def _nothing() -> None:
    pass


def _checked(key: bytes) -> bytes:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}")
    return key


def _weight(key: bytes, value: bytes | None) -> int:
    return 0 if value is None else len(key) + len(value)
