"""What an inventory says of a version, and that its lines can be read again."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.engine.lists import READS_AT_ONCE
from objstore.inventory.reading import inventory
from objstore.inventory.rows import COLUMNS, Row, as_csv, as_jsonl, csv_head, rows_of
from objstore.model.records import KeyState, Lock, ObjectVersion
from objstore.model.sealed import BY_CLIENT, BY_CLUSTER, Sealed
from objstore.ports import Buffer
from tests.s3.memory_engine import MemoryEngine

PLAIN = ObjectVersion(bytes(16), 5, "etag", 1_700_000_000_123, {}, (), null=False)


def only(version: ObjectVersion) -> Row:
    (row,) = rows_of("b", "k", KeyState((version,)), versions=True)
    return row


def changed(**fields: object) -> Row:
    return only(msgspec.structs.replace(PLAIN, **fields))


def test_what_is_said_of_a_version() -> None:
    assert only(PLAIN).last_modified == "2023-11-14T22:13:20.123Z"
    assert (only(PLAIN).version_id, changed(null=True).version_id) == ("0" * 32, "null")
    assert changed(parts=(5, 3)).is_multipart_uploaded
    kinds = [changed(sealed=Sealed(kind, "", b"", b"")).encryption_status for kind in (BY_CLUSTER, BY_CLIENT)]
    assert [only(PLAIN).encryption_status, *kinds] == ["NOT-SSE", "SSE-S3", "SSE-C"]
    row = changed(lock=Lock("COMPLIANCE", 1_700_000_000_000, hold=True))
    assert (row.object_lock_mode, row.object_lock_legal_hold_status) == ("COMPLIANCE", "ON")
    assert row.object_lock_retain_until_date == "2023-11-14T22:13:20.000Z"
    assert changed(lock=Lock(released=True)).object_lock_legal_hold_status == "OFF"
    assert only(PLAIN).object_lock_legal_hold_status is None
    row = changed(headers={"x-amz-checksum-crc64nvme": "AAA=", "x-amz-checksum-type": "FULL_OBJECT"})
    assert (row.checksum_algorithm, row.checksum, row.checksum_type) == ("CRC64NVME", "AAA=", "FULL_OBJECT")


def test_which_versions_are_shown() -> None:
    marker = msgspec.structs.replace(PLAIN, marker=True, version_id=b"m" * 16)
    both = KeyState((marker, PLAIN))
    assert [row.is_delete_marker for row in rows_of("b", "k", both, versions=True)] == [True, False]
    assert [row.is_latest for row in rows_of("b", "k", both, versions=True)] == [True, False]
    assert rows_of("b", "k", both, versions=False) == []
    assert len(rows_of("b", "k", KeyState((PLAIN, marker)), versions=False)) == 1
    assert rows_of("b", "k", KeyState(), versions=True) == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_every_key_survives_both_formats(keys: list[str]) -> None:
    rows = [row for key in keys for row in rows_of("b", key, KeyState((PLAIN,)), versions=False)]
    lines = list(csv.DictReader(io.StringIO(csv_head() + as_csv(rows), newline="")))
    assert [line["key"] for line in lines] == keys
    assert all(tuple(line) == COLUMNS for line in lines)
    assert [json.loads(line)["key"] for line in as_jsonl(rows).split("\n")[:-1]] == keys


async def filled(keys: list[str]) -> MemoryEngine:
    engine = MemoryEngine()
    await engine.create_bucket("b")

    async def body() -> AsyncIterator[Buffer]:
        yield b"hello"

    for key in keys:
        await engine.put_object("b", key, body(), 5, {})
    return engine


@pytest.mark.parametrize("count", [0, 1, READS_AT_ONCE, 2 * READS_AT_ONCE + 1])
def test_an_inventory_goes_on_where_it_broke_off(count: int) -> None:
    async def main() -> None:
        keys = sorted(f"a/{number}" for number in range(count))
        engine = await filled([*keys, "b/1"])
        bucket = (await engine.get_bucket("b")).id
        seen: list[str] = []
        async for rows in inventory(engine.registers, "b", bucket, prefix="a/"):
            assert len(rows) <= READS_AT_ONCE
            seen += [row.key for row in rows]
            break
        async for rows in inventory(engine.registers, "b", bucket, prefix="a/", start_after=seen[-1] if seen else ""):
            seen += [row.key for row in rows]
        assert seen == keys

    asyncio.run(main())
