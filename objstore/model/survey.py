"""What the leading repairer reports: how redundant the data is, and what repair does about it.

One record in the coordinator (key `survey`), JSON, replaced as a whole, so that every screen shows the same
whichever process it asks. It says nothing of who is alive: leases do. All numbers are measured: a node that
does not answer holds nothing. The next leader takes an unfinished repair over from here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RepairState = Literal["idle", "waiting", "running", "throttled", "paused", "blocked", "failed"]

EVENTS_KEPT = 50


class ObjectCounts(msgspec.Struct, frozen=True):
    """full: every shard readable and every metadata replica up to date. minimum: nothing more may be lost.
    unreadable: too few shards or metadata replicas answer now (not the same as lost)."""

    total: int = 0
    full: int = 0
    reduced: int = 0
    minimum: int = 0
    unreadable: int = 0


class RepairProgress(msgspec.Struct, frozen=True):
    """`total` - `done` is the debt that is left, so it grows when more damage is found."""

    state: RepairState = "idle"
    reason: str = ""  # why it is not idle, as a line to show
    done: int = 0  # objects of the present (or last) repair
    total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0  # an estimate while it runs
    bytes_per_s: float = 0.0  # over the last seconds
    eta_s: float | None = None  # None: not enough seen to say
    retrying: int = 0  # segments that failed and wait for another attempt
    failed: int = 0  # ... that failed many times; still retried, seldom
    started_ms: int = 0  # 0 = none is going on


class NodeHoldings(msgspec.Struct, frozen=True):
    fragments: int  # on the node now; 0 when it does not answer
    missing: int  # that belong there by the layout and are not readable there


class Event(msgspec.Struct, frozen=True):
    at_ms: int
    text: str


class Receipt(msgspec.Struct, frozen=True):
    """Of the last finished repair."""

    started_ms: int
    finished_ms: int
    objects: int
    bytes: int
    retries: int


class Survey(msgspec.Struct, frozen=True):
    as_of_ms: int  # when the data was last looked at
    leader: str  # name of the repairer that reports
    epoch: int
    code: str  # "4+2"
    objects: ObjectCounts = ObjectCounts()
    can_lose: int = 0  # nodes that may still be lost before an object becomes unreadable
    redundancy: list[int] = []  # objects by readable distinct shards (index 0..k+m); lost metadata margin counts alike
    repair: RepairProgress = RepairProgress()
    nodes: dict[str, NodeHoldings] = {}  # by node id
    events: list[Event] = []  # oldest first
    receipt: Receipt | None = None


class RepairControl(msgspec.Struct, frozen=True):
    """Under `repair/control`: what an operator asked of repair."""

    paused: bool = False
    until_ms: int = 0  # a pause ends by itself then; 0 = when it is taken back

    def pauses(self, now_ms: int) -> bool:
        return self.paused and (self.until_ms == 0 or now_ms < self.until_ms)


encode_survey = msgspec.json.Encoder().encode
decode_survey = msgspec.json.Decoder(Survey).decode  # raises msgspec.DecodeError
encode_control = msgspec.json.Encoder().encode
decode_control = msgspec.json.Decoder(RepairControl).decode
