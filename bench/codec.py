"""Encoding and rebuilding with the erasure codecs, beside copying the same bytes.

Rates count data bytes (k cells a call), on one core, with warm tables; `rebuild` restores m lost data cells.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from random import Random

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.codec.erasure import available, get_codec
from objstore.config.kinds import parse_size
from objstore.model.cluster import ErasureCode

UNIT = "MB/s"


def measure(code: ErasureCode, cell_size: int, seconds: float) -> list[Figure]:
    size = code.k * cell_size
    cells = [Random(number).randbytes(cell_size) for number in range(code.k)]
    memcpy = limits.memcpy(seconds, cell_size) / 1e6
    lost = list(range(min(code.k, code.m)))
    found = []
    for name in available():
        codec = get_codec(name, code.k, code.m)
        shards = dict(enumerate([*cells, *codec.encode(cells)]))
        left = {shard: cell for shard, cell in shards.items() if shard not in lost}
        assert codec.rebuild(left, lost) == {shard: cells[shard] for shard in lost}
        for what, call in (("encode", partial(codec.encode, cells)), ("rebuild", partial(codec.rebuild, left, lost))):
            rate = limits.rate(call, size / 1e6, seconds, time.thread_time)
            found.append(Figure(f"{name} {what}", rate, UNIT, "memcpy", memcpy))
    return found


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__)
    found.add_argument("--ec", default="4+2", metavar="K+M")
    found.add_argument("--cell", default="256KiB", metavar="SIZE")
    arguments = found.parse_args(words)
    code, cell = ErasureCode.parse(arguments.ec), parse_size(arguments.cell)
    show(f"{code}, cells of {cell:,} bytes", measure(code, cell, arguments.seconds), as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
