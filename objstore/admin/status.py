"""The status of a cluster as every screen shows it: `status`, `watch`, `--json`, tests. Words and numbers only.

This is a public format (README, "Status as JSON"): fields are added, never renamed or removed. `None` means
"not known now", which is different from zero.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from objstore.model.scrubbing import ScrubReport
from objstore.model.survey import Event, ObjectCounts, Receipt, RepairProgress

Verdict = Literal["HEALTHY", "DEGRADED", "AT_RISK", "UNAVAILABLE", "UNKNOWN"]
NodeCondition = Literal["up", "late", "down", "out", "spare"]

EXIT_CODES: dict[Verdict, int] = {"HEALTHY": 0, "DEGRADED": 3, "AT_RISK": 3, "UNAVAILABLE": 4, "UNKNOWN": 4}


class Reason(msgspec.Struct, frozen=True):
    """What is not as it should be. `code` is one of `objstore.admin.codes`; `next` is a command to type, or "".

    severity info alone leaves the verdict HEALTHY."""

    code: str
    text: str
    next: str = ""
    severity: str = ""  # error, warning or info


class NodeStatus(msgspec.Struct, frozen=True):
    """up: answers now. late: has a lease but does not answer in time. down: does not answer or has no lease.
    out: given up, its data are rebuilt elsewhere. spare: answers, but owns nothing yet."""

    name: str
    id: str
    state: NodeCondition
    zone: str
    used_bytes: int | None
    capacity_bytes: int
    address: str
    missing: int | None  # fragments that should be here and are not
    version: str = ""
    pid: int = 0
    clock_skew_s: float | None = None  # its clock minus the median of all
    scrub: ScrubReport | None = None
    level: str = "ok"  # how full: ok, near, full (no new data), backfill (no repair either), reserve (deletes only)
    damaged: int = 0  # fragments that were found damaged here and not made anew here since
    share: bool = True  # of the data; false: a spare, or a member that was drained


class SpaceLeft(msgspec.Struct, frozen=True):
    """Bytes. used and raw: on the disks of all members. left: what clients can still store, once it is coded; the
    latter when a node is lost and its shards are made again on the others. None: not every member said, or too few
    nodes would be left to hold every shard."""

    used: int
    raw: int
    left: int | None = None
    left_one_lost: int | None = None


class ProcessStatus(msgspec.Struct, frozen=True):
    """A gateway or a repairer."""

    name: str
    id: str
    state: Literal["up", "down"]
    address: str
    pid: int = 0


class Status(msgspec.Struct, frozen=True):
    verdict: Verdict
    summary: str  # one line
    at_ms: int  # when this was put together
    as_of_ms: int | None  # when the repairer last looked at the data
    cluster_id: str
    code: str  # "4+2"
    epoch: int
    can_lose: int | None  # nodes that may still be lost before an object becomes unreadable
    nodes: list[NodeStatus]
    objects: ObjectCounts | None
    redundancy: list[int]  # objects by number of distinct readable shards: index = shards
    repair: RepairProgress | None
    gateways: list[ProcessStatus]
    repairers: list[ProcessStatus]
    leader: str | None  # name of the repairer that works
    reasons: list[Reason]
    events: list[Event]
    receipt: Receipt | None  # of the last finished repair or rebalance
    receipts: list[Receipt] = []  # the last ones, oldest first
    format: int = 1
    space: SpaceLeft | None = None

    @property
    def is_whole(self) -> bool:
        """Every object is at full redundancy as of now, whether or not all nodes are up."""
        counts = self.objects
        return counts is not None and counts.full == counts.total and not {r.code for r in self.reasons} & _UNSETTLED

    def node(self, name: str) -> NodeStatus | None:
        return next((node for node in self.nodes if node.name == name), None)


# While one of these holds, the counts of the survey may be about another moment than now.
_UNSETTLED = frozenset({"COORDINATOR_DOWN", "CLUSTER_FORMING", "VIEW_STALE", "NODE_DOWN", "NODE_LATE", "METADATA_SYNC"})


def to_json(status: Status) -> bytes:
    return msgspec.json.encode(status)
