"""Each kind of process killed, and stopped for longer than every time-out, while clients write and read.

Never a wrong byte, a lost object, a history that no object could have had, or a request without an end. Where the
design promises that nothing fails (m nodes away, no coordinator, the other gateway), nothing may fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf

import pytest

from objstore.testing.cluster import LocalCluster
from tests.process.chaos import under_load
from tests.process.faults import PAST_TIMEOUTS_S, Faults
from tests.process.load import Load


@pytest.fixture(scope="module")
def _cluster() -> Iterator[LocalCluster]:
    with LocalCluster(8, "4+2", gateways=2, repairers=2) as running:
        yield running


@pytest.fixture
def cluster(_cluster: LocalCluster) -> LocalCluster:
    _cluster.wait_healthy(60)
    return _cluster


def outlast(load: Load, seconds: float = PAST_TIMEOUTS_S, more: int = 30) -> None:
    """Let the harm last, and see writes succeed meanwhile."""
    until = time.monotonic() + seconds
    assert load.wait_acknowledged(more, seconds + 20), load.summary()
    time.sleep(max(0.0, until - time.monotonic()))


def hold(load: Load) -> None:
    assert not load.judge(), load.judge()


def nothing_failed(load: Load) -> None:
    assert load.counts["503"] == load.counts["no answer"] == load.counts["cut"] == 0, load.refusals


def take_both_ways(faults: Faults, load: Load, killed: str, paused: str) -> None:
    """One killed, one stopped, both past every time-out, then back."""
    faults.take(killed, paused=False, seconds=inf)
    faults.take(paused, paused=True, seconds=inf)
    outlast(load)


def test_any_two_nodes_killed_and_stopped_fail_no_request(cluster: LocalCluster) -> None:
    with under_load(cluster, 1) as (load, faults):
        take_both_ways(faults, load, "n2", "n5")
    hold(load)
    nothing_failed(load)


@pytest.mark.long
def test_a_gateway_killed_or_stopped_leaves_the_other_one_at_work(cluster: LocalCluster) -> None:
    with under_load(cluster, 2) as (load, faults):
        faults.take("g1", paused=False, seconds=inf)
        outlast(load, 2.0)
        faults.bring_back("g1")
        faults.take("g2", paused=True, seconds=inf)
        outlast(load)
    hold(load)
    assert load.counts["503"] == 0, load.refusals  # a request to the other gateway has no reason to fail


@pytest.mark.long
def test_without_the_coordinator_killed_or_stopped_no_request_fails(cluster: LocalCluster) -> None:
    with under_load(cluster, 3) as (load, faults):
        faults.take("c1", paused=False, seconds=inf)
        outlast(load, 4.0)
        faults.bring_back("c1")
        faults.take("c1", paused=True, seconds=inf)
        outlast(load)
    hold(load)
    nothing_failed(load)


@pytest.mark.long
def test_a_node_that_dies_while_there_is_no_coordinator_fails_no_request(cluster: LocalCluster) -> None:
    with under_load(cluster, 4) as (load, faults):
        faults.take("c1", paused=False, seconds=inf)
        take_both_ways(faults, load, "n1", "n7")
    hold(load)
    nothing_failed(load)


@pytest.mark.long
def test_leaders_of_repair_may_fall_in_the_middle_of_it(cluster: LocalCluster) -> None:
    """The one at work is killed, then its successor is stopped and comes back as a leader of yesterday."""
    with under_load(cluster, 5) as (load, faults):
        assert load.wait_acknowledged(150, 60)
        faults.take("n4", paused=False, seconds=inf)
        first = _leader_at_work(cluster)
        faults.take(first, paused=False, seconds=inf)
        second = _leader_at_work(cluster, but=first)
        faults.bring_back(first)
        faults.take(second, paused=True, seconds=inf)
        cluster.wait(lambda s: s.leader == first, 30, f"led by {first}")
        outlast(load, 2.0)
        faults.bring_back(second)
        cluster.wait(lambda s: s.is_whole, 90, "whole without n4")
    hold(load)
    nothing_failed(load)


def _leader_at_work(cluster: LocalCluster, but: str = "") -> str:
    """Or done already: on a fast machine there is little to do."""
    status = cluster.wait(
        lambda s: s.leader not in (None, but) and ("n4" in {n.name for n in s.nodes if n.state == "out"}), 30, "led"
    )
    assert status.leader is not None
    return status.leader
