"""One list of two places: what is here wins, nothing is left out, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from objstore.migrate.answers import Entry, Page
from objstore.migrate.union import OriginScan, UnionScan, after_of
from objstore.model.records import ListEntry, decode, encode

NOW, BEFORE = b"this migration..", b"the one before.."
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=4)
HERE = {
    "written": ListEntry(1, "here", 0),
    "marked": ListEntry(0, "", 0, hidden=True),
    "gone": ListEntry(0, "", 0, version=NOW, hidden=True, versions=0),
    "stale": ListEntry(0, "", 0, version=BEFORE, hidden=True, versions=0),
}


class _Here:
    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = sorted(pairs)

    async def next(self) -> tuple[bytes, bytes] | None:
        return self._pairs.pop(0) if self._pairs else None

    def skip_to(self, name: bytes) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0] >= name]


class _Client:
    def __init__(self, keys: Iterable[str], page: int) -> None:
        self._keys = sorted(keys, key=str.encode)
        self._page = page

    async def page(self, prefix: str, after: str, limit: int) -> Page:
        left = [key for key in self._keys if key.startswith(prefix) and key.encode() > after.encode()]
        shown = left[: min(limit, self._page)]
        return Page([Entry(key, 2, "there", 0) for key in shown], len(shown) < len(left))


def union(here: dict[str, str], there: set[str], prefix: str, start: str, page: int) -> UnionScan:
    local = _Here((key.encode(), encode(HERE[kind])) for key, kind in here.items() if key.encode() >= start.encode())
    origin = OriginScan(_Client(there, page), prefix, start.encode(), b"", 1000)  # type: ignore[arg-type]
    return UnionScan(local, origin, NOW)


@given(st.dictionaries(KEYS, st.sampled_from(sorted(HERE))), st.sets(KEYS), st.just("") | KEYS, KEYS, st.integers(1, 3))
def test_what_is_shown(here: dict[str, str], there: set[str], prefix: str, start: str, page: int) -> None:
    async def shown() -> dict[str, str]:
        scan, found = union(here, there, prefix, start, page), {}
        last = b""
        while (pair := await scan.next()) is not None:
            assert pair[0] > last, "out of order, or twice"
            last = pair[0]
            entry = decode(pair[1], ListEntry)
            if not entry.hidden:
                found[pair[0].decode()] = entry.etag
        return found

    lowest = start.encode()
    wanted = {key: "here" for key, kind in here.items() if kind == "written"}
    wanted |= {key: "there" for key in there if here.get(key, "stale") == "stale" and key.startswith(prefix)}
    assert asyncio.run(shown()) == {key: etag for key, etag in wanted.items() if key.encode() >= lowest}


@given(st.dictionaries(KEYS, st.just("written")), st.sets(KEYS), st.lists(KEYS, max_size=3), st.integers(1, 3))
def test_a_jump_leaves_out_what_lies_before_and_nothing_else(
    here: dict[str, str], there: set[str], jumps: list[str], page: int
) -> None:
    async def check() -> None:
        scan = union(here, there, "", "", page)
        at = b""
        for jump in sorted(jumps, key=str.encode):
            pair = await scan.next()
            at = max(at, pair[0] + b"\x00" if pair is not None else at, jump.encode())
            scan.skip_to(at)
        names = sorted(key.encode() for key in {*here, *there} if key.encode() >= at)
        left = []
        while (pair := await scan.next()) is not None:
            left.append(pair[0])
        assert left == names

    asyncio.run(check())


@given(KEYS, st.sampled_from(["key", "after", "beyond"]), KEYS)
def test_the_key_to_list_from_lies_before_all_that_is_wanted(key: str, how: str, other: str) -> None:
    name = key.encode()
    start = {"key": name, "after": name + b"\x00", "beyond": name[:-1] + bytes((name[-1] + 1,))}[how]
    if other.encode() >= start:
        assert after_of(start, "").encode() < other.encode()
