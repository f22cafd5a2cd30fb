"""Pages of a list, of any size, join to what a sorted list of names would give (INV-4)."""

from __future__ import annotations

import itertools

import pytest

from objstore.engine.engine import Engine
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import body

NAMES = ["a", "a!", "a/", "a/b", "a/b/c", "a/c", "a0", "ab", "abc", "b", "b/", "b//", "b/x", "b0", "b0/y", "ba"]
NAMES += ["é", "é/", "é/x", "éz"]
DELETED = "a/c"
LIMITS = (1, 2, 3, 7, 100)


def naive(names: list[str], prefix: str, delimiter: str) -> list[str]:
    """Names, and what names have in common up to the delimiter; each once, in the order of their bytes."""
    items: dict[str, None] = {}
    for name in sorted(names, key=str.encode):
        if name.startswith(prefix):
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            items[name if cut < 0 else name[: cut + len(delimiter)]] = None
    return list(items)


async def paged(engine: Engine, prefix: str, delimiter: str, limit: int) -> list[str]:
    items: list[str] = []
    after = ""
    while True:
        page = await engine.list_objects("b", prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        found = [*(entry.key for entry in page.entries), *page.prefixes]
        assert len(found) <= limit
        items += sorted(found, key=str.encode)
        assert len(items) <= len(NAMES), f"a list without an end: {items}"
        if not page.truncated:
            return items
        assert page.next_after.encode() > after.encode(), "a page that leads nowhere"
        after = page.next_after


@pytest.mark.parametrize("prefix", ["", "a", "a/", "b", "é"])
def test_pages_of_any_size_join_to_the_whole_list(prefix: str) -> None:
    """A page that resumes one name too far, or skips what a name has in common with the last one, would hide objects
    that are there; one that resumes too early would show some twice."""

    async def main() -> None:
        async with SimCluster(4, nodes=6) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            for name in NAMES:
                await engine.put_object("b", name, body(b"x"), 1, {})
            await engine.delete_object("b", DELETED)
            there = [name for name in NAMES if name != DELETED]
            for delimiter, limit in itertools.product(("", "/", "b", "//"), LIMITS):
                assert await paged(engine, prefix, delimiter, limit) == naive(there, prefix, delimiter), (
                    delimiter,
                    limit,
                )

    run(main, 4)
