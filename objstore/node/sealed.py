"""A key-value store whose rows are believed only after they verified (INV-16): the real one has no checksums.

Each row ends with a seal: a hash of table, key and value. What a seal cannot tell:

- that a row is missing. A key that rotted, or a page, leads a search astray; so the rows at which a search ended are
  verified too, which finds every key in a leaf that is not the one that was written there.
- that rows are old ones, or missing by the thousand: a damaged page number shows pages of long ago, with good seals.
  So the sum of all seals is a row of its own, changed in each commit, and compared at start (`check`).

From the first damage on this store refuses everything, and `on_damage` is told, once, before anybody else: a node that
goes on after that may have forgotten a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import xxhash

from objstore.ports import KV, DamagedKV, Rows, Write

TABLE = "seal"
SEAL_BYTES = 8
_SUM = b"sum"
_MASK = (1 << 64) - 1
_PAGE = 1024


def _nobody(damage: DamagedKV) -> None:
    """Whoever reads hears of it anyway."""


class SealedKV:
    """`counted`: the tables of which no row may be missing. Of others each row must be named by one that is counted,
    with something that tells an old one from the present."""

    def __init__(self, kv: KV, counted: Sequence[str], *, on_damage: Callable[[DamagedKV], None] = _nobody) -> None:
        self._kv = kv
        self._counted = frozenset(counted)
        self._on_damage = on_damage
        self._damage = ""
        raw = self.get(TABLE, _SUM)
        self._sum = int.from_bytes(raw or b"", "big")

    def get(self, table: str, key: bytes) -> bytes | None:
        self._refuse()
        try:
            raw = self._kv.get(table, key)
            if raw is not None:
                return self._opened(table, key, raw)
            for rows in self._kv.window(table, key, limit=1):
                self._open_all(table, rows)
            return None
        except DamagedKV as damage:
            raise self._damaged(damage) from None

    def scan(self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None) -> Rows:
        return self.window(table, start, end, limit=limit)[1]

    def unverified(self, table: str, start: bytes, end: bytes | None, *, limit: int) -> Rows:
        """As `scan`, not looked at, with the seals. For digests alone: one that is equal to the digest of rows which
        did verify, elsewhere, proves that these are the same; any other is believed by nobody."""
        self._refuse()
        try:
            return self._kv.scan(table, start, end, limit=limit)
        except DamagedKV as damage:
            raise self._damaged(damage) from None

    def window(
        self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> tuple[Rows, Rows, Rows]:
        self._refuse()
        try:
            before, rows, after = self._kv.window(table, start, end, limit=limit)
            return self._open_all(table, before), self._open_all(table, rows), self._open_all(table, after)
        except DamagedKV as damage:
            raise self._damaged(damage) from None

    def commit(self, writes: Sequence[Write]) -> None:
        self._refuse()
        total = self._sum
        weights: dict[tuple[str, bytes], int] = {}  # of rows as this commit leaves them
        sealed: list[Write] = []
        for table, key, value in writes:
            row = None if value is None else value + _seal(table, key, value)
            sealed.append((table, key, row))
            if table in self._counted:
                before = weights.get((table, key))
                if before is None:
                    before = self._weight(table, key)
                weights[table, key] = 0 if row is None else _weight_of(row)
                total += weights[table, key] - before
        total &= _MASK
        if weights:
            value = total.to_bytes(8, "big")
            sealed.append((TABLE, _SUM, value + _seal(TABLE, _SUM, value)))
        try:
            self._kv.commit(sealed)
        except DamagedKV as damage:
            raise self._damaged(damage) from None
        self._sum = total

    def usage(self) -> tuple[int, int]:
        self._refuse()
        try:
            return self._kv.usage()
        except DamagedKV as damage:
            raise self._damaged(damage) from None

    def check(self, also: Iterable[str] = ()) -> None:
        """Read all that is counted, and of other tables those named. Raises DamagedKV. Blocking, before use."""
        total = 0
        for table in sorted(self._counted):
            total += sum(_weight_of(raw) for raw in self._verified(table))
        for table in also:
            for _ in self._verified(table):
                pass
        if total & _MASK != self._sum:
            raise self._damaged(DamagedKV("rows are missing, or are not the newest"))

    def close(self) -> None:
        self._kv.close()

    def _verified(self, table: str) -> Iterable[bytes]:
        """Rows with their seals, and in their order."""
        last = b""
        try:
            while rows := self._kv.scan(table, last + b"\x00" if last else b"", limit=_PAGE):
                for key, raw in rows:
                    self._opened(table, key, raw)
                    if key <= last:
                        raise DamagedKV(f"rows of {table} are not in order")
                    last = key
                    yield raw
        except DamagedKV as damage:
            raise self._damaged(damage) from None

    def _weight(self, table: str, key: bytes) -> int:
        value = self.get(table, key)
        return 0 if value is None else _weight_of(_seal(table, key, value))

    def _open_all(self, table: str, rows: Rows) -> Rows:
        seed, digest, number = _seed(table), xxhash.xxh3_64_digest, xxhash.xxh3_64_intdigest  # `_seal`, without calls
        opened = [(key, raw[:-SEAL_BYTES]) for key, raw in rows]
        seals = [digest(value, number(key, seed)) for key, value in opened]
        if seals != [raw[-SEAL_BYTES:] for _, raw in rows]:
            for key, raw in rows:
                self._opened(table, key, raw)  # raises, and says which
        return opened

    def _opened(self, table: str, key: bytes, raw: bytes) -> bytes:
        value = raw[:-SEAL_BYTES]
        if raw[-SEAL_BYTES:] != _seal(table, key, value):
            raise DamagedKV(f"a row of {table} is not what was written (key {key[:64].hex()})")
        return value

    def _refuse(self) -> None:
        if self._damage:
            raise DamagedKV(self._damage)

    def _damaged(self, damage: DamagedKV) -> DamagedKV:
        if not self._damage:
            self._damage = str(damage.strerror)
            self._on_damage(damage)
        return damage


def _seal(table: str, key: bytes, value: bytes) -> bytes:
    return xxhash.xxh3_64_digest(value, seed=xxhash.xxh3_64_intdigest(key, seed=_seed(table)))


@cache
def _seed(table: str) -> int:
    return xxhash.xxh3_64_intdigest(table.encode())


def _weight_of(raw: bytes) -> int:
    return int.from_bytes(raw[-SEAL_BYTES:], "big")
