"""Finding the owners of a key or blob, and computing a layout, beside MD5 of what is placed.

Owners are looked up for every request; a layout is computed once for each change of the members.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Sequence
from functools import partial

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.model.cluster import ClusterMap, ErasureCode, Node, View
from objstore.model.ids import NodeId
from objstore.model.limits import PARTITION_BITS
from objstore.placement.layout import compute_layout
from objstore.placement.topology import Topology

NAMES = 4096


def nodes(count: int) -> list[Node]:
    return [Node(NodeId(f"{number:016x}"), f"n{number}", f"z{number % 4}", 1000) for number in range(count)]


def measure(seconds: float, counts: Sequence[int], code: ErasureCode, bits: int = PARTITION_BITS) -> list[Figure]:
    blobs = itertools.cycle([hashlib.md5(bytes([n % 256, n // 256])).digest() for n in range(NAMES)])
    md5 = limits.rate(lambda: hashlib.md5(next(blobs)).digest(), 1, seconds, time.thread_time)
    table = limits.memcpy(seconds)
    found = []
    for count in counts:
        members = nodes(count)
        layout = compute_layout(members, code, bits)
        topology = Topology(ClusterMap("c" * 32, code, bits, "isal", tuple(members), View(1, layout)))

        def owners(topology: Topology = topology) -> None:
            topology.data_owners(topology.partition_of_blob(next(blobs), 0))

        rate = limits.rate(owners, 1, seconds, time.thread_time)
        found.append(Figure(f"owners of a blob, {count} nodes", rate, "lookups/s", "MD5 of its id", md5))
        smaller = compute_layout(members[:-1], code, bits)
        entries = (1 << bits) * (code.shards + code.replicas)
        for what, previous in (("new", None), ("one node more", smaller)):
            call = partial(compute_layout, members, code, bits, previous)
            rate = limits.rate(call, 1, seconds, time.thread_time)
            name, limit = f"layout, {count} nodes, {what}", table / (entries * 2)
            found.append(Figure(name, rate, "layouts/s", "memcpy of its table", limit))
    return found


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__)
    found.add_argument("--nodes", default="8,64", metavar="LIST")
    found.add_argument("--ec", default="4+2", metavar="K+M")
    arguments = found.parse_args(words)
    counts = [int(text) for text in arguments.nodes.split(",")]
    code = ErasureCode.parse(arguments.ec)
    show(f"placement, {code}, one core", measure(arguments.seconds, counts, code), as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
