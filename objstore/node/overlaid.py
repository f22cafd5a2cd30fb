"""Rows of the store with those that wait over them: what lists read where these cannot be committed, on a full disk."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from objstore.ports import KV, Rows


class Overlaid:
    """The `scan` of a KV. `waiting`: by table and key, None where a row is gone; as of some moment, which may be
    passed by rows of the store that were committed since."""

    def __init__(self, kv: KV, waiting: Mapping[tuple[str, bytes], bytes | None]) -> None:
        self._kv = kv
        self._waiting = waiting
        self._keys: dict[str, list[bytes]] = {}
        for table, key in sorted(waiting):
            self._keys.setdefault(table, []).append(key)

    def scan(self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None) -> Rows:
        keys = self._keys.get(table, [])
        keys = keys[bisect_left(keys, start) : len(keys) if end is None else bisect_left(keys, end)]
        enough = None if limit is None else limit + len(keys)
        found = self._kv.scan(table, start, end, limit=enough)
        if enough is not None and len(found) == enough and found:
            keys = keys[: bisect_left(keys, found[-1][0] + b"\x00")]  # what lies further may have rows before it
        rows: dict[bytes, bytes | None] = dict(found)
        rows.update((key, self._waiting[table, key]) for key in keys)
        return [(key, row) for key, row in sorted(rows.items()) if row is not None][:limit]
