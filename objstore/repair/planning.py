"""Carrying out what an operator has applied: when it may begin, and that it begins at most once (INV-17).

The command that applies a plan only says so in the coordinator; the leading repairer does the rest, so that it makes no
difference who dies when. The steps, each a compare-and-swap:

    applied -> begun    of the record; from here on it cannot be discarded
    the map             gets `next`, and the id of the plan with it
    the record goes     seen by the id in the map, so that the next leader does it if this one dies before

Whether it is safe was judged by the command already, but time has passed: it is judged again, by a look at the data
that began after the plan was found. What was safe and is not any more waits, and may be discarded again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from objstore.cluster.port import PLAN_KEY, Coordinator
from objstore.model.cluster import ClusterMap, NodeLease
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.plan import Plan, decode_plan, describe, encode_plan
from objstore.model.survey import Survey
from objstore.placement.preview import planned_map
from objstore.placement.safety import Evidence, refusals
from objstore.placement.target import Target, target
from objstore.ports import Clock
from objstore.repair.transition import Step, Transition, Versioned

log = logging.getLogger(__name__)

SurveySince = Callable[[float], Survey | None]  # of a look that began after that moment (monotonic)


class Planning:
    """One per term."""

    def __init__(self, coordinator: Coordinator, transition: Transition, clock: Clock) -> None:
        self.waits = ""  # why the applied plan does not begin
        self._coordinator = coordinator
        self._transition = transition
        self._clock = clock
        self._revision = 0  # of the record as last read
        self._found: tuple[str, float] = ("", 0.0)  # the applied plan, and when it was found

    async def read(self, now: ClusterMap) -> Plan | None:
        """What operators have staged; the record of a plan that has been carried out is removed."""
        entry = await self._coordinator.get(PLAN_KEY)
        if entry is None:
            self.waits = ""
            return None
        try:
            plan = decode_plan(entry.value)
        except msgspec.DecodeError as error:
            log.error("the plan cannot be read and is left aside: %s", error)
            return None
        if plan.id == now.plan:
            await self._coordinator.delete(PLAN_KEY, expected=entry.revision)
            self.waits = ""
            return None
        self._revision = entry.revision
        if plan.state == "staged":
            self.waits = ""
        elif self._found[0] != plan.id:
            self._found = (plan.id, self._clock.monotonic())
        return plan

    async def carry_out(
        self, now: Versioned, plan: Plan, leases: Mapping[NodeId, NodeLease], survey_since: SurveySince
    ) -> Step:
        """Call it again until the map has changed."""
        to, why = self._judge(now.map, plan, leases, survey_since)
        if to is None or why:
            self.waits = why
            if plan.state == "begun":  # not published yet, or it would be known by its id
                await self._set(msgspec.structs.replace(plan, state="applied"))
            return Step(now)
        self.waits = ""
        if plan.state == "applied" and not await self._set(msgspec.structs.replace(plan, state="begun")):
            return Step(now)  # it was discarded, or another leader is at it
        planned = planned_map(now.map, to)
        assert planned.next is not None
        draft = msgspec.structs.replace(planned, next=None, plan=plan.id, leaving=_leaving(now.map, to))
        step = await self._transition.publish(now, draft, planned.next.layout, planned.next.out)
        if step.now.revision != now.revision:
            log.info("the plan begins: %s", ", ".join(map(describe, plan.changes)))
        return step

    def _judge(
        self, now: ClusterMap, plan: Plan, leases: Mapping[NodeId, NodeLease], survey_since: SurveySince
    ) -> tuple[Target | None, str]:
        """(where it leads, why it must not begin now)."""
        survey = survey_since(self._found[1])
        if survey is None:
            return None, "the data are looked at again first"
        try:
            to = target(now, plan.changes, leases)
        except InvalidRequest as error:
            return None, f"{error}; give it up with: objstore plan discard"
        for refusal in refusals(now, plan.changes, to, Evidence(leases, survey)):
            if not (refusal.can_force and plan.forced):
                return to, refusal.text
        return to, ""

    async def _set(self, plan: Plan) -> bool:
        revision = await self._coordinator.put(PLAN_KEY, encode_plan(plan), expected=self._revision)
        if revision is None:
            return False
        self._revision = revision
        return True


def _leaving(now: ClusterMap, to: Target) -> tuple[NodeId, ...]:
    kept = {node.id for node in to.nodes}
    return tuple(sorted(node.id for node in now.nodes if node.id not in kept))
