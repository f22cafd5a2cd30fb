"""What is known to be damaged on this node and was not made anew here since; and what was ever found, by kind.

Kept in memory, from the rows of the quarantine: a fragment that lies there and is not held again. It says when repair
has made good what was found, as far as this node can tell: a shard that is made anew elsewhere stays counted until its
quarantined copy goes. Who judges looks at the survey too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from objstore.node import index
from objstore.node.stored import DamageKind
from objstore.ports import KV


class Toll:
    def __init__(self) -> None:
        self.found: Counter[DamageKind] = Counter()  # since the start
        self.last_ms = 0  # when damage was found last; 0: not since the start
        self._open: set[bytes] = set()

    @property
    def open(self) -> int:
        """Fragments."""
        return len(self._open)

    def recover(self, kv: KV) -> None:
        """Blocking, once, at start."""
        for key, _ in index.rows_of(kv, index.QUARANTINE):
            fragment = key[: index.FRAGMENT_BYTES]
            if index.find(kv, fragment) is None:
                self._open.add(fragment)

    def note(self, fragment: bytes, kind: DamageKind, now_ms: int) -> None:
        self.found[kind] += 1
        self.last_ms = max(self.last_ms, now_ms)
        self._open.add(fragment)

    def settle(self, fragments: Iterable[bytes]) -> None:
        """They are stored anew, or nobody needs them."""
        self._open.difference_update(fragments)
