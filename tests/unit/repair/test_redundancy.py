"""Counting redundancy, against a count by brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.model.cluster import ErasureCode
from objstore.repair.redundancy import Copy, can_lose, replica_level, segment_level, tolerance, totals

CODES = st.builds(ErasureCode, st.integers(1, 4), st.integers(1, 3))


def naive_tolerance(copies: set[Copy], k: int, m: int) -> int:
    """Try every set of lost nodes."""
    nodes = sorted({copy.node for copy in copies})
    best = -1
    for lost in range(m + 1):
        survives = all(
            len({copy.shard for copy in copies if copy.node not in gone}) >= k
            for gone in combinations(nodes, min(lost, len(nodes)))
        )
        if not survives:
            break
        best = lost
    return best


@given(CODES, st.data())
def test_tolerance_equals_the_naive_count(code: ErasureCode, data: st.DataObject) -> None:
    copy = st.builds(Copy, st.integers(0, code.shards - 1), st.integers(0, 5))
    copies = data.draw(st.sets(copy, max_size=10))
    assert tolerance(copies, code.k, code.m) == naive_tolerance(copies, code.k, code.m)


@given(CODES, st.data())
def test_a_level_never_promises_more_than_there_is(code: ErasureCode, data: st.DataObject) -> None:
    copy = st.builds(Copy, st.integers(0, code.shards - 1), st.integers(0, 7))
    copies = data.draw(st.sets(copy, max_size=12))
    level = segment_level(copies, code.k, code.m, code)
    shards = len({copy.shard for copy in copies})
    assert 0 <= level <= min(code.shards, max(shards, 0))
    assert (level >= code.k) == (shards >= code.k)
    assert level - code.k <= max(0, naive_tolerance(copies, code.k, code.m)) or level < code.k


@pytest.mark.parametrize(
    ("copies", "level"),
    [
        ([(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], 6),
        ([(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)], 5),
        ([(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (4, 5)], 5),  # a copy twice is still one shard
        ([(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 4)], 5),  # two shards on a node: losing it costs both
        ([(0, 0), (1, 0), (2, 0), (3, 3), (4, 4), (5, 5)], 4),
        ([(0, 0), (1, 1), (2, 2), (3, 3)], 4),
        ([(0, 0), (1, 1), (2, 2)], 3),
        ([], 0),
    ],
)
def test_levels_of_a_4_plus_2_segment(copies: list[tuple[int, int]], level: int) -> None:
    assert segment_level([Copy(*one) for one in copies], 4, 2, ErasureCode(4, 2)) == level


def test_metadata_is_on_the_same_scale() -> None:
    assert [replica_level(n, ErasureCode(4, 2)) for n in range(6)] == [1, 2, 3, 4, 5, 6]
    assert [replica_level(n, ErasureCode(1, 1)) for n in range(4)] == [0, 0, 1, 2]


def test_totals_and_what_may_still_be_lost() -> None:
    code = ErasureCode(4, 2)
    assert totals([1, 0, 0, 2, 3, 4, 5], code) == (15, 5, 4, 3, 3)
    assert can_lose([0, 0, 0, 0, 0, 0, 5], code, 8) == 2
    assert can_lose([0, 0, 0, 0, 0, 1, 5], code, 8) == 1
    assert can_lose([0, 0, 0, 0, 1, 1, 5], code, 8) == 0
    assert can_lose([0, 0, 1, 0, 0, 0, 5], code, 8) == 0
    assert can_lose([0] * 7, code, 8) == 2, "nothing stored: as many as the code allows"
    assert can_lose([0] * 7, code, 5) == 1, "nothing stored: as many as the live nodes allow"
