"""What to do about the cluster map next. Pure: a decision from the map and the health of its members.

A transition that has begun is finished before anything else (its next view cannot be taken back). Nodes that the
detector calls out leave their share to the handoff order; one that is steadily back takes it again, and one that
is back with an empty disk is replaced by itself under its new identity. Then come the plans of operators. A map under
recovery is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from objstore.cluster.detector import Health, Status
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, NodeLease
from objstore.model.ids import NodeId
from objstore.model.plan import Plan


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class MakeMap:
    """There is none yet."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a transition to the same layout with these nodes out."""

    out: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Start a transition to a layout in which the newcomer has the slots of the member that is out."""

    old: NodeId
    new: NodeLease


@dataclass(frozen=True, slots=True)
class Drop:
    """Start a transition after which this member, which has no share and no disk any more, is none."""

    gone: NodeId


@dataclass(frozen=True, slots=True)
class CarryOut:
    """Begin what an operator has planned, as soon as that is safe."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on with the transition in the map."""


TOGETHER_S = 2.0  # apart: nodes that fail within so long go out with one change of the layout

_NOT_JUDGED_YET = Health(Status.LATE, 0.0, 0.0)

Action: TypeAlias = Nothing | MakeMap | Begin | Replace | Drop | CarryOut | Continue


def decide(
    cluster_map: ClusterMap | None,
    health: Mapping[NodeId, Health],
    spares: Sequence[NodeLease] = (),
    plan: Plan | None = None,
) -> Action:
    """`spares`: live nodes that are no members. `plan`: what operators have staged, if anything."""
    if cluster_map is None:
        return MakeMap()
    if cluster_map.recovering:
        return Nothing()
    if cluster_map.next is not None:
        return Continue()
    replacement = namesake(cluster_map, health, spares)
    if replacement is not None:
        return replacement
    out = wanted_out(cluster_map, health)
    if out != cluster_map.current.out:
        return Begin(out)
    return CarryOut(plan) if plan is not None and plan.state != "staged" else Nothing()


def wanted_out(cluster_map: ClusterMap, health: Mapping[NodeId, Health]) -> tuple[NodeId, ...]:
    """Those that are out, as far as the rest can stand in for them; sorted.

    Nodes between up and out stay what they are. Those already out come first, so that a later failure does not
    bring an earlier one back. Members without a share need nobody to stand in for them.
    """
    already = cluster_map.newest.out
    candidates = [node for node in already if _status(health, node) is not Status.UP]
    for member in cluster_map.nodes:
        if member.id not in already and _status(health, member.id) is Status.OUT:
            candidates.append(member.id)
    layout = cluster_map.newest.layout
    placed = [node for node in candidates if node in layout.nodes]
    others = [node for node in candidates if node not in layout.nodes]
    return tuple(sorted([*placed[: room_for_out(cluster_map.code, layout)], *others]))


def more_out_soon(health: Mapping[NodeId, Health], out: Collection[NodeId], out_after_s: float) -> bool:
    """Whether another node is about to go out too: shards need not be rebuilt for a layout that lasts for a moment.

    Who should be out by now and is not, because it comes and goes, holds nobody up."""
    down = (found for node, found in health.items() if node not in out and found.status is Status.DOWN)
    return any(0.0 <= out_after_s - found.absent_s <= TOGETHER_S for found in down)


def namesake(
    cluster_map: ClusterMap, health: Mapping[NodeId, Health], spares: Sequence[NodeLease]
) -> Replace | Drop | None:
    """A node that came back under its name with an empty disk has a new identity: it takes over from the old one
    once that one is out, or nothing if that one had no share. Two processes of one name that both live are a mistake,
    and left alone."""
    for member in cluster_map.nodes:
        if _status(health, member.id) is Status.OUT:
            for lease in spares:
                if lease.name == member.name:
                    placed = member.id in cluster_map.newest.layout.nodes
                    return Replace(member.id, lease) if placed else Drop(member.id)
    return None


def room_for_out(code: ErasureCode, layout: Layout) -> int:
    """How many nodes may be out: more than that and nobody is left to stand in, neither for data nor metadata."""
    return max(0, len(layout.nodes) - min(code.shards, code.replicas))


def waiting_for(
    cluster_map: ClusterMap, health: Mapping[NodeId, Health], unanswered_s: Mapping[NodeId, float], out_after_s: float
) -> dict[NodeId, float]:
    """Members that do not answer but are not given up yet, and for how many more seconds.

    unanswered_s: for how long each member that does not answer us has not. One may still have its lease: then it
    is never declared out, but its shards are rebuilt elsewhere all the same.
    """
    left: dict[NodeId, float] = {}
    for member in cluster_map.nodes:
        if member.id not in unanswered_s:
            continue
        found = health.get(member.id, _NOT_JUDGED_YET)
        absent_s = max(found.absent_s, unanswered_s[member.id])
        given_up = found.status is Status.OUT or (found.status is Status.UP and absent_s >= out_after_s)
        if not given_up:
            left[member.id] = max(0.0, out_after_s - absent_s)
    return left


def _status(health: Mapping[NodeId, Health], node: NodeId) -> Status | None:
    found = health.get(node)
    return found.status if found else None
