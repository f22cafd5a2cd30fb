"""The scrub as operators steer it, and as each node tells of it.

What is asked is one record in the coordinator (key `scrub/control`, JSON) that every node follows. What was done comes
back with the node's lease. Numbers of bytes are of stored fragments, index rows and journal records together.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ScrubState = Literal["off", "idle", "running", "paused"]
ScrubMode = Literal["full", "quick"]  # quick: whether each fragment lies where the index says, by its header alone

CYCLE_S = 30 * 86_400.0  # a whole round takes no longer, whatever rate is configured


class ScrubControl(msgspec.Struct, frozen=True):
    """`start` is a number of its own for each request to begin a round at once; 0 = there was none."""

    paused: bool = False
    until_ms: int = 0  # a pause ends by itself then; 0 = when it is taken back
    rate: int = 0  # bytes per second for every node; 0 = as each is configured
    start: int = 0
    mode: ScrubMode = "full"  # of the round that `start` asked for

    def pauses(self, now_ms: int) -> bool:
        return self.paused and (self.until_ms == 0 or now_ms < self.until_ms)


class ScrubFound(msgspec.Struct, frozen=True):
    """Damage by kind. corrupt: bytes that do not verify; misplaced: something else lies there; missing: nothing
    does. records: places in the record journal that do not verify; it is written again from the index."""

    corrupt: int = 0
    misplaced: int = 0
    missing: int = 0
    records: int = 0

    @property
    def total(self) -> int:
        return self.corrupt + self.misplaced + self.missing + self.records

    def plus(self, other: ScrubFound) -> ScrubFound:
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return ScrubFound(*(one + more for one, more in pairs))

    def since(self, before: ScrubFound) -> ScrubFound:
        """What was found after `before`."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(before), strict=True)
        return ScrubFound(*(max(0, late - early) for late, early in pairs))

    def __str__(self) -> str:
        """ "2 corrupt, 1 missing"."""
        parts = [f"{number} {name}" for name, number in msgspec.structs.asdict(self).items() if number]
        return ", ".join(parts).replace("records", "in journal records") or "no damage"


class ScrubRound(msgspec.Struct, frozen=True):
    """A round that came to its end. Times in Unix milliseconds; 0 = there was none yet."""

    started_ms: int = 0
    finished_ms: int = 0
    bytes: int = 0
    found: ScrubFound = ScrubFound()


class ScrubReport(msgspec.Struct, frozen=True):
    """Part of a node's lease."""

    state: ScrubState = "off"
    mode: ScrubMode = "full"  # of the present round
    done_bytes: int = 0  # of the present round
    total_bytes: int = 0
    rate: int = 0  # bytes per second that it may read
    started_ms: int = 0  # of the present round; 0 = none goes on
    found: ScrubFound = ScrubFound()  # in the present round
    found_ever: ScrubFound = ScrubFound()  # in all rounds of this node
    last: ScrubRound = ScrubRound()  # the last full round that was completed
    obeyed: int = 0  # `ScrubControl.start` of the last round, of any mode, that was completed on request
    since_ms: int = 0  # when this node was scrubbed first: until a round is complete, its age

    @property
    def eta_s(self) -> float | None:
        if self.state != "running" or self.rate <= 0:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.rate


encode_scrub = msgspec.json.Encoder().encode
decode_scrub = msgspec.json.Decoder(ScrubControl).decode  # raises msgspec.DecodeError
