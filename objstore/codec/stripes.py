"""Stripe arithmetic: which byte of a segment is in which cell of which shard. No bytes are coded here.

A segment is cut into stripes of k data cells. Every stripe but the last has cells of `cell_size`; the last one
divides what is left evenly: with c = ceil(rest / k), data cell j holds bytes [j*c, (j+1)*c) of the rest, so the
trailing cells may be short or empty. Coding pads data cells with zeros to c and makes parity cells of c bytes.
Padding is never stored. Because only the last stripe is short, the sealed cell of a stripe begins at the same
offset in every shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from objstore.ports import Buffer

CHECKSUM = 8  # bytes after every stored cell, empty ones included


class CellRange(NamedTuple):
    """Bytes [start, start+length) of one data cell."""

    stripe: int
    shard: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class SegmentShape:
    """The few numbers that fix the place of every byte of a segment."""

    length: int
    k: int
    m: int
    cell_size: int

    def __post_init__(self) -> None:
        assert self.length > 0 and self.k > 0 and self.m >= 0 and self.cell_size > 0

    @property
    def stripes(self) -> int:
        return -(-self.length // (self.k * self.cell_size))

    def stripe_length(self, stripe: int) -> int:
        """Bytes of the segment that are in this stripe."""
        assert 0 <= stripe < self.stripes
        full = self.k * self.cell_size
        return min(full, self.length - stripe * full)

    def coding_length(self, stripe: int) -> int:
        """Length that every cell of this stripe has, or is padded to, when it is coded."""
        return -(-self.stripe_length(stripe) // self.k)

    def cell_length(self, shard: int, stripe: int) -> int:
        """Stored bytes of a cell, without its checksum."""
        assert 0 <= shard < self.k + self.m
        c = self.coding_length(stripe)
        if shard >= self.k:
            return c
        return max(0, min(c, self.stripe_length(stripe) - shard * c))

    def sealed_length(self, shard: int, stripe: int) -> int:
        """Stored bytes of a cell with its checksum."""
        return self.cell_length(shard, stripe) + CHECKSUM

    def cell_offset(self, stripe: int) -> int:
        """Where the sealed cell begins, counted from the first one; the same in every shard."""
        return stripe * (self.cell_size + CHECKSUM)

    def body_length(self, shard: int) -> int:
        """All sealed cells of a shard."""
        last = self.stripes - 1
        return self.cell_offset(last) + self.sealed_length(shard, last)

    def covering(self, offset: int, length: int) -> list[CellRange]:
        """The pieces of data cells that hold bytes [offset, offset+length) of the segment, in byte order."""
        assert 0 <= offset and 0 <= length and offset + length <= self.length
        pieces = []
        end = offset + length
        while offset < end:
            stripe, inner = divmod(offset, self.k * self.cell_size)
            shard, start = divmod(inner, self.coding_length(stripe))
            take = min(end - offset, self.cell_length(shard, stripe) - start)
            pieces.append(CellRange(stripe, shard, start, take))
            offset += take
        return pieces


def split_stripe(data: Buffer, shape: SegmentShape, stripe: int) -> list[memoryview]:
    """The k data cells of a stripe, as views of its bytes; trailing ones may be short or empty."""
    view = memoryview(data)
    assert view.nbytes == shape.stripe_length(stripe)
    c = shape.coding_length(stripe)
    return [view[j * c : (j + 1) * c] for j in range(shape.k)]


def pad(cell: Buffer, length: int) -> Buffer:
    """The cell as it is coded: itself when it is whole, else a copy with zeros behind."""
    short = length - len(cell)
    assert short >= 0
    return cell if short == 0 else bytes(cell) + bytes(short)


def common_length(cells: Sequence[Buffer], k: int) -> int:
    """The one length of k cells about to be coded; ValueError if they are not k, or their lengths differ.

    Not an assertion: native code trusts these numbers, and wrong ones read memory that is not ours.
    """
    if len(cells) != k:
        raise ValueError(f"{len(cells)} cells given where the code takes {k}")
    lengths = {memoryview(cell).nbytes for cell in cells}
    if len(lengths) != 1 or not 0 < min(lengths) < 1 << 31:
        raise ValueError(f"cells to be coded together must have one length of 1 to 2^31-1 bytes, not {sorted(lengths)}")
    return lengths.pop()
