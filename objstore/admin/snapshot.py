"""One function that turns everything known about a cluster at one moment into its `Status`. Pure.

Every screen and test gets its words from here, so they cannot contradict each other. The rule throughout:
never better than the truth. HEALTHY needs positive, fresh evidence for all of it; a node that does not answer
now is not up, whatever its lease says; a survey taken before the last change of anything proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from objstore.admin import figures, storage
from objstore.admin.codes import CODES
from objstore.admin.machines import machine_reasons, skews_s
from objstore.admin.status import NodeCondition, NodeStatus, ProcessStatus, Reason, Status, Verdict
from objstore.model.cluster import ClusterMap, GatewayLease, Node, NodeLease
from objstore.model.survey import ObjectCounts, RepairProgress, Survey, as_led, leader_of
from objstore.model.usage import BucketUse, UsageHead

VIEW_FRESH_MS = 5_000  # an older survey proves nothing
STALLED_MS = 120_000  # of repair without any progress
NOTIFY_FAILING_MS = 300_000  # a target that answers again before is not worth a word
VIEW_LOST_MS = 15_000  # ... and a still older one is not even a hint

Probe = Literal["answers", "silent", "refused"]  # silent: connected, or not, but no answer in time


class Observation(msgspec.Struct, frozen=True):
    """What was found. `probes`: by address, of nodes and gateways; an address not in it was not asked."""

    at_ms: int
    coordinator_error: str = ""  # why it could not be asked, or ""
    away_ms: int = 0  # for how long a node has not had an answer from it either; 0: it had one, or none was asked
    cluster_map: ClusterMap | None = None
    nodes: tuple[NodeLease, ...] = ()
    gateways: tuple[GatewayLease, ...] = ()
    repairers: tuple[GatewayLease, ...] = ()
    leader: str = ""  # id of a repairer
    survey: Survey | None = None
    probes: Mapping[str, Probe] = {}
    clocks: Mapping[str, int] = {}  # by address of a node: its clock minus ours, in ms
    usage: UsageHead | None = None  # what is in all buckets
    buckets: tuple[BucketUse, ...] = ()  # those that metrics are about
    local: bool = False  # a cluster of `objstore up`: its processes can be started with `objstore chaos`


def build(seen: Observation) -> Status:
    nodes = _nodes(seen)
    leases = {lease.id: lease for lease in seen.nodes}
    gateways = [_process(lease, seen.probes) for lease in seen.gateways]
    repairers = [_process(lease, {}) for lease in seen.repairers]
    cluster_map, leader = seen.cluster_map, leader_of(seen.leader, seen.repairers)
    survey = as_led(seen.survey, seen.leader, seen.repairers) if seen.survey is not None else None
    objects = survey.objects if survey else None
    reasons = _reasons(seen, nodes, gateways)
    is_stale = any(reason.code == "VIEW_STALE" for reason in reasons)
    reasons += _data_reasons(survey, objects, nodes, seen.at_ms, is_stale=is_stale)
    if cluster_map is not None:
        reasons += storage.full_reasons(nodes, leases, cluster_map.code)
        reasons += storage.damage_reasons(nodes, leases, survey, objects)
        reasons += storage.scrub_reasons(nodes, leases, seen.at_ms)
    if seen.usage is not None:
        reasons += storage.quota_reasons(seen.usage)
    reasons = [_completed(reason, seen) for reason in reasons]
    can_lose = _can_lose(seen, nodes)
    verdict = _verdict(reasons, objects, can_lose)
    return Status(
        verdict=verdict,
        summary=_summary(verdict, seen, nodes, can_lose, {reason.code for reason in reasons}),
        at_ms=seen.at_ms,
        as_of_ms=survey.as_of_ms if survey else None,
        cluster_id=cluster_map.cluster_id if cluster_map else "",
        code=str(cluster_map.code) if cluster_map else "",
        epoch=cluster_map.newest.epoch if cluster_map else 0,
        can_lose=can_lose,
        nodes=nodes,
        objects=objects,
        redundancy=survey.redundancy if survey else [],
        repair=survey.repair if survey else None,
        gateways=gateways,
        repairers=repairers,
        leader=leader.name if leader else None,
        reasons=reasons,
        events=survey.events if survey else [],
        receipt=survey.receipt if survey else None,
        receipts=survey.receipts if survey else [],
        space=storage.space_left(nodes, leases, cluster_map.code) if cluster_map else None,
    )


# --- nodes and processes ------------------------------------------------------------------------------------


def _nodes(seen: Observation) -> list[NodeStatus]:
    leases = {lease.id: lease for lease in seen.nodes}
    skews = skews_s(seen.nodes, seen.clocks)
    members: tuple[Node, ...] = seen.cluster_map.nodes if seen.cluster_map else ()
    known = {node.id for node in members}
    found = [_node(node, leases.get(node.id), seen) for node in members]
    found += [
        _node(Node(lease.id, lease.name, lease.zone, lease.capacity_bytes), lease, seen)
        for lease in seen.nodes
        if lease.id not in known
    ]
    found = [msgspec.structs.replace(node, clock_skew_s=skews.get(node.id)) for node in found]
    return sorted(found, key=lambda node: (_natural(node.name), node.state == "spare", node.id))


def _node(node: Node, lease: NodeLease | None, seen: Observation) -> NodeStatus:
    surveyed = seen.survey.nodes.get(node.id) if seen.survey else None
    return NodeStatus(
        name=node.name,
        id=node.id,
        state=_node_state(node, lease, seen),
        zone=node.zone,
        used_bytes=lease.held_bytes if lease else None,
        capacity_bytes=lease.capacity_bytes if lease else node.capacity_bytes,
        address=lease.address if lease else "",
        missing=surveyed.missing if surveyed else None,
        version=lease.version if lease else "",
        pid=lease.pid if lease else 0,
        level=lease.level if lease else "ok",
        damaged=lease.damaged if lease else 0,
        scrub=lease.scrub if lease else None,
        share=seen.cluster_map is not None and node.id in seen.cluster_map.newest.layout.nodes,
    )


def _node_state(node: Node, lease: NodeLease | None, seen: Observation) -> NodeCondition:
    cluster_map = seen.cluster_map
    if cluster_map and node.id in cluster_map.newest.out:
        return "out"
    if lease is None:
        return "down"
    probe = seen.probes.get(lease.address, "silent")
    if probe == "refused":
        return "down"
    if probe == "silent":
        return "late"
    return "up" if cluster_map and any(node.id == member.id for member in cluster_map.nodes) else "spare"


def _process(lease: GatewayLease, probes: Mapping[str, Probe]) -> ProcessStatus:
    up = probes.get(lease.address, "answers") == "answers"
    return ProcessStatus(lease.name, lease.id, "up" if up else "down", lease.address, lease.pid)


def _natural(name: str) -> tuple[str, int]:
    """n2 before n10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


# --- why --------------------------------------------------------------------------------------------------------


def _reasons(seen: Observation, nodes: list[NodeStatus], gateways: list[ProcessStatus]) -> list[Reason]:
    if seen.coordinator_error:
        since = f" since {figures.duration(seen.away_ms / 1000)}" if seen.away_ms else ""
        text = (
            f"the coordinator cannot be asked: {seen.coordinator_error}. Reads and writes go on; "
            f"the topology is frozen{since}: membership and repair stand still"
        )
        return [Reason("COORDINATOR_DOWN", text, "objstore chaos start c1")]
    cluster_map = seen.cluster_map
    if cluster_map is None:
        if formerly := [lease.name for lease in seen.nodes if lease.has_former_life]:
            names = " ".join(sorted(formerly, key=_natural))
            text = f"the cluster map was lost; {names} hold data of this cluster; start every node first"
            return [Reason("METADATA_LOST", text, "objstore recover")]
        return [Reason("CLUSTER_FORMING", f"no cluster map yet: {figures.plural(len(nodes), 'node')} registered")]
    reasons = _recovery_reasons(seen, cluster_map)
    reasons += _node_reasons(nodes, cluster_map, index_is_lost=bool(reasons))
    if not any(gateway.state == "up" for gateway in gateways):
        reasons.append(Reason("GATEWAY_DOWN", "no gateway answers: clients cannot connect", "objstore chaos start g1"))
    if cluster_map.next is not None:
        synced = sum(cluster_map.is_synced(p) for p in range(cluster_map.partitions))
        progress = figures.percent(synced, cluster_map.partitions)
        reasons.append(Reason("METADATA_SYNC", f"metadata move to layout {cluster_map.next.epoch}: {progress}"))
    reasons += machine_reasons(seen.nodes, (*seen.gateways, *seen.repairers), seen.clocks)
    reasons += _notify_reasons(seen.survey, seen.at_ms)
    return reasons + _view_reasons(seen, cluster_map)


def _completed(reason: Reason, seen: Observation) -> Reason:
    """With its severity, and something to type: `objstore chaos` is for clusters of `objstore up` alone."""
    code = CODES[reason.code]
    is_for_local = reason.next.startswith("objstore chaos")
    return Reason(
        reason.code,
        reason.text,
        reason.next if reason.next and (seen.local or not is_for_local) else code.next,
        code.severity,
    )


def _recovery_reasons(seen: Observation, cluster_map: ClusterMap) -> list[Reason]:
    """Metadata that repair alone cannot bring back. A few nodes that lost their index are taken in again by it."""
    if cluster_map.recovering:
        text = "a recovery of the metadata has begun and is not finished: no request can be answered before"
        return [Reason("RECOVERY_UNFINISHED", text, "objstore recover --yes")]
    alive = {lease.id for lease in seen.nodes}
    placed = cluster_map.newest.layout.nodes
    gone = {node.name for node in cluster_map.nodes if node.id not in alive and node.id in placed}
    back = sorted((lease.name for lease in seen.nodes if lease.lost and lease.name in gone), key=_natural)
    if not back or len(gone) <= cluster_map.code.m:
        return []
    limit = f"EC {cluster_map.code} survives {cluster_map.code.m} losses"
    text = f"{' '.join(back)} lost the metadata index, but {limit}: requests fail; start every node first"
    return [Reason("METADATA_LOST", text, "objstore recover")]


def _node_reasons(nodes: list[NodeStatus], cluster_map: ClusterMap, *, index_is_lost: bool) -> list[Reason]:
    """`index_is_lost`: it was said already why nothing works, and of which nodes."""
    reasons = []
    spares = {node.name for node in nodes if node.state == "spare"}
    for node in nodes:
        where = f"{node.name} (zone {node.zone})"
        if node.state == "down" and node.name in spares and not node.address:
            text = f"{where} is back without its metadata index: another, empty node now, that takes its place"
            if not index_is_lost:
                reasons.append(Reason("NODE_DOWN", text))
        elif node.state == "down":
            text = f"{where} does not answer" if node.address else f"{where} has gone silent: its lease has ended"
            reasons.append(Reason("NODE_DOWN", text, f"objstore chaos start {node.name}"))
        elif node.state == "late":
            text = f"{where} holds a lease, but does not answer in time"
            reasons.append(Reason("NODE_LATE", text, f"objstore chaos resume {node.name}"))
        elif node.state == "out" and node.name in spares:
            text = f"{where} was given up; the one that now has its name is another, empty node: a spare"
            reasons.append(Reason("NODE_OUT", text))
        elif node.state == "out" and not node.share:
            text = f"{where} was drained, and does not answer; gone for good?"
            reasons.append(Reason("NODE_OUT", text, f"objstore node remove {node.name}"))
        elif node.state == "out":
            text = f"{where} was given up; its data belong to the others until it is back"
            reasons.append(Reason("NODE_OUT", text, f"objstore chaos start {node.name}"))
    gone = [node.name for node in nodes if node.state in ("down", "late") and node.share]
    if len(gone) > cluster_map.code.m and not index_is_lost:
        limit = f"EC {cluster_map.code} survives {cluster_map.code.m}"
        text = f"{' '.join(gone)} do not answer, but {limit}: some requests fail"
        reasons.insert(0, Reason("QUORUM_LOST", text, f"objstore chaos start {gone[0]}"))
    up = sum(node.state == "up" and node.share for node in nodes)
    if len(gone) <= cluster_map.code.m and up <= cluster_map.code.k:
        needed = f"{up} nodes answer, and a write needs {cluster_map.code.k + 1}"
        text = f"{needed}: reads go on, but only small objects can be written"
        reasons.insert(0, Reason("WRITE_QUORUM_LOST", text))
    return reasons


def _view_reasons(seen: Observation, cluster_map: ClusterMap) -> list[Reason]:
    """Whether the survey is about now."""
    reasons = []
    if not seen.leader:
        text = "no repairer is in charge" + ("" if seen.repairers else ": none runs")
        reasons.append(Reason("REPAIRER_DOWN", text, "" if seen.repairers else "objstore chaos start r1"))
    survey = seen.survey
    if survey is None:
        reasons.append(Reason("VIEW_STALE", "the repairer has not looked at the data yet"))
        return reasons
    age_ms = seen.at_ms - survey.as_of_ms
    changed_ms = max((lease.started_ms for lease in seen.nodes), default=0)
    if age_ms > VIEW_FRESH_MS:
        text = f"the repairer last looked at the data {figures.duration(age_ms / 1000)} ago"
        reasons.append(Reason("VIEW_STALE", text))
    elif survey.epoch != cluster_map.newest.epoch or survey.as_of_ms < changed_ms:
        reasons.append(Reason("VIEW_STALE", "the repairer has not looked at the data since the last change of nodes"))
    return reasons


def _data_reasons(
    survey: Survey | None, objects: ObjectCounts | None, nodes: list[NodeStatus], at_ms: int, *, is_stale: bool
) -> list[Reason]:
    if survey is None or objects is None:
        return []
    reasons = []
    if objects.unreadable:
        text = f"{figures.plural(objects.unreadable, 'object')} cannot be read now"
        if any(node.state in ("late", "down", "out") for node in nodes):
            next_step = "start the nodes that are down"
        elif is_stale:
            text = f"{figures.plural(objects.unreadable, 'object')} could not be read when the repairer last looked"
            next_step = "wait until it has looked again"
        else:
            next_step = "too many shards are damaged: restore or delete them"
        reasons.append(Reason("OBJECT_UNREADABLE", text, next_step))
    if low := objects.reduced + objects.minimum:
        share = figures.percent(low, objects.total)
        text = f"{figures.count(low)} of {figures.plural(objects.total, 'object')} ({share}) miss a shard"
        if objects.minimum:
            text += f"; {figures.count(objects.minimum)} have none to spare"
        reasons.append(Reason("REDUNDANCY_LOW", text, "objstore watch"))
    repair = survey.repair
    if repair.state in ("blocked", "failed", "paused"):
        why = repair.reason or "no reason was given"
        text = f"repair is {why}" if why.startswith(f"{repair.state} ") else f"repair is {repair.state}: {why}"
        reasons.append(Reason(f"REPAIR_{repair.state.upper()}", text))
    if _is_stalled(repair, at_ms):
        since = figures.duration((at_ms - repair.started_ms) / 1000)
        reasons.append(Reason("REPAIR_STALLED", f"repair is {repair.state} since {since}, and gets nothing done"))
    if repair.failed:
        reasons.append(Reason("REPAIR_ERRORS", f"{figures.plural(repair.failed, 'item')} could not be repaired"))
    return reasons


def _notify_reasons(survey: Survey | None, at_ms: int) -> list[Reason]:
    failing = [
        target
        for target in (survey.notify if survey is not None else ())
        if target.failing_since_ms and at_ms - target.failing_since_ms > NOTIFY_FAILING_MS
    ]
    return [
        Reason(
            "NOTIFY_FAILING",
            f"target {target.name} takes no event notifications since "
            f"{figures.duration((at_ms - target.failing_since_ms) / 1000)}: {target.reason}; "
            f"{figures.plural(target.pending, 'event')} wait",
        )
        for target in failing
    ]


def _is_stalled(repair: RepairProgress, at_ms: int) -> bool:
    """It is at work on objects, and finished none lately: rates are those of the last seconds."""
    works = repair.state in ("running", "throttled") and repair.done < repair.total and repair.started_ms > 0
    return works and at_ms - repair.started_ms > STALLED_MS and repair.bytes_per_s == 0 == repair.items_per_s


# --- the verdict --------------------------------------------------------------------------------------------


def _can_lose(seen: Observation, nodes: list[NodeStatus]) -> int | None:
    """The survey's figure, lowered by nodes that are gone and may not have been counted in it yet."""
    if seen.coordinator_error or seen.cluster_map is None or seen.survey is None:
        return None
    if seen.at_ms - seen.survey.as_of_ms > VIEW_LOST_MS:
        return None
    gone = sum(node.state in ("down", "late") for node in nodes)
    return min(seen.survey.can_lose, seen.cluster_map.code.m - gone)


_FAILING = frozenset({
    "METADATA_LOST", "RECOVERY_UNFINISHED", "QUORUM_LOST", "WRITE_QUORUM_LOST", "CLUSTER_FULL", "GATEWAY_DOWN",
})  # fmt: skip
_READS_GO_ON = frozenset({"WRITE_QUORUM_LOST", "CLUSTER_FULL"})


def _verdict(reasons: list[Reason], objects: ObjectCounts | None, can_lose: int | None) -> Verdict:
    codes = {reason.code for reason in reasons}
    if codes & {"COORDINATOR_DOWN", "CLUSTER_FORMING"}:
        return "UNKNOWN"
    if codes & _FAILING:
        return "UNAVAILABLE"
    if objects is not None and objects.unreadable:
        return "AT_RISK"
    if can_lose is None:
        return "UNKNOWN"
    if can_lose <= 0:
        return "AT_RISK"
    return "DEGRADED" if any(reason.severity != "info" for reason in reasons) else "HEALTHY"


def _summary(
    verdict: Verdict, seen: Observation, nodes: list[NodeStatus], can_lose: int | None, codes: set[str]
) -> str:
    cluster_map = seen.cluster_map
    if cluster_map is None:
        if seen.coordinator_error:
            return "coordinator unreachable"
        return "the cluster map was lost" if verdict == "UNAVAILABLE" else "the cluster is forming"
    members = [node for node in nodes if node.state != "spare"]
    up = sum(node.state == "up" for node in members)
    parts = [
        f"EC {cluster_map.code}",
        figures.plural(len(members), "node") + (f" ({up} up)" if up < len(members) else ""),
    ]
    if can_lose is None:
        parts.append("redundancy not known now")
    elif can_lose < 0:
        parts.append("more nodes are gone than it can lose")
    elif verdict == "UNAVAILABLE":
        parts.append("reads go on, writes fail" if codes & _FAILING <= _READS_GO_ON else "not serving")
    elif can_lose == 0:
        parts.append("can lose no further node")
    else:
        parts.append(
            f"can lose {can_lose}{'' if up == len(members) else ' more'} {'node' if can_lose == 1 else 'nodes'}"
        )
    return " · ".join(parts)
