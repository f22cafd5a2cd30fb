"""SealedKV: whatever rots in the store below, what is read is what was written, or the store is damaged for good."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.node import sealed
from objstore.node.sealed import SealedKV
from objstore.ports import DamagedKV, Write
from tests.sim.kv import SimKV

TABLES = ("a", "b", "large", sealed.TABLE)
COUNTED = ("a", "b")


def filled() -> tuple[SimKV, dict[bytes, bytes]]:
    raw = SimKV(TABLES)
    rows = {bytes((65 + 2 * i, i)): bytes((i,)) * (i % 4) for i in range(9)}
    SealedKV(raw, COUNTED).commit([(table, key, value) for table in ("a", "large") for key, value in rows.items()])
    return raw, rows


def questions(rows: dict[bytes, bytes]) -> list[bytes]:
    """Keys that are there, and some between, before and behind them."""
    return sorted({*rows, *(bytes((at,)) for at in range(60, 90))})


def test_every_byte_of_every_row_may_rot() -> None:
    _, rows = filled()
    keys = questions(rows)
    noticed = 0
    for (table, key, at), mask in product(filled()[0].places(), (0x01, 0x80)):
        for asked in keys:
            raw, _ = filled()
            try:
                kv = SealedKV(raw, COUNTED)
                assert raw.flip(table, key, at, mask)
                assert kv.get("a", asked) == rows.get(asked)
                assert kv.get("large", asked) == rows.get(asked)
                found = kv.scan("a", asked, asked + b"\x7f", limit=3)
                wanted = [(one, rows[one]) for one in sorted(rows) if asked <= one < asked + b"\x7f"]
                assert found == wanted[:3]
            except DamagedKV:
                noticed += 1
        raw, _ = filled()
        raw.flip(table, key, at, mask)
        with pytest.raises(DamagedKV):
            SealedKV(raw, COUNTED).check(also=["large"])
    assert noticed > len(keys)


def test_rows_that_are_missing_or_old_are_noticed_at_start() -> None:
    for harm in ("gone", "old", "twice"):
        raw, rows = filled()
        kv = SealedKV(raw, COUNTED)
        kv.check()
        key = sorted(rows)[4]
        before = raw.get("a", key)
        kv.commit([("a", key, b"newer"), ("b", b"k", b"v")])
        kv.check()
        if harm == "gone":
            raw.commit([("a", key, None)])
        elif harm == "old":
            raw.commit([("a", key, before)])
        else:
            raw.commit([("a", b"A", raw.get("a", key))])
        with pytest.raises(DamagedKV):
            SealedKV(raw, COUNTED).check()


def test_a_row_in_the_place_of_another_is_not_believed() -> None:
    raw, rows = filled()
    kv = SealedKV(raw, COUNTED)
    one, other = sorted(rows)[:2]
    for table, key in (("a", other), ("b", one)):
        raw.commit([(table, key, raw.get("a", one))])
        with pytest.raises(DamagedKV):
            SealedKV(raw, COUNTED).get(table, key)
    assert kv.get("large", other) == rows[other]


def test_after_the_first_damage_nothing_is_answered_and_one_is_told_once() -> None:
    raw, rows = filled()
    told: list[str] = []
    kv = SealedKV(raw, COUNTED, on_damage=lambda damage: told.append(str(damage.strerror)))
    key, sound = sorted(rows)[:2]
    raw.flip("a", key, len(key))
    assert kv.get("a", sound) == rows[sound]
    for _ in range(2):
        with pytest.raises(DamagedKV, match="not what was written"):
            kv.get("a", key)
        with pytest.raises(DamagedKV):
            kv.get("large", sound)
        with pytest.raises(DamagedKV):
            kv.scan("b", b"")
        with pytest.raises(DamagedKV):
            kv.commit([("b", b"k", b"v")])
    assert len(told) == 1 and raw.get("b", b"k") is None


def test_a_commit_that_failed_changes_nothing() -> None:
    raw, _ = filled()
    kv = SealedKV(raw, COUNTED)
    raw.fail_commit = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        kv.commit([("a", b"k", b"v")])
    raw.fail_commit = None
    kv.commit([("a", b"l", b"v")])
    kv.check()
    SealedKV(raw, COUNTED).check()


WRITES = st.lists(
    st.tuples(st.sampled_from(TABLES[:3]), st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=3)),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(batches=st.lists(WRITES, max_size=6), seed=st.integers(0, 1000))
def test_it_is_a_store_like_any_other(batches: list[list[Write]], seed: int) -> None:
    raw, plain = SimKV(TABLES), SimKV(TABLES)
    kv, chance = SealedKV(raw, COUNTED), Random(seed)
    for batch in batches:
        kv.commit(batch)
        plain.commit(batch)
        if chance.random() < 0.5:
            kv = SealedKV(raw, COUNTED)
        kv.check(also=["large"])
    for table in TABLES[:3]:
        assert kv.scan(table, b"") == plain.scan(table, b"")
        assert kv.window(table, b"b", b"k", limit=2) == plain.window(table, b"b", b"k", limit=2)
        for key, value in plain.scan(table, b""):
            assert kv.get(table, key) == value
