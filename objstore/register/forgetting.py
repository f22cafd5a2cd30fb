"""Which registers of a partition may become absent, and up to which floor (INV-11 in DESIGN.md). Pure.

A tombstone may be forgotten once *every* owner holds it at the same ballot, or has forgotten it already: then no
older value is left anywhere that could come back. Nothing else is proof of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from objstore.model.clock import ZERO

_ZERO = ZERO.pack()
_NEVER = (_ZERO, _ZERO)


class Look(NamedTuple):
    """What one acceptor durably holds of a partition. Ballots are packed.

    `fence` and `floor` were there before any of the registers was looked at."""

    ballots: Mapping[bytes, tuple[bytes, bytes]]  # key -> (accepted, promised)
    fence: int = 0
    floor: bytes = _ZERO

    def accepted(self, key: bytes) -> bytes:
        return self.ballots.get(key, _NEVER)[0]

    def promised(self, key: bytes) -> bytes:
        """Nothing is known of a register that was forgotten, but no promise was above the floor."""
        accepted, promised = self.ballots.get(key, _NEVER)
        return max(promised, self.floor) if accepted == _ZERO else promised


class Forgetting(NamedTuple):
    floor: bytes
    registers: list[tuple[bytes, bytes]]  # (key, the ballot it was last accepted at; ZERO: it was only promised)


def forgettable(
    looks: Sequence[Look], tombstones: Mapping[bytes, bytes], *, before: bytes, limit: int
) -> Forgetting | None:
    """looks: of all owners of the partition. tombstones: key -> ballot of a value known to be an empty tombstone.

    Ballots from `before` on are left alone. So is whatever would put the floor above a register that some owner lacks:
    the accept that brings it there would be refused. (Neither is needed for safety.)
    """
    bound = before
    found: list[tuple[bytes, bytes, bytes]] = []
    for key in dict.fromkeys(key for look in looks for key in look.ballots):
        accepted = [look.accepted(key) for look in looks]
        top = max(accepted)
        empty = top == _ZERO or tombstones.get(key) == top
        if empty and all(one == top or (one == _ZERO and looks[i].floor >= top) for i, one in enumerate(accepted)):
            found.append((max(top, *(look.ballots.get(key, _NEVER)[1] for look in looks)), key, top))
        elif min(accepted) != top:
            bound = min(bound, top)
    chosen = [one for one in sorted(found) if one[0] < bound][:limit]
    return Forgetting(chosen[-1][0], [(key, top) for _, key, top in chosen]) if chosen else None
