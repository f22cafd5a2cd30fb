"""Stripe arithmetic against one plain reading of the rule: walk the segment and put every byte somewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.codec.stripes import CHECKSUM, SegmentShape, common_length, pad, split_stripe


@st.composite
def shapes(draw: st.DrawFn) -> SegmentShape:
    k, m, cell_size = draw(st.integers(1, 7)), draw(st.integers(0, 4)), draw(st.integers(1, 9))
    return SegmentShape(draw(st.integers(1, 4 * k * cell_size)), k, m, cell_size)


def naive(shape: SegmentShape) -> list[list[list[int]]]:
    """[stripe][data shard] -> positions of the segment's bytes that it holds."""
    positions = list(range(shape.length))
    stripes = []
    full = shape.k * shape.cell_size
    while positions:
        stripe, positions = positions[:full], positions[full:]
        c = shape.cell_size if len(stripe) == full else -(-len(stripe) // shape.k)
        stripes.append([stripe[j * c : j * c + c] for j in range(shape.k)])
    return stripes


@given(shapes())
def test_every_byte_is_in_exactly_the_cell_that_the_rule_says(shape: SegmentShape) -> None:
    stripes = naive(shape)
    assert shape.stripes == len(stripes)
    for s, cells in enumerate(stripes):
        assert shape.stripe_length(s) == sum(map(len, cells))
        assert shape.coding_length(s) == len(cells[0])
        assert [shape.cell_length(j, s) for j in range(shape.k)] == [len(cell) for cell in cells]
        assert [shape.cell_length(shape.k + j, s) for j in range(shape.m)] == [len(cells[0])] * shape.m


@given(shapes())
def test_cell_offsets_are_where_the_cells_of_every_shard_come_to_lie(shape: SegmentShape) -> None:
    for shard in range(shape.k + shape.m):
        end = 0
        for s in range(shape.stripes):
            assert shape.cell_offset(s) == end
            end += shape.cell_length(shard, s) + CHECKSUM
            assert shape.sealed_length(shard, s) == end - shape.cell_offset(s)
        assert shape.body_length(shard) == end


@given(shapes(), st.data())
def test_covering_names_each_wanted_byte_once_and_in_order(shape: SegmentShape, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, shape.length))
    length = data.draw(st.integers(0, shape.length - offset))
    stripes = naive(shape)
    pieces = shape.covering(offset, length)
    found = [p for stripe, j, start, take in pieces for p in stripes[stripe][j][start : start + take]]
    assert found == list(range(offset, offset + length))
    assert all(piece.length > 0 for piece in pieces)
    assert len({(piece.stripe, piece.shard) for piece in pieces}) == len(pieces)


@given(shapes())
def test_splitting_gives_the_cells_as_views_of_the_same_bytes(shape: SegmentShape) -> None:
    segment = bytes(i & 0xFF for i in range(shape.length))
    for s, cells in enumerate(naive(shape)):
        stripe = segment[cells[0][0] :][: shape.stripe_length(s)]
        views = split_stripe(stripe, shape, s)
        assert [list(view) for view in views] == [[p & 0xFF for p in cell] for cell in cells]
        assert all(view.obj is stripe for view in views)


def test_a_whole_cell_is_padded_without_a_copy_and_a_short_one_with_zeros() -> None:
    cell = memoryview(b"abcd")
    assert pad(cell, 4) is cell
    assert pad(cell[:1], 4) == b"a\0\0\0"
    assert pad(cell[:0], 2) == b"\0\0"


def test_a_segment_of_one_byte_has_one_stripe_of_one_byte_cells() -> None:
    shape = SegmentShape(1, 4, 2, 256 * 1024)
    assert [shape.cell_length(shard, 0) for shard in range(6)] == [1, 0, 0, 0, 1, 1]
    assert [shape.body_length(shard) for shard in range(6)] == [9, 8, 8, 8, 9, 9]


def test_cells_of_one_length_have_it_in_common() -> None:
    assert common_length([b"ab", bytearray(2), memoryview(b"xy")], 3) == 2
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        common_length([b"ab", b"a"], 2)
    with pytest.raises(ValueError, match="2 cells given where the code takes 3"):
        common_length([b"ab", b"ab"], 3)
