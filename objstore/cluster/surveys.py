"""The repairers' view of the data, as the coordinator keeps it and as it holds now that its writer may be gone."""

from __future__ import annotations

import logging

import msgspec

from objstore.cluster.port import REPAIR_LEADER_KEY, REPAIRERS, SURVEY_KEY, Coordinator
from objstore.model.cluster import GatewayLease, decode_gateway_lease
from objstore.model.survey import Survey, as_led, decode_survey

log = logging.getLogger(__name__)


async def read_survey(coordinator: Coordinator) -> Survey | None:
    """None while nobody has looked at the data, or if what is kept is of another version."""
    entry = await coordinator.get(SURVEY_KEY)
    if entry is None:
        return None
    try:
        survey = decode_survey(entry.value)
    except msgspec.DecodeError as error:
        log.error("the survey cannot be read: %s", error)
        return None
    leader = await coordinator.get(REPAIR_LEADER_KEY)
    name = leader.value.decode(errors="replace") if leader is not None else ""
    return as_led(survey, name, await _repairers(coordinator))


async def _repairers(coordinator: Coordinator) -> list[GatewayLease]:
    entries, _ = await coordinator.range(REPAIRERS)
    found: list[GatewayLease] = []
    for entry in entries:
        try:
            found.append(decode_gateway_lease(entry.value))
        except msgspec.DecodeError as error:
            log.error("the lease %s cannot be read (%s); another version of objstore?", entry.key, error)
    return found
