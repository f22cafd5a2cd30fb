"""What an operator does to the members of a cluster: stage changes, look at the plan, discard or apply it.

Nothing here moves anything. The plan is one record in the coordinator (`model/plan.py`); applied, it is carried out by
the repairer that leads (`repair/planning.py`). No locks: whoever changes the plan, or the map that it was shown
against, makes a later `apply` with the old revision fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from objstore.cluster.port import MAP_KEY, NODES, PLAN_KEY, Coordinator
from objstore.cluster.surveys import read_survey
from objstore.model.cluster import ClusterMap, NodeLease, decode_map, decode_node_lease
from objstore.model.errors import Conflict, InvalidRequest, Unavailable
from objstore.model.ids import NodeId
from objstore.model.plan import Change, Plan, decode_plan, encode_plan, merged
from objstore.model.survey import Survey
from objstore.placement.preview import Preview, preview
from objstore.placement.safety import Evidence, Refusal, overfull, refusals
from objstore.placement.target import Target, target

log = logging.getLogger(__name__)

FRESH_WITHIN_S = 15.0  # a repairer that looks at the data does so within this
_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Outlook:
    """The cluster and its plan as they are in the coordinator."""

    map: ClusterMap
    leases: Mapping[NodeId, NodeLease]
    plan: Plan | None
    revision: int  # of the plan and of the map: whichever changed last
    plan_revision: int  # 0 = there is none
    survey: Survey | None

    @property
    def used(self) -> dict[NodeId, int]:
        return {node: lease.used_bytes for node, lease in self.leases.items()}


@dataclass(frozen=True, slots=True)
class Judged:
    """Where a plan leads, what it moves, and why it may not be applied now."""

    to: Target
    preview: Preview
    refusals: list[Refusal]


async def look(coordinator: Coordinator) -> Outlook:
    """Unavailable while there is no cluster map."""
    entry = await coordinator.get(MAP_KEY)
    if entry is None:
        raise Unavailable("the cluster has no map yet: wait until its nodes have registered (objstore status)")
    plan = await coordinator.get(PLAN_KEY)
    return Outlook(
        decode_map(entry.value),
        await read_leases(coordinator),
        _plan_of(plan.value) if plan is not None else None,
        max(entry.revision, plan.revision if plan is not None else 0),
        plan.revision if plan is not None else 0,
        await read_survey(coordinator),
    )


async def read_leases(coordinator: Coordinator) -> dict[NodeId, NodeLease]:
    """Those that can be read; another version's are skipped."""
    entries, _ = await coordinator.range(NODES)
    leases: dict[NodeId, NodeLease] = {}
    for entry in entries:
        try:
            leases[NodeId(entry.key.removeprefix(NODES))] = decode_node_lease(entry.value)
        except msgspec.DecodeError as error:
            log.error("the lease %s cannot be read: %s", entry.key, error)
    return leases


def judge(seen: Outlook, changes: tuple[Change, ...]) -> Judged:
    """InvalidRequest when the changes do not fit the cluster."""
    to = target(seen.map, changes, seen.leases)
    settled = msgspec.structs.replace(seen.map, current=seen.map.newest, next=None, synced=b"")
    shown = preview(settled, to, seen.used)
    found = refusals(seen.map, changes, to, Evidence(seen.leases, seen.survey))
    return Judged(to, shown, [*found, *overfull(shown)])


async def stage(coordinator: Coordinator, change: Callable[[Outlook], Change], new_id: Callable[[], str]) -> Outlook:
    """Add a change to the plan, in the place of earlier ones about the same node. `change`: what the operator wants,
    in terms of the cluster as it is. InvalidRequest if it does not fit; Conflict while a plan is being carried out."""
    while True:
        seen = await look(coordinator)
        _must_be_open(seen)
        done = seen.plan is not None and seen.plan.id == seen.map.plan
        before = seen.plan.changes if seen.plan is not None and not done else ()
        changes = merged(before, change(seen))
        target(seen.map, changes, seen.leases)
        plan = Plan(new_id(), changes)
        revision = await coordinator.put(PLAN_KEY, encode_plan(plan), expected=seen.plan_revision)
        if revision is not None:
            return await look(coordinator)


async def discard(coordinator: Coordinator) -> bool:
    """False: there was nothing to discard. Conflict once it has begun."""
    while True:
        entry = await coordinator.get(PLAN_KEY)
        if entry is None:
            return False
        with contextlib.suppress(InvalidRequest):  # what cannot be read can be discarded all the same
            if _plan_of(entry.value).state == "begun":
                raise Conflict("the plan has begun and is carried out: it cannot be discarded any more")
        if await coordinator.delete(PLAN_KEY, expected=entry.revision):
            return True


async def apply(coordinator: Coordinator, seen: Outlook, *, forced: bool) -> None:
    """Hand the plan, as it was seen and judged, to the repairer. Conflict if it or the map has changed since."""
    plan = seen.plan
    assert plan is not None
    entry = await coordinator.get(MAP_KEY)
    if entry is None or entry.revision > seen.revision:
        raise Conflict("the cluster map has changed meanwhile: look again with objstore plan show")
    applied = msgspec.structs.replace(plan, state="applied", forced=forced)
    if await coordinator.put(PLAN_KEY, encode_plan(applied), expected=seen.plan_revision) is None:
        raise Conflict("the plan has been changed meanwhile: look again with objstore plan show")


async def fresh(coordinator: Coordinator, seen: Outlook, within_s: float = FRESH_WITHIN_S) -> Outlook:
    """With a survey whose look ended after this call, or none: then nobody looks at the data.

    By its stamp having changed, not by its age: the clocks of two machines say nothing about each other."""
    stamp = seen.survey.as_of_ms if seen.survey is not None else None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while loop.time() < deadline:
        survey = await read_survey(coordinator)
        if survey is not None and survey.as_of_ms != stamp and survey.epoch == seen.map.newest.epoch:
            return _with_survey(seen, survey)
        await asyncio.sleep(_TICK_S)
    return _with_survey(seen, None)


def _with_survey(seen: Outlook, survey: Survey | None) -> Outlook:
    return Outlook(seen.map, seen.leases, seen.plan, seen.revision, seen.plan_revision, survey)


def _must_be_open(seen: Outlook) -> None:
    if seen.plan is not None and seen.plan.state != "staged" and seen.plan.id != seen.map.plan:
        raise Conflict(
            "a plan has been applied and waits to begin: objstore plan show says why; "
            "wait, or give it up with objstore plan discard"
        )
    if seen.map.recovering:
        raise InvalidRequest("a recovery of the metadata is under way; finish it with: objstore recover --yes")


def _plan_of(raw: bytes) -> Plan:
    try:
        return decode_plan(raw)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the plan cannot be read ({error}): discard it with objstore plan discard") from None
