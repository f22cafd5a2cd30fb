"""Group commit of a real node on a real disk, beside bare writes and fdatasync of the same bytes.

As many changes of registers wait at any time as the batch is large: each is accepted by the node's acceptor, written to
its record journal and to its index, and answered when it is durable. `window`: changes are held back for so long before
they are submitted together, which is what waiting for more of them would be. The limit is one file that is extended by
the bytes of a batch and synced; the node syncs its journal, and once a second its index.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import uvloop

from bench.figures import Figure, parser, show
from objstore.adapters.clock import SystemClock
from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.adapters.randomness import SystemRandom
from objstore.bench import limits
from objstore.config.kinds import parse_size
from objstore.model.clock import Ballot
from objstore.model.limits import MIB
from objstore.model.records import Register, encode
from objstore.node.service import INDEX, TABLES, NodeService, open_node
from objstore.wire.messages import RegAccept, RegAccepted

PARTITIONS = 16
ROUNDS = 5  # whatever else the machine does is spread over all cases
STATE = encode(Register(b"state" * 20))


class Found(NamedTuple):
    changes_per_s: float
    p50_ms: float


async def changes(node: NodeService, at_once: int, size: int, seconds: float, window_s: float) -> Found:
    """`at_once` writers, each of which writes again when its last change is durable."""
    payload = Random(1).randbytes(size)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    end, took = began + seconds, list[float]()
    number = 0
    gate: asyncio.Future[None] | None = None

    async def hold() -> None:
        nonlocal gate
        if gate is None:
            gate = loop.create_future()
            loop.call_later(window_s, release)
        await gate

    def release() -> None:
        nonlocal gate
        if gate is not None:
            gate.set_result(None)
            gate = None

    async def write() -> None:
        nonlocal number
        while time.perf_counter() < end or not took:
            number += 1
            begin = time.perf_counter()
            if window_s:
                await hold()
            key = b"bench/%012d" % number
            ballot = Ballot(time.time_ns() // 1_000_000, number & 0xFFFF).pack()
            reply, _ = await node.handle(RegAccept(number % PARTITIONS, 2, key, ballot, b"l" * 60, STATE), payload)
            assert isinstance(reply, RegAccepted), reply
            took.append(time.perf_counter() - begin)

    await asyncio.gather(*(write() for _ in range(at_once)))
    return Found(len(took) / (time.perf_counter() - began), sorted(took)[len(took) // 2] * 1e3)


async def on_node(folder: Path, cases: Sequence[tuple[int, float]], size: int, seconds: float) -> list[Found]:
    """The cases (changes at once, window) in turn on one node, ROUNDS times; the median round of each."""
    disk = LocalDisk(str(folder))
    kv = LmdbKV(str(folder / INDEX), TABLES)
    node = await open_node(
        disk, kv, SystemClock(), SystemRandom(), cluster_id="c" * 32, name="n1", zone="z1", capacity_bytes=1 << 40,
        reserve_bytes=MIB, partition_bits=PARTITIONS.bit_length() - 1,
    )  # fmt: skip
    try:
        await changes(node, 4, size, min(seconds, 0.2), 0.0)  # files and pages that are there afterwards
        rounds = [
            [await changes(node, at_once, size, seconds / ROUNDS, window) for at_once, window in cases]
            for _ in range(ROUNDS)
        ]
        return [sorted(of_case)[ROUNDS // 2] for of_case in zip(*rounds, strict=True)]
    finally:
        await node.close()
        kv.close()


def measure(
    batches: Sequence[int], windows_ms: Sequence[float], size: int, seconds: float, folder: str | None = None
) -> list[Figure]:
    cases = [(batch, window / 1e3) for window in windows_ms for batch in batches]
    with tempfile.TemporaryDirectory(dir=folder, prefix="objstore-bench-") as where:
        bare = {batch: limits.fdatasync(where, batch * size or 1, seconds) for batch in batches}
        found = uvloop.run(on_node(Path(where) / "node", cases, size, seconds))
    figures = []
    for (batch, window), one in zip(cases, found, strict=True):
        name = f"{batch} at once" + (f", window {window * 1e3:g} ms" if window else "")
        figures.append(Figure(name, one.changes_per_s, "changes/s", "fdatasync of the same bytes", bare[batch] * batch))
        figures.append(Figure("  until durable, p50", one.p50_ms, "ms", "one fdatasync", 1e3 / bare[batch]))
    return figures


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__, seconds=1.5)
    found.add_argument("--batch", default="1,4,16,64", metavar="LIST", help="changes that wait at any time")
    found.add_argument("--window", default="0", metavar="LIST", help="milliseconds, such as 0,1,2,5")
    found.add_argument("--size", default="4KiB", metavar="SIZE", help="inline bytes of a change")
    found.add_argument("--folder", metavar="DIR", help="on the disk to be measured (default: that for temporary files)")
    arguments = found.parse_args(words)
    batches = [int(text) for text in arguments.batch.split(",")]
    windows = [float(text) for text in arguments.window.split(",")]
    size = parse_size(arguments.size)
    figures = measure(batches, windows, size, arguments.seconds, arguments.folder)
    show(f"group commit of changes with {size:,} bytes", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
