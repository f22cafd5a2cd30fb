"""Whether staged changes may be carried out now, and what is at risk. Pure.

A change of the layout by itself loses nothing: shards are copied, verified and only then removed (INV-7), so it is
allowed while things are broken where it helps to mend them (more nodes, a new node for a dead one). Refused is

- what takes a living node's share while some object has nothing to spare: repair comes first;
- what takes a member out of the cluster that still holds something, or whose shards nobody else has (INV-17);
- what leaves fewer nodes or zones than the code needs;
- anything while another change is under way, or when nobody knows how redundant the data is.

Each refusal says whether an operator who accepts the loss of data may override it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from objstore.model.cluster import ClusterMap, NodeLease
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Change, Drain, Remove, Replace
from objstore.model.survey import Survey
from objstore.placement.layout import quality
from objstore.placement.preview import Preview
from objstore.placement.target import Target, is_placed

FILL_MAX = 0.95  # of a node after the change; from there on repair could not finish it


class Evidence(NamedTuple):
    """What is known now. `survey` is of a look that began lately, or None: then nobody knows."""

    leases: Mapping[NodeId, NodeLease]
    survey: Survey | None

    @property
    def alive(self) -> Collection[NodeId]:
        return self.leases.keys()


class Refusal(msgspec.Struct, frozen=True):
    text: str
    can_force: bool


def refusals(cluster_map: ClusterMap, changes: Sequence[Change], to: Target, seen: Evidence) -> list[Refusal]:
    """Why it must not begin now; [] when it may."""
    found = _under_way(cluster_map)
    found += _twice(cluster_map, seen)
    for change in changes:
        match change:
            case Add() if change.id not in seen.alive:
                found.append(Refusal(f"{change.name} does not run: start it before it gets a share", False))
            case Replace() if change.new not in seen.alive:
                found.append(Refusal(f"{change.new_name} does not run: start it before it replaces another", False))
            case Drain() if change.id not in seen.alive:
                text = f"{change.name} does not run, so nothing can be copied from it"
                found.append(Refusal(f"{text}: replace it, or start it, or remove it once repair is done", False))
            case Remove():
                found += _removal(cluster_map, change, seen)
    found += _redundancy(changes, seen)
    found += _room(cluster_map, changes, to, seen)
    return found


def overfull(shown: Preview) -> list[Refusal]:
    full = [node for node in shown.nodes if node.bytes_in and node.fill_after > FILL_MAX]
    return [
        Refusal(f"{node.name} would be {node.fill_after:.0%} full: add nodes, or delete objects first", True)
        for node in full
    ]


def _under_way(cluster_map: ClusterMap) -> list[Refusal]:
    if cluster_map.recovering:
        return [Refusal("a recovery of the metadata is under way: objstore recover --yes finishes it", False)]
    if cluster_map.next is not None:
        return [Refusal(f"the change to layout {cluster_map.next.epoch} is still under way: wait for its end", False)]
    return []


def _twice(cluster_map: ClusterMap, seen: Evidence) -> list[Refusal]:
    """Two processes of one name that both live. A member that is gone may have its name taken over."""
    names: dict[str, NodeId] = {}
    twice = set()
    for lease in seen.leases.values():
        if names.setdefault(lease.name, lease.id) != lease.id:
            twice.add(lease.name)
    return [
        Refusal(f"two live processes are called {name}: give each its own node.name and restart it", False)
        for name in sorted(twice)
    ]


def _removal(cluster_map: ClusterMap, change: Remove, seen: Evidence) -> list[Refusal]:
    """INV-17: a member leaves the map only when it holds nothing that is needed."""
    survey, name = seen.survey, change.name
    if change.id in seen.alive:
        if is_placed(cluster_map, change.id):
            return [Refusal(f"{name} has a share of the data: objstore node drain {name}, and wait until empty", False)]
        held = survey.nodes.get(change.id) if survey is not None else None
        if survey is None or survey.epoch != cluster_map.newest.epoch or held is None or held.needed < 0:
            return [Refusal(f"it is not known yet what {name} still holds: wait for the repairer's next look", True)]
        if held.needed:
            return [Refusal(f"{name} still holds {_count(held.needed, 'fragment')} that are needed: wait", True)]
        return []
    if survey is None:
        return [Refusal(f"{name} is gone, and it is not known whether its shards exist elsewhere", True)]
    low = survey.objects.total - survey.objects.full
    if low:
        text = f"{name} is gone, and {_count(low, 'object')} of {survey.objects.total:,} are not at full redundancy"
        return [Refusal(f"{text}: wait for repair, or start {name} again", True)]
    if survey.damaged_parts:
        text = f"{name} is gone, and {_count(survey.damaged_parts, 'part')} of open uploads are not at full redundancy"
        return [Refusal(f"{text}: wait for repair, or start {name} again", True)]
    return []


def _redundancy(changes: Sequence[Change], seen: Evidence) -> list[Refusal]:
    """No living node is relieved of its share while an object is at its minimum or below."""
    leaving = [c.name for c in changes if isinstance(c, Drain | Replace) and c.id in seen.alive]
    if not leaving:
        return []
    survey = seen.survey
    if survey is None:
        return [Refusal("it is not known how redundant the data is: is a repairer running? (objstore status)", True)]
    low = survey.objects.minimum + survey.objects.unreadable
    if not low:
        return []
    verb = "has" if low == 1 else "have"
    text = f"{_count(low, 'object')} {verb} no shard to spare, and {' '.join(leaving)} may be needed to repair them"
    return [Refusal(f"{text}: wait for repair (objstore watch)", True)]


def _room(cluster_map: ClusterMap, changes: Sequence[Change], to: Target, seen: Evidence) -> list[Refusal]:
    """Fewer nodes: enough of them must live. Zones: what survived the loss of one must go on to do so."""
    found = []
    code, current = cluster_map.code, cluster_map.current.layout
    live = sum(node in seen.alive for node in to.layout.nodes)
    fewer = live < sum(node in seen.alive for node in current.nodes)
    if fewer and live < code.nodes_min:
        text = f"of the nodes that would be left only {live} run, but EC {code} needs {code.nodes_min}"
        found.append(Refusal(f"{text}: start or add nodes first", True))
    if to.layout is not current and any(isinstance(change, Drain | Remove | Replace) for change in changes):
        before = quality(current, cluster_map.nodes).data.zone_worst
        after = quality(to.layout, to.nodes).data.zone_worst
        if before <= code.m < after:
            text = f"{after} shards of an object could be in one zone, but EC {code} survives the loss of {code.m}"
            found.append(Refusal(f"{text}: today's nodes survive the loss of a zone, those left would not", True))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
