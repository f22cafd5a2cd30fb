"""What the leading repairer reports: how redundant the data is, and what repair does about it.

One record in the coordinator (key `survey`), JSON, replaced as a whole, so that every screen shows the same
whichever process it asks. It says nothing of who is alive: leases do. All numbers are measured: a node that
does not answer holds nothing. The next leader takes an unfinished repair over from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from objstore.model.cluster import GatewayLease
from objstore.model.formats import json_decoder
from objstore.model.lifecycle import LifecycleProgress

RepairState = Literal["idle", "waiting", "running", "throttled", "paused", "blocked", "failed"]
Kind = Literal["repair", "rebalance"]
"""repair: shards are missing, or metadata replicas lag. rebalance: all is there, but not where it belongs."""

Budget = int | Literal["auto", "unlimited"]
"""How fast repair may go: as idle capacity allows (auto), the same but at most so many bytes of fragments written per
second (a number above 0), or as fast as it can (unlimited)."""

EVENTS_KEPT = 50
RECEIPTS_KEPT = 10
FAILED_SHOWN = 50


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
    kind: Kind = "repair"  # what the numbers are about; a repair comes before a rebalance
    items_per_s: float = 0.0  # segments
    retries: int = 0  # of this episode
    throttle: str = ""  # why it goes slower than it could, or ""
    budget: Budget = "auto"
    rebalance_paused: bool = False
    misplaced: int = 0  # objects that are whole, but not where they belong
    moved_bytes: int = 0  # by the present (or last) rebalance
    orders: int = 0  # the newest order (RepairControl.orders) that is followed
    paused_until_ms: int = 0  # while paused: when it goes on by itself; 0 = not before it is told to


class NodeHoldings(msgspec.Struct, frozen=True):
    fragments: int  # on the node now; 0 when it does not answer
    missing: int  # that belong there by the layout and are not readable there
    needed: int = -1  # of a member without a share: fragments that something refers to or may yet; -1: not known


class Event(msgspec.Struct, frozen=True):
    at_ms: int
    text: str


class Receipt(msgspec.Struct, frozen=True):
    """Of a finished repair or rebalance. bytes: of fragments that were written and verified."""

    started_ms: int
    finished_ms: int
    objects: int
    bytes: int
    retries: int
    kind: Kind = "repair"
    failed: int = 0  # attempts of items that had failed many times before they succeeded
    worked_s: float = 0.0  # in which it did not only wait; 0 = hardly any, or not known


class Episode(msgspec.Struct, frozen=True):
    """A repair or rebalance that is not finished: what the next leader goes on from."""

    kind: Kind
    started_ms: int
    objects: int
    bytes: int
    retries: int
    worked_s: float = 0.0


class FailedItem(msgspec.Struct, frozen=True):
    """A segment that could not be repaired now, and is tried again by itself."""

    item: str  # "bucket/key", or what is known of it
    segment: str  # blob id and number, as logs have it
    attempts: int
    again_in_s: float
    error: str


class TargetReport(msgspec.Struct, frozen=True):
    """A target of event notifications, as the leading repairer sees it."""

    name: str
    url: str  # "": none of this name is configured where the repairer runs
    pending: int  # events that it has still to be told of
    oldest_ms: int  # when the oldest of them happened; 0: there are none
    delivered: int  # by this leader, as the next three; most events are delivered by the gateway that wrote
    failed: int  # attempts
    given_up: int  # events that were dropped because they had waited too long
    failing_since_ms: int  # 0: it answers, as far as it was tried
    reason: str  # why it fails


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
    receipt: Receipt | None = None  # the last one
    receipts: list[Receipt] = []  # the last ones of both kinds, oldest first
    episodes: list[Episode] = []
    failed_items: list[FailedItem] = []  # those with most attempts
    rebuilt_bytes: int = 0  # by this leader, ever
    moved_bytes: int = 0  # by this leader, ever
    repaired_objects: int = 0  # by this leader, ever
    damaged_parts: int = 0  # parts of open uploads that are not at full redundancy
    notify: list[TargetReport] = []  # by name
    lifecycle: LifecycleProgress | None = None  # None: not known
    format: int = 1


def leader_of(leader: str, repairers: Sequence[GatewayLease]) -> GatewayLease | None:
    """`leader`: what the election says; by name or by id."""
    return next((one for one in repairers if leader in (one.id, one.name)), None)


def as_led(survey: Survey, leader: str, repairers: Sequence[GatewayLease]) -> Survey:
    """The survey as it holds now: what a repairer said that is gone is how far it was; its rate and ETA are over."""
    repair, leads = survey.repair, leader_of(leader, repairers)
    if repair.state not in ("running", "throttled"):
        return survey
    if leads is not None and leads.name == survey.leader and leads.started_ms <= survey.as_of_ms:
        return survey
    if leads is not None:
        reason = f"{leads.name} has taken over, and looks at the data first"
    else:
        then = "another repairer takes over" if repairers else "no repairer runs"
        reason = f"{survey.leader}, which was at work, is gone; {then}"
    waiting = msgspec.structs.replace(
        repair, state="waiting", reason=reason, bytes_per_s=0.0, items_per_s=0.0, eta_s=None, throttle=""
    )
    return msgspec.structs.replace(survey, repair=waiting)


class RepairControl(msgspec.Struct, frozen=True):
    """Under `repair/control`: what operators asked of repair. Whoever leads follows it."""

    paused: bool = False
    until_ms: int = 0  # a pause ends by itself then; 0 = when it is taken back
    rebalance_paused: bool = False
    rebalance_until_ms: int = 0
    budget: Budget | None = None  # None: as configured
    orders: int = 0  # rises with every order of any kind
    now: int = 0  # the newest order to try everything at once
    first: list[str] = []  # ids of blobs, in hex, that this order is about; none = all
    format: int = 1

    def pauses(self, now_ms: int) -> bool:
        return self.paused and (self.until_ms == 0 or now_ms < self.until_ms)

    def pauses_rebalance(self, now_ms: int) -> bool:
        return self.rebalance_paused and (self.rebalance_until_ms == 0 or now_ms < self.rebalance_until_ms)


DamageKind = Literal["unreadable", "minimum", "reduced", "misplaced", "metadata"]
Why = Literal["node down", "missing", "misplaced", "crowded"]
"""node down: on a node that does not answer. missing: on no node that answers. misplaced: not on its home.
crowded: together with another shard of the segment."""


class HurtShard(msgspec.Struct, frozen=True):
    segment: int
    shard: int
    node: str  # name of the node that is down, or of that where it belongs
    why: Why


class Damage(msgspec.Struct, frozen=True):
    """An object, or a part of an upload, that is not as it should be. Under `damage/...`, worst first."""

    bucket: str
    key: str  # printable: what is not is escaped
    kind: DamageKind
    readable: int  # shards of its worst segment
    shards: int
    hurt: list[HurtShard] = []  # some of them
    hurt_total: int = 0
    next: str = ""  # what will happen, or what an operator must do


class DamagePage(msgspec.Struct, frozen=True):
    as_of_ms: int
    total: int  # objects and parts, listed or not
    items: list[Damage] = []


encode_survey = msgspec.json.Encoder().encode
decode_survey = json_decoder(Survey, "the survey", known=1)  # raises msgspec.DecodeError
encode_control = msgspec.json.Encoder().encode
decode_control = json_decoder(RepairControl, "what is asked of repair", known=1)  # raises msgspec.DecodeError
encode_damage = msgspec.json.Encoder().encode
decode_damage = msgspec.json.Decoder(DamagePage).decode
