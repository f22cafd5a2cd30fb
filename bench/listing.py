"""Merging the pages of replicas into what a list of keys shows, beside copying the bytes of those pages.

Pages of 1,000 keys from a majority of three acceptors, which agree; and from all three, of which one is behind.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.register.scan import merge
from objstore.wire.messages import RegScanned

NODES = tuple(NodeId(f"{number:016x}") for number in range(3))
LISTING = b"l" * 90  # what a list shows of an object


def page(keys: int, *, behind: bool = False) -> RegScanned:
    names = [f"photos/2026/{number:09d}.jpg".encode() for number in range(keys)]
    ballots = b"".join(Ballot(1 if behind and number % 10 == 0 else 2, 1).pack() for number in range(keys))
    return RegScanned(names, ballots, [LISTING] * keys, [], True)


def measure(seconds: float, keys: int = 1000) -> list[Figure]:
    one = page(keys)
    row = len(one.names[0]) + 16 + len(LISTING)
    agreed = {NODES[0]: one, NODES[1]: page(keys)}
    disputed = agreed | {NODES[2]: page(keys, behind=True)}
    assert len(merge((NODES,), agreed).names) == len(merge((NODES,), disputed).names) == keys
    memcpy = limits.memcpy(seconds)
    return [
        Figure(what, limits.rate(partial(merge, (NODES,), pages), keys, seconds, time.thread_time), "keys/s",
               "memcpy of the pages", memcpy / row / len(pages))
        for what, pages in (("two replicas that agree", agreed), ("three, one behind", disputed))
    ]  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__)
    found.add_argument("--keys", type=int, default=1000, help="in a page")
    arguments = found.parse_args(words)
    figures = measure(arguments.seconds, arguments.keys)
    show(f"merge of pages of {arguments.keys:,} keys, one core", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
