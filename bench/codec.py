"""Encode and rebuild rates of the erasure codecs, beside plain copying in the same run.

    python bench/codec.py [k+m] [cell KiB]

Rates count data bytes (k cells a call), one thread, warm caches and tables; each figure is the best of several
rounds, because other work on the machine can only slow a round down. `rebuild` restores m lost data cells.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial

from objstore.codec.erasure import available, get_codec
from objstore.model.cluster import ErasureCode

ROUNDS = 7
ROUND_S = 0.15


def rate(call: Callable[[], object], size: int) -> float:
    """MB/s of a call that handles `size` bytes."""
    call()  # warm up: tables, page faults
    best = 0.0
    for _ in range(ROUNDS):
        calls, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < ROUND_S:
            call()
            calls += 1
        best = max(best, calls * size / spent)
    return best / 1e6


def main(code: ErasureCode, cell_size: int) -> None:
    size = code.k * cell_size
    cells = [os.urandom(cell_size) for _ in range(code.k)]
    whole = b"".join(cells)
    print(f"{code}, cells of {cell_size // 1024} KiB, MB/s of data")
    print(f"{'memcpy':8} {'copy':>8} {rate(partial(bytearray, whole), size):10,.0f}")
    lost = list(range(min(code.k, code.m)))
    for name in available():
        codec = get_codec(name, code.k, code.m)
        shards = dict(enumerate([*cells, *codec.encode(cells)]))
        left = {shard: cell for shard, cell in shards.items() if shard not in lost}
        assert codec.rebuild(left, lost) == {shard: cells[shard] for shard in lost}
        print(f"{name:8} {'encode':>8} {rate(partial(codec.encode, cells), size):10,.0f}")
        print(f"{name:8} {'rebuild':>8} {rate(partial(codec.rebuild, left, lost), size):10,.0f}")


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    main(ErasureCode.parse(arguments.get(1, "4+2")), int(arguments.get(2, "256")) * 1024)
