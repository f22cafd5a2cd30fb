"""Windows: the sealed cells of some stripes of one shard, in one piece, as they lie in its envelope.

Bodies are written, and shards made again, a window at a time. Pure and blocking, and nearly all of it without the GIL:
for a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from objstore.codec.envelope import CHECKSUM, open_cell, seal
from objstore.codec.erasure import Codec
from objstore.codec.stripes import SegmentShape, pad
from objstore.model.buffers import fresh_buffer
from objstore.model.errors import Corrupt
from objstore.model.manifest import FragmentId
from objstore.ports import Buffer


class Remade(NamedTuple):
    """Windows by shard. `bad`: why those that were read do not verify; then nothing was made."""

    windows: Mapping[int, Buffer]
    bad: Mapping[int, Corrupt]


def window_length(shape: SegmentShape, shard: int, stripes: range) -> int:
    """Bytes of a window, checksums included."""
    return sum(shape.sealed_length(shard, stripe) for stripe in stripes)


class Outgoing:
    """The windows of all k+m shards for some stripes, in the buffers that are sent: what is received goes straight to
    its place in `cells`, and is not moved again. Fill them, then `seal`, then send `windows`.

    `prefixes`: what each shard's buffer begins with, before its window (the header of an envelope, or nothing).
    """

    def __init__(self, shape: SegmentShape, stripes: range, prefixes: Sequence[bytes]) -> None:
        assert len(prefixes) == shape.k + shape.m
        self._shape = shape
        self._stripes = stripes
        self._begins = [len(prefix) for prefix in prefixes]
        self.windows: list[memoryview] = []
        for shard, prefix in enumerate(prefixes):
            window = memoryview(fresh_buffer(len(prefix) + window_length(shape, shard, stripes)))
            window[: len(prefix)] = prefix
            self.windows.append(window)
        self.cells = [self._place(shard, stripe) for stripe in stripes for shard in range(shape.k)]

    @property
    def size(self) -> int:
        """Bytes of the body in it."""
        return sum(map(len, self.cells))

    def _place(self, shard: int, stripe: int, extra: int = 0) -> memoryview:
        """Where the cell lies, and `extra` bytes behind it."""
        shape = self._shape
        begin = self._begins[shard] + shape.cell_offset(stripe) - shape.cell_offset(self._stripes.start)
        return self.windows[shard][begin : begin + shape.cell_length(shard, stripe) + extra]

    def seal(self, codec: Codec, fragment: Callable[[int], FragmentId]) -> None:
        """Make the parity cells, and the checksums of all. `fragment`: the id of a shard."""
        shape = self._shape
        for stripe in self._stripes:
            length = shape.coding_length(stripe)
            data = [self._place(shard, stripe) for shard in range(shape.k)]
            parity = codec.encode([pad(cell, length) for cell in data])
            for shard in range(shape.k + shape.m):
                place = self._place(shard, stripe, CHECKSUM)
                if shard >= shape.k:
                    place[:-CHECKSUM] = parity[shard - shape.k]
                place[-CHECKSUM:] = seal(fragment(shard), stripe, place[:-CHECKSUM])


def open_window(fragment: FragmentId, shape: SegmentShape, stripes: range, window: Buffer) -> list[memoryview]:
    """One verified cell per stripe. Raises Corrupt."""
    view = memoryview(window)
    lengths = [shape.sealed_length(fragment.shard, stripe) for stripe in stripes]
    if view.nbytes != sum(lengths):
        raise Corrupt(f"{view.nbytes} bytes came where {sum(lengths)} were asked for")
    cells: list[memoryview] = []
    offset = 0
    for stripe, length in zip(stripes, lengths, strict=True):
        cells.append(open_cell(fragment, stripe, view[offset : offset + length]))
        offset += length
    return cells


def remake(
    codec: Codec,
    shape: SegmentShape,
    fragment: Callable[[int], FragmentId],
    stripes: range,
    read: Mapping[int, Buffer],
    wanted: Sequence[int],
) -> Remade:
    """The wanted shards' windows: as they were read, or decoded from k others. `fragment`: the id of a shard."""
    cells: dict[int, list[memoryview]] = {}
    bad: dict[int, Corrupt] = {}
    for shard, window in read.items():
        try:
            cells[shard] = open_window(fragment(shard), shape, stripes, window)
        except Corrupt as error:
            bad[shard] = error
    if bad:
        return Remade({}, bad)
    missing = [shard for shard in wanted if shard not in read]
    pieces: dict[int, list[Buffer]] = {shard: [] for shard in missing}
    for i, stripe in enumerate(stripes) if missing else ():
        length = shape.coding_length(stripe)
        decoded = codec.rebuild({shard: pad(opened[i], length) for shard, opened in cells.items()}, missing)
        for shard in missing:
            cell = memoryview(decoded[shard])[: shape.cell_length(shard, stripe)]
            pieces[shard] += (cell, seal(fragment(shard), stripe, cell))
    made: dict[int, Buffer] = {shard: b"".join(found) for shard, found in pieces.items()}
    return Remade({shard: made[shard] if shard in made else read[shard] for shard in wanted}, {})
