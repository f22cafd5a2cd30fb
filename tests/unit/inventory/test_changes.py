"""The change feed tells every difference between two looks once, and repeats itself rather than lose one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.inventory import changes
from objstore.inventory.changes import Change, CursorHead, Known, compare, known, line, read_head, read_line
from objstore.inventory.reading import walk
from objstore.model.errors import InvalidRequest
from objstore.model.ids import BucketId
from objstore.model.records import ListEntry
from objstore.ports import Buffer
from tests.s3.memory_engine import MemoryEngine

BUCKET = BucketId(bytes(16))
ENTRIES = st.builds(
    ListEntry,
    st.integers(0, 3),
    st.sampled_from(["e", "f"]),
    st.integers(1, 3),
    st.just(""),
    st.sampled_from([b"", b"v" * 16]),
    st.booleans(),
    st.integers(1, 3),
)
INDEX = st.dictionaries(st.text(st.sampled_from("ab/\u00e9\U0001f600"), min_size=1, max_size=3), ENTRIES, max_size=12)


def sorted_index(index: dict[str, ListEntry]) -> list[tuple[bytes, ListEntry]]:
    return sorted((key.encode(), entry) for key, entry in index.items())


async def _entries(index: dict[str, ListEntry]) -> AsyncIterator[tuple[bytes, ListEntry]]:
    for pair in sorted_index(index):
        yield pair


def difference(
    cursor: list[str], index: dict[str, ListEntry], bucket: BucketId = BUCKET
) -> tuple[list[Change], list[str]]:
    """As the command: lines of a cursor -> what is told, lines of the next one."""

    async def main() -> tuple[list[Change], list[str]]:
        told, lines = [], []
        async for change, remembered in compare(map(read_line, iter(cursor)), _entries(index), bucket):
            told += [change] if change is not None else []
            lines += [line(remembered)] if remembered is not None else []
        return told, lines

    return asyncio.run(main())


@given(INDEX, INDEX)
def test_what_is_told_is_the_difference(before: dict[str, ListEntry], after: dict[str, ListEntry]) -> None:
    first, cursor = difference([], before)
    assert {change.key for change in first} == before.keys()
    told, following = difference(cursor, after)
    assert len({change.key for change in told}) == len(told)
    expected = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {change.key for change in told} == expected
    for change in told:
        assert (change.kind == "removed") == (change.key not in after)
        if change.kind != "removed":
            assert change.entry == after[change.key]
        if change.kind == "versions":
            assert before[change.key].versions != after[change.key].versions
    assert difference(following, after) == ([], following)
    assert difference(cursor, after) == (told, following), "a run that broke off is repeated"


def test_a_bucket_that_was_made_again_is_another_one() -> None:
    index = {"a": ListEntry(1, "e", 1)}
    _, cursor = difference([], index)
    told, _ = difference(cursor, index, BucketId(b"x" * 16))
    assert [change.kind for change in told] == ["put"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no cursor"),
        ("[]\n", "no cursor"),
        ('{"bucket": "other"}', "'other'"),
        ('{"bucket": "b", "prefix": "x"}', "prefix 'x'"),
        ('{"bucket": "b", "format": 2}', "format 2"),
    ],
)
def test_a_cursor_of_something_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        read_head(text, CursorHead("b"))
    read_head(changes.head_line(CursorHead("b", "p/")), CursorHead("b", "p/"))


def test_a_damaged_cursor_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="damaged"):
        read_line('["a", "00"')
    one = known(BUCKET, "\u00e9\n".encode(), ListEntry(1, "e", 1))
    assert read_line(line(one)) == one == Known(one.key, one.newest, 1)


def test_what_happens_in_a_bucket_is_told() -> None:
    async def main() -> None:
        engine = MemoryEngine()
        await engine.create_bucket("b", versioning="Enabled")
        bucket = (await engine.get_bucket("b")).id
        cursor: list[str] = []

        async def put(key: str) -> None:
            async def body() -> AsyncIterator[Buffer]:
                yield b"x"

            await engine.put_object("b", key, body(), 1, {})

        async def look() -> list[tuple[str, str]]:
            nonlocal cursor
            told, lines = [], []
            before = map(read_line, iter(cursor))
            async for change, remembered in compare(before, walk(engine.registers, bucket), bucket):
                told += [(change.kind, change.key)] if change is not None else []
                lines += [line(remembered)] if remembered is not None else []
            cursor = lines
            return told

        for key in ("a", "c", "d"):
            await put(key)
        assert await look() == [("put", "a"), ("put", "c"), ("put", "d")]
        await put("a")  # the same bytes: another version
        deleted = await engine.delete_object("b", "c")
        assert await look() == [("put", "a"), ("marked", "c")]
        oldest = (await engine.list_versions("b", prefix="a")).entries[-1]
        await engine.delete_object("b", "a", oldest.version_id)
        await engine.delete_object("b", "c", deleted.version_id)
        only = (await engine.list_versions("b", prefix="d")).entries[0]
        await engine.delete_object("b", "d", only.version_id)
        assert await look() == [("versions", "a"), ("put", "c"), ("removed", "d")]
        assert await look() == []

    asyncio.run(main())
