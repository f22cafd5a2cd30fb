"""How long damaged copies are kept for people to look at: a while, and no more than so many bytes of them.

They serve no read and no repair; the shards that they should be are made anew from the others. Oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from objstore.model import limits
from objstore.node.index import FRAGMENT_BYTES, QUARANTINE, Held, rows_of, unpack
from objstore.ports import KV

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Bounds:
    age_s: float = 30 * DAY_S
    bytes_max: int = limits.GIB


class Copy(NamedTuple):
    key: bytes  # of its row
    row: bytes
    held: Held

    @property
    def fragment(self) -> bytes:
        return self.key[:FRAGMENT_BYTES]

    @property
    def since_ms(self) -> int:
        return int.from_bytes(self.key[FRAGMENT_BYTES:], "big")


def overdue(kv: KV, bounds: Bounds, now_ms: int) -> list[Copy]:
    """Those that are to go, oldest first. Looks at all of them."""
    copies = [Copy(key, row, unpack(row)) for key, row in rows_of(kv, QUARANTINE)]
    copies.sort(key=lambda copy: copy.since_ms)
    over = sum(copy.held.extent.length for copy in copies) - bounds.bytes_max
    horizon = now_ms - int(bounds.age_s * 1000)
    found: list[Copy] = []
    for copy in copies:
        if over <= 0 and copy.since_ms > horizon:
            break
        over -= copy.held.extent.length
        found.append(copy)
    return found
