"""What is not as it should be, counted: flaws of segments and verdicts on objects, each exactly once. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from objstore.model.cluster import ErasureCode


class Harm(IntEnum):
    """NONE: nothing to do but to remove surplus copies. MISPLACED: whole, but not where it belongs. DAMAGED: a shard
    is missing, two are on one node, or a metadata replica lags: fewer losses are survived than should be."""

    NONE = 0
    MISPLACED = 1
    DAMAGED = 2


class Flaw(NamedTuple):
    """A judged segment that is not perfect."""

    level: int
    readable: int
    harm: Harm
    absent_at: tuple[int, ...]  # numbers of home nodes without their shard
    to_write: int = 0  # bytes of fragments
    traffic: int = 0  # bytes read and written to put it right

    @property
    def debt(self) -> bool:
        return self.harm is not Harm.NONE

    @property
    def rank(self) -> int:
        """Its place on the agenda: fewest losses survived first, what only has to move last."""
        return self.level + (self.harm is Harm.MISPLACED)


class Left(NamedTuple):
    """What is still to be done about one kind of harm."""

    segments: int = 0
    to_write: int = 0
    traffic: int = 0

    def without(self, other: Left) -> Left:
        return Left(*(max(0, mine - theirs) for mine, theirs in zip(self, other, strict=True)))


class Tally:
    def __init__(self, code: ErasureCode) -> None:
        self.histogram = [0] * (code.shards + 1)  # objects by level
        self.objects = [0, 0, 0]  # by harm
        self.parts: dict[bytes, Harm] = {}  # harmed parts of open uploads: repaired like objects, but not counted
        self.restored = 0  # objects that were damaged and are not any more, ever
        self.rehomed = 0  # objects that were misplaced and are where they belong, ever
        self._segments = [0, 0, 0]
        self._to_write = [0, 0, 0]
        self._traffic = [0, 0, 0]
        self._missing: dict[int, int] = {}  # segments whose shard is not at its home, by number of the node
        self._verdicts: dict[bytes, tuple[int, Harm]] = {}  # by object
        self._alike: dict[tuple[int, Harm], tuple[int, Harm]] = {}  # verdicts: one tuple for all that are the same
        self._harmed: dict[bytes, None] = {}  # objects

    def count_flaw(self, flaw: Flaw, sign: int) -> None:
        self._segments[flaw.harm] += sign
        self._to_write[flaw.harm] += sign * flaw.to_write
        self._traffic[flaw.harm] += sign * flaw.traffic
        for number in flaw.absent_at:
            self._missing[number] = self._missing.get(number, 0) + sign

    def set_verdict(self, key: bytes, verdict: tuple[int, Harm] | None, *, at_home: bool = True) -> None:
        """None: there is no such object (any more). Not at_home: a home that is away lacks its shard, and it waits."""
        old = self._verdicts.pop(key, None)
        self._harmed.pop(key, None)
        if old is not None:
            self.histogram[old[0]] -= 1
            self.objects[old[1]] -= 1
        if verdict is None:
            return
        self._verdicts[key] = self._alike.setdefault(verdict, verdict)
        if verdict[1] is not Harm.NONE:
            self._harmed[key] = None
        self.histogram[verdict[0]] += 1
        self.objects[verdict[1]] += 1
        if old is not None and old[1] is Harm.DAMAGED > verdict[1]:
            self.restored += 1
        if old is not None and old[1] is Harm.MISPLACED > verdict[1] and at_home:
            self.rehomed += 1

    def set_part(self, key: bytes, harm: Harm) -> None:
        if harm is Harm.NONE:
            self.parts.pop(key, None)
        else:
            self.parts[key] = harm

    def verdict(self, key: bytes) -> tuple[int, Harm] | None:
        return self._verdicts.get(key)

    def harmed(self) -> list[bytes]:
        """Keys of all objects and parts with something to do."""
        return [*self._harmed, *self.parts]

    def count(self, harm: Harm) -> int:
        """Objects and parts."""
        return self.objects[harm] + sum(one is harm for one in self.parts.values())

    def left(self, harm: Harm) -> Left:
        return Left(self._segments[harm], self._to_write[harm], self._traffic[harm])

    def missing_on(self, number: int) -> int:
        return self._missing.get(number, 0)
