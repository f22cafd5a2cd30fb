"""Ballots: totally ordered (hybrid logical clock, proposer) pairs.

Safety needs only that no two rounds ever use one ballot: proposer ids are random per process and the
counter of one proposer only rises. Wall time merely keeps ballots of idle proposers close together.
Source of the clock: Kulkarni et al., "Logical Physical Clocks", 2014 (one 64-bit word: 48 bits ms, 16 count).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_BALLOT = struct.Struct(">QQ")


class Ballot(NamedTuple):
    """Compared as a tuple; packed to 16 bytes that compare the same way."""

    time: int  # hybrid logical clock: Unix ms << 16 | counter
    proposer: int  # 64 random bits of the process

    def pack(self) -> bytes:
        return _BALLOT.pack(self.time, self.proposer)

    @classmethod
    def unpack(cls, raw: bytes) -> Ballot:
        return cls(*_BALLOT.unpack(raw))


ZERO = Ballot(0, 0)  # "nothing promised, nothing accepted": below every real ballot


class BallotClock:
    """Makes the ballots of one process. `observe` keeps it ahead of every ballot it has seen."""

    def __init__(self, proposer: int) -> None:
        assert 0 < proposer < 1 << 64
        self.proposer = proposer
        self._last = 0

    def next(self, now_ms: int) -> Ballot:
        self._last = max(self._last + 1, now_ms << 16)
        return Ballot(self._last, self.proposer)

    def observe(self, ballot: Ballot) -> None:
        self._last = max(self._last, ballot.time)
