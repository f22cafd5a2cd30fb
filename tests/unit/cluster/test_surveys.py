"""The survey as tools read it: what a repairer said that is gone does not hold any more."""

from __future__ import annotations

import pytest

from objstore.adapters.clock import SystemClock
from objstore.cluster.port import REPAIR_LEADER_KEY, REPAIRERS, SURVEY_KEY
from objstore.cluster.store import CoordinatorStore
from objstore.cluster.surveys import read_survey
from objstore.model.cluster import GatewayLease, encode_lease
from objstore.model.survey import RepairProgress, Survey, encode_survey
from tests.sim.coordinator import LocalCoordinator
from tests.sim.loop import run

AT_WORK = RepairProgress("running", done=3, total=10, bytes_per_s=2e7, items_per_s=40.0, eta_s=5.0)
FIRST, SECOND = GatewayLease("q1", "r1", "", 500, "1"), GatewayLease("q2", "r2", "", 600, "1")


def read(*repairers: GatewayLease, leader: str, raw: bytes | None = None) -> Survey | None:
    async def main() -> Survey | None:
        store = LocalCoordinator(CoordinatorStore(), SystemClock())
        survey = Survey(leader="r1", as_of_ms=1000, epoch=1, code="4+2", repair=AT_WORK)
        await store.put(SURVEY_KEY, encode_survey(survey) if raw is None else raw)
        await store.put(REPAIR_LEADER_KEY, leader.encode())
        await store.put(REPAIRERS + "damaged", b"\xff")
        for one in repairers:
            await store.put(REPAIRERS + one.id, encode_lease(one))
        return await read_survey(store)

    return run(main, 1)[0]


@pytest.mark.parametrize("leader", ["r1", "q1"])
def test_of_the_repairer_that_leads_it_is_as_it_said(leader: str) -> None:
    found = read(FIRST, SECOND, leader=leader)
    assert found is not None and found.repair == AT_WORK


@pytest.mark.parametrize(("leader", "reason"), [("r2", "r2 has taken over"), ("", "r1, which was at work, is gone")])
def test_of_another_it_is_how_far_it_was(leader: str, reason: str) -> None:
    found = read(SECOND, leader=leader)
    assert found is not None
    repair = found.repair
    assert (repair.state, repair.bytes_per_s, repair.eta_s, repair.done) == ("waiting", 0.0, None, 3)
    assert repair.reason.startswith(reason)


def test_one_that_cannot_be_read_is_as_good_as_none() -> None:
    assert read(FIRST, leader="r1", raw=b"{") is None
