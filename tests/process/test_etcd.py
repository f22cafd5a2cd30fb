"""Separately started processes around a real etcd of three members: what happens to them is nobody's loss."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from objstore.testing.traffic import Traffic
from tests.process import etcd
from tests.process.served import Served

BUCKET = "photos"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[etcd.Etcd]:
    with etcd.running(tmp_path / "etcd", 3) as members:
        yield members


@contextlib.contextmanager
def under_load(cluster: Served) -> Iterator[list[Traffic]]:
    """Clients of both gateways; at the end not one request may have failed."""
    cluster.client().create_bucket(BUCKET)
    loads = [Traffic(cluster.client(gateway), BUCKET, workers=1) for gateway in ("g1", "g2")]
    with loads[0], loads[1]:
        yield loads
    for load in loads:
        load.read_all_again()
        assert (load.failed, load.wrong) == (0, 0), load.errors
        assert load.objects > 0


def wait_requests(loads: list[Traffic], more: int, timeout_s: float = 60.0) -> None:
    """So many more requests have been made by each."""
    goals = [load.requests + more for load in loads]
    deadline = time.monotonic() + timeout_s
    while any(load.requests < goal for load, goal in zip(loads, goals, strict=True)):
        assert time.monotonic() < deadline, "requests stand still"
        time.sleep(0.05)


def test_the_leader_of_etcd_is_killed_and_no_request_fails(three: etcd.Etcd, tmp_path: Path) -> None:
    with Served(tmp_path / "cluster", three.urls, repairers=1) as cluster:
        cluster.wait_healthy()
        with under_load(cluster) as loads:
            wait_requests(loads, 10)
            three.leader().kill()
            wait_requests(loads, 40)
            cluster.wait_healthy()


@pytest.mark.long
def test_a_stopped_member_is_left_and_no_request_fails(three: etcd.Etcd, tmp_path: Path) -> None:
    """It keeps its connections and is silent: the watches on it are dead, and nobody says so."""
    with Served(tmp_path / "cluster", three.urls) as cluster:
        cluster.wait_healthy()
        with under_load(cluster) as loads:
            for member in (three.leader(), three.members[0]):
                member.stop()
                wait_requests(loads, 40)
                cluster.kill("n4")
                cluster.wait(lambda status: (n4 := status.node("n4")) is not None and n4.state == "down", 30)
                cluster.launch("n4")
                cluster.wait_ready("n4")
                cluster.wait_healthy()
                member.resume()
                three.wait_serving()
            wait_requests(loads, 10)
        cluster.wait_healthy()


@pytest.mark.long
def test_without_etcd_data_are_served_and_the_screen_says_so(three: etcd.Etcd, tmp_path: Path) -> None:
    with Served(tmp_path / "cluster", three.urls) as cluster:
        cluster.wait_healthy()
        with under_load(cluster) as loads:
            three.kill()
            status = cluster.wait(lambda status: "frozen since" in "".join(r.text for r in status.reasons), 30)
            assert (status.verdict, [reason.code for reason in status.reasons]) == ("UNKNOWN", ["COORDINATOR_DOWN"])
            shown = cluster.run("status")
            assert shown.returncode == 4 and "COORDINATOR_DOWN" in shown.stdout, shown
            assert "Reads and writes go on; the topology is frozen since " in shown.stdout
            wait_requests(loads, 60)  # every lease has ended long since
            time.sleep(5)
            wait_requests(loads, 20)
            three.start()
            cluster.wait_healthy()
            wait_requests(loads, 10)


@pytest.mark.long
def test_an_etcd_that_lost_everything_is_told_again(three: etcd.Etcd, tmp_path: Path) -> None:
    with Served(tmp_path / "cluster", three.urls) as cluster:
        before = cluster.wait_healthy()
        with under_load(cluster) as loads:
            wait_requests(loads, 10)
            three.kill()
            for member in three.members:
                shutil.rmtree(tmp_path / "etcd" / member.name)
            three.start()
            three.wait_serving()
            status = cluster.wait_healthy(90)
            assert (status.cluster_id, status.epoch) == (before.cluster_id, before.epoch)
            wait_requests(loads, 10)
            deadline = time.monotonic() + 60
            while (shown := cluster.run("repair", "status")).returncode:  # commands ask which cluster this is
                assert time.monotonic() < deadline, shown.stderr


@pytest.mark.long
def test_the_repairer_that_leads_is_killed_and_the_other_goes_on(three: etcd.Etcd, tmp_path: Path) -> None:
    with Served(tmp_path / "cluster", three.urls, down_after_s=2, out_after_s=4) as cluster:
        status = cluster.wait_healthy()
        with under_load(cluster) as loads:
            wait_requests(loads, 20)
            assert status.leader is not None
            cluster.kill(status.leader)
            cluster.kill("n4")  # the new leader has something to repair
            other = {"r1": "r2", "r2": "r1"}[status.leader]
            found = cluster.wait(lambda status: status.leader == other and status.is_whole, 90)
            assert found.node("n4").state == "out"
