"""What nodes say of their disks, as reasons and figures: how full, how much room is left, damage, the scrub. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from objstore.admin import figures
from objstore.admin.status import NodeStatus, Reason, SpaceLeft
from objstore.model.cluster import ErasureCode, NodeLease, is_at_least
from objstore.model.ids import NodeId
from objstore.model.survey import ObjectCounts, Survey
from objstore.model.usage import UsageHead

SCRUB_LATE_MS = 45 * 86_400_000  # a round takes 30 days at most, and then there is a rest of a day

_TAKES = {
    "full": "takes no new data; other nodes stand in for it",
    "backfill": "takes neither new data nor any from repair",
    "reserve": "takes deletes only",
}


def full_reasons(nodes: Sequence[NodeStatus], leases: Mapping[NodeId, NodeLease], code: ErasureCode) -> list[Reason]:
    reasons = []
    full = 0
    for node in nodes:
        lease = leases.get(NodeId(node.id))
        if lease is None or node.state not in ("up", "late"):
            continue
        where = f"{node.name} (zone {node.zone})"
        if is_at_least(lease.level, "full"):
            full += 1
            text = f"{where} is full and {_TAKES[lease.level]}: {_used(lease)}"
            reasons.append(Reason("NODE_FULL", text, "objstore node list"))
        elif lease.level == "near":
            reasons.append(Reason("NODE_NEARFULL", f"{where} is nearly full: {_used(lease)}", "objstore node list"))
    roomy = sum(node.state in ("up", "late") for node in nodes) - full
    if full and roomy <= code.k:
        text = f"writes are refused: {figures.plural(full, 'node')} take no new data. Delete objects, or add nodes"
        reasons.insert(0, Reason("CLUSTER_FULL", text, "objstore node list"))
    return reasons


def _used(lease: NodeLease) -> str:
    return f"{figures.size(lease.held_bytes)} used, {figures.size(lease.free_bytes)} free"


def damage_reasons(
    nodes: Sequence[NodeStatus], leases: Mapping[NodeId, NodeLease], survey: Survey | None, objects: ObjectCounts | None
) -> list[Reason]:
    """Damage that nodes found and that is not rebuilt yet, as far as is known: the survey may not have seen it."""
    reasons = []
    for node in nodes:
        lease = leases.get(NodeId(node.id))
        if lease is None or not lease.damaged:
            continue
        unseen = survey is None or lease.damaged_ms > survey.as_of_ms
        open_ = bool(node.missing) and objects is not None and objects.full < objects.total
        if unseen or open_:
            many = figures.plural(lease.damaged, "fragment")
            text = f"{node.name}: {many} found damaged and quarantined, not rebuilt yet"
            reasons.append(Reason("SHARD_CORRUPT", text, "objstore damage list"))
    return reasons


def scrub_reasons(nodes: Sequence[NodeStatus], leases: Mapping[NodeId, NodeLease], now_ms: int) -> list[Reason]:
    reasons = []
    paused = []
    for node in nodes:
        lease = leases.get(NodeId(node.id))
        if lease is None or lease.scrub.state == "off":
            continue
        scrub = lease.scrub
        if scrub.state == "paused":
            paused.append(node.name)
        since_ms = scrub.last.finished_ms or scrub.since_ms
        if since_ms and now_ms - since_ms > SCRUB_LATE_MS:
            ago = figures.duration((now_ms - since_ms) / 1000)
            text = f"{node.name} was last read back completely {ago} ago"
            if not scrub.last.finished_ms:
                text = f"{node.name} was never read back completely, in {ago}"
            reasons.append(Reason("SCRUB_LATE", text, "objstore scrub status"))
    if paused:
        text = f"reading back is paused by an operator on {figures.plural(len(paused), 'node')}"
        reasons.append(Reason("SCRUB_PAUSED", text, "objstore scrub resume"))
    return reasons


def space_left(nodes: Sequence[NodeStatus], leases: Mapping[NodeId, NodeLease], code: ErasureCode) -> SpaceLeft:
    """Of what clients can still store whole; None where a node does not say, or where no node is left for a shard."""
    members = [leases.get(NodeId(node.id)) for node in nodes if node.state not in ("out", "spare")]
    used = sum(node.used_bytes or 0 for node in nodes)
    shards = sum(lease.used_bytes for node in nodes if (lease := leases.get(NodeId(node.id))))
    raw = sum(node.capacity_bytes for node in nodes if node.state not in ("out", "spare"))
    rooms = [lease.used_bytes + lease.room_bytes for lease in members if lease and lease.room_bytes is not None]
    if len(rooms) < len(members):
        return SpaceLeft(used, raw)
    rooms.sort(reverse=True)
    stored = shards * code.k // code.shards
    left, one_lost = (max(0, usable(some, code) - stored) for some in (rooms, rooms[1:]))
    return SpaceLeft(used, raw, left, one_lost if len(rooms) > code.shards else None)


def usable(rooms: Sequence[int], code: ErasureCode) -> int:
    """Bytes of clients that nodes with so much room can hold when each has at most one shard of a segment. `rooms`:
    largest first. Losing the largest node costs the most."""
    if len(rooms) < code.shards:
        return 0
    rest = sum(rooms)
    per_shard = rest
    for taken in range(code.shards):  # so many nodes have more room than they can be given shards
        per_shard = min(per_shard, rest // (code.shards - taken))
        rest -= rooms[taken]
    return per_shard * code.k


def quota_reasons(usage: UsageHead) -> list[Reason]:
    """Buckets with little or no room under their quotas."""
    if not usage.over_total:
        return []
    more = usage.over_total - len(usage.over)
    names = " ".join(usage.over) + (f" and {more:,} more" if more > 0 else "")
    verb = "has" if usage.over_total == 1 else "have"
    text = f"{names} {verb} used up the quota, or nearly"
    return [Reason("BUCKET_QUOTA", text, f"objstore bucket show {usage.over[0]}")]
