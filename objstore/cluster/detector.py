"""Who is up, late, down or out: judged from leases seen over time, with hysteresis. Pure: `now` is given.

              no lease                 for down_after_s               for out_after_s
        up ────────────▶ late ───────────────────────▶ down ───────────────────────▶ out
         ◀──────────────── ◀──── lease, without a gap or restart, for steady_s ────────

*late* may be a slow heartbeat and changes nothing; while a node is *down* reads decode around it and writes
hand off; *out* means its share is rebuilt elsewhere. Invariants:

- only time in which somebody looked counts: after a gap in the observations (this process slept, the
  coordinator was away) nobody has aged by more than `gap_max_s`, so a gap alone makes nobody down or out;
- a node never seen is first *late*, whatever the time, unless the map already has it out;
- a node that comes and goes stays what it was, and the clock of its absence goes on, until it has been steady.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from objstore.model.cluster import NodeLease
from objstore.model.ids import NodeId


class Status(StrEnum):
    UP = "up"
    LATE = "late"
    DOWN = "down"
    OUT = "out"


class Health(NamedTuple):
    status: Status
    for_s: float  # how long it has been so, counting only time under observation
    absent_s: float  # how long it has not been in order; 0.0 while up


@dataclass(slots=True)
class _Member:
    """Times are on the detector's own clock, which stands still while nobody looks."""

    status: Status
    since: float
    good_until: float  # the last time it was in order
    steady_from: float | None = None  # start of the present run of leases; None while absent
    started_ms: int = 0  # which process gives the lease


class FailureDetector:
    """One per observer. Call `observe` regularly, and only with leases that were just read."""

    def __init__(
        self, *, down_after_s: float, out_after_s: float, steady_s: float = 5.0, gap_max_s: float = 5.0
    ) -> None:
        assert 0 <= down_after_s <= out_after_s and gap_max_s > 0
        self._down_after_s = down_after_s
        self._out_after_s = out_after_s
        self._steady_s = steady_s
        self._gap_max_s = gap_max_s
        self._members: dict[NodeId, _Member] = {}
        self._time = 0.0
        self._last_now: float | None = None

    def observe(
        self, now: float, members: Sequence[NodeId], leases: Mapping[NodeId, NodeLease], out: Collection[NodeId] = ()
    ) -> dict[NodeId, Health]:
        """The state of each member. `out`: those that the map has out; matters for members not seen before."""
        if self._last_now is not None:
            self._time += min(max(0.0, now - self._last_now), self._gap_max_s)
        self._last_now = now
        known = self._members
        self._members = {}
        for node in members:
            member = known.get(node) or _Member(Status.OUT if node in out else Status.LATE, self._time, self._time)
            self._members[node] = member
            lease = leases.get(node)
            if lease is None:
                self._absent(member)
            else:
                self._present(member, lease.started_ms)
        return {node: self._health(member) for node, member in self._members.items()}

    def _absent(self, member: _Member) -> None:
        member.steady_from = None
        absent_s = self._time - member.good_until
        if member.status is Status.OUT or absent_s >= self._out_after_s:
            self._become(member, Status.OUT)
        elif member.status is Status.DOWN or absent_s >= self._down_after_s:
            self._become(member, Status.DOWN)
        else:
            self._become(member, Status.LATE)

    def _present(self, member: _Member, started_ms: int) -> None:
        if member.steady_from is None or member.started_ms != started_ms:
            member.steady_from = self._time
            member.started_ms = started_ms
        bad = member.status in (Status.DOWN, Status.OUT)
        if bad and self._time - member.steady_from < self._steady_s:
            return
        self._become(member, Status.UP)
        member.good_until = self._time

    def _become(self, member: _Member, status: Status) -> None:
        if member.status is not status:
            member.status = status
            member.since = self._time

    def _health(self, member: _Member) -> Health:
        absent_s = 0.0 if member.status is Status.UP else self._time - member.good_until
        return Health(member.status, self._time - member.since, absent_s)
