"""Rows of registers: keys longer than the store allows, exact order, consistent pairs of reads."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.clock import Ballot
from objstore.model.errors import Corrupt
from objstore.node import register_rows as rows
from objstore.node.register_rows import CUT, INLINE, NOTHING, REG, TABLES, Held
from objstore.ports import DamagedKV
from objstore.register.acceptor import AcceptorState
from tests.sim.kv import SimKV


def held(time: int, listing: bytes = b"l", state: bytes = b"s", data: bytes = b"") -> Held:
    return Held(AcceptorState(Ballot(time, 1), Ballot(time, 1)), listing, state, data)


def put(kv: SimKV, place: bytes, value: Held) -> None:
    kv.commit(rows.writes_for(place, value, rows.load(kv, place)))


# Names around the cut, that share much: all the trouble is there.
STEMS = st.sampled_from([b"a" * (CUT - 3), b"a" * (CUT - 2), b"a" * CUT, b"a" * 900, b"a" * (CUT - 3) + b"\xff" * 40])
NAMES = st.builds(lambda stem, tail: b"\x00\x01" + (stem + tail)[:1060], STEMS, st.binary(max_size=4)) | st.binary(
    min_size=1, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(names=st.sets(NAMES, max_size=40), start=NAMES, end=st.none() | NAMES, page=st.integers(1, 7))
def test_order_is_that_of_a_sorted_list(names: set[bytes], start: bytes, end: bytes | None, page: int) -> None:
    kv = SimKV(TABLES)
    for name in sorted(names):
        put(kv, name, held(1))
    expected = [name for name in sorted(names) if name >= start and (end is None or name < end)]
    assert [row.place for row in rows.ordered(kv, start, end, page=page)] == expected


def test_a_large_group_that_shares_a_cut_is_in_order_too() -> None:
    kv = SimKV(TABLES)
    random = Random(3)
    names = sorted({b"g" * CUT + random.randbytes(3) for _ in range(1500)})
    for name in names:
        put(kv, name, held(1))
    assert [row.place for row in rows.ordered(kv, b"g", None)] == names
    middle = names[700]
    assert [row.place for row in islice(rows.ordered(kv, middle, None), 5)] == names[700:705]


@pytest.mark.parametrize("length", [1, CUT, CUT + 1, 1043])
@pytest.mark.parametrize("state", [b"", b"s" * 10, b"s" * 100_000])
@pytest.mark.parametrize("data", [b"", b"d" * 5000])
def test_a_register_reads_back_as_it_was_written(length: int, state: bytes, data: bytes) -> None:
    kv = SimKV(TABLES)
    place = b"p" * length
    value = held(5, b"listing", state, data)
    put(kv, place, value)
    assert rows.load(kv, place) == value
    assert rows.load(kv, place, with_data=False) == value._replace(data=b"")
    (row,) = rows.ordered(kv, b"", None)
    assert row.place == place and rows.complete(kv, row, with_data=True) == value


def test_a_promise_leaves_large_values_where_they_are() -> None:
    kv = SimKV(TABLES)
    value = held(5, state=b"s" * 100_000, data=b"d" * 1000)
    put(kv, b"p", value)
    promised = value._replace(acceptor=AcceptorState(Ballot(9, 1), Ballot(5, 1)))
    writes = rows.writes_for(b"p", promised, value)
    assert [(table, len(raw or b"") < 200) for table, _, raw in writes] == [(REG, True)]
    kv.commit(writes)
    assert rows.load(kv, b"p") == promised


def test_a_value_that_became_small_leaves_nothing_behind() -> None:
    kv = SimKV(TABLES)
    put(kv, b"p", held(5, data=b"d" * 1000))
    put(kv, b"p", held(6, listing=b""))
    assert kv.scan(INLINE, b"") == []
    put(kv, b"p", held(7, state=b"s" * 5000))
    assert len(kv.scan(INLINE, b"")) == 1


def test_removing_a_partition_leaves_the_others() -> None:
    kv = SimKV(TABLES)
    keys = [b"k", b"k" * 1000]
    for partition in (1, 2):
        for key in keys:
            put(kv, rows.place_of(partition, key), held(7, data=b"d"))
    kv.commit(rows.removing(kv, 1))
    assert [row.place for row in rows.all_rows(kv)] == [rows.place_of(2, key) for key in keys]
    assert len(kv.scan(INLINE, b"")) == 2


def test_a_commit_between_the_two_reads_is_noticed() -> None:
    kv = SimKV(TABLES)
    put(kv, b"p", held(5, data=b"old"))
    (row,) = rows.ordered(kv, b"", None)
    put(kv, b"p", held(6, data=b"newer"))
    assert rows.complete(kv, row, with_data=True) == held(6, data=b"newer")


def test_a_lost_inline_row_is_damage_not_empty() -> None:
    kv = SimKV(TABLES)
    put(kv, b"p", held(5, data=b"data"))
    kv.commit([(INLINE, b"p", None)])
    with pytest.raises(DamagedKV, match="inline"):
        rows.load(kv, b"p")


def test_an_unknown_format_is_corrupt() -> None:
    kv = SimKV(TABLES)
    kv.commit([(REG, b"p", b"\x09" + bytes(100))])
    with pytest.raises(Corrupt, match="format 09"):
        rows.load(kv, b"p")
    assert rows.load(kv, b"q") == NOTHING
