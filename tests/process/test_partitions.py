"""Links that break between living processes: nodes, gateways, repairers and coordinator, both ways and one way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from objstore.model.limits import OPERATION_TIMEOUT_S
from tests.process.load import Load, content
from tests.process.namespaces import NetCluster, Network, both_ways
from tests.process.outages import Outages

NAMES = ["c1", *(f"n{i}" for i in range(1, 8)), "g1", "g2", "r1", "r2"]
LASTING_S = 7.0  # longer than any time-out of a lease, a call or an operation
MARGIN_S = 2.0  # of a machine that does other work
REQUESTS = (
    ("PUT", "small", 100),
    ("PUT", "large", 1_000_000),
    ("GET", "before", 0),
    ("DELETE", "before", 0),
    ("GET", "", 0),
)


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetCluster]:
    with Network(NAMES) as network:
        folder: Path = tmp_path_factory.mktemp("partitions")
        with NetCluster(network, folder, nodes=7, code="4+2", gateways=2, repairers=2) as running:
            running.wait_healthy()
            yield running


@pytest.fixture
def cluster(_cluster: NetCluster) -> NetCluster:
    _cluster.wait_healthy()
    return _cluster


@contextlib.contextmanager
def under_load(cluster: NetCluster, bucket: str, *through: str, outages: Outages | None = None) -> Iterator[Load]:
    """Clients of these gateways meanwhile; then it heals, everything is read, and the history judged."""
    clients = {name: cluster.client(name) for name in through}
    first = clients[through[0]]
    cluster.network.inside(lambda: first.create_bucket(bucket))
    load = Load(clients, outages or Outages(), bucket=bucket, seed=bucket, enter=cluster.network.enter)
    try:
        with load:
            assert load.wait_acknowledged(20, 30)
            yield load
        cluster.wait_healthy()
        cluster.network.inside(load.read_all)
        assert not load.judge(), load.judge()
    finally:
        for client in clients.values():
            client.close()


def nothing_failed(load: Load) -> None:
    assert load.counts["503"] == load.counts["no answer"] == load.counts["cut"] == 0, load.refusals


def outlast(load: Load) -> None:
    until = time.monotonic() + LASTING_S
    assert load.wait_acknowledged(20, LASTING_S + 20), load.summary()
    time.sleep(max(0.0, until - time.monotonic()))


@pytest.mark.long
def test_a_node_cut_off_from_everybody_fails_no_request(cluster: NetCluster) -> None:
    with under_load(cluster, "unplugged", "g1", "g2") as load:
        cluster.network.unplug("n3")
        try:
            outlast(load)
        finally:
            cluster.network.plug("n3")
    nothing_failed(load)


@pytest.mark.long
def test_a_gateway_without_a_minority_of_the_nodes_fails_no_request(cluster: NetCluster) -> None:
    with under_load(cluster, "minority", "g1", "g2") as load:
        with cluster.network.blocked(*both_ways(["g1"], ["n1", "n6"])):
            outlast(load)
    nothing_failed(load)


def test_a_gateway_without_a_majority_says_503_in_time_and_the_other_goes_on(cluster: NetCluster) -> None:
    jobs: list[Future[str]] = []
    with under_load(cluster, "majority", "g2") as load:
        cluster.network.inside(lambda: put_before(cluster))
        with cluster.network.blocked(*both_ways(["g1"], cluster.nodes[:5])):
            with ThreadPoolExecutor(len(REQUESTS), initializer=cluster.network.enter) as pool:
                for request in [*REQUESTS, *REQUESTS]:  # at once; and when the calls to those nodes have failed
                    jobs.append(pool.submit(refused, cluster, *request))
            outlast(load)
    assert not any(job.result() for job in jobs), [job.result() for job in jobs]
    nothing_failed(load)
    cluster.network.inside(lambda: check_kept(cluster))


def put_before(cluster: NetCluster) -> None:
    with contextlib.closing(cluster.client("g1")) as client:
        client.put("majority", "before", content("before", 100_000))


def refused(cluster: NetCluster, method: str, key: str, size: int) -> str:
    """Through g1: "" if the answer is 503, and in time; else what it was."""
    with contextlib.closing(cluster.client("g1")) as client:
        start = time.monotonic()
        answer = client.request(method, f"/majority/{key}", body=content(key, size))
        took = time.monotonic() - start
    if answer.status == 503 and took <= OPERATION_TIMEOUT_S + MARGIN_S:
        return ""
    return f"{method} {key or 'list'}: {answer.status} {answer.code} after {took:.2f} s"


def check_kept(cluster: NetCluster) -> None:
    """A 503 leaves the outcome open; nothing in between may be there."""
    expected = {key: content(key, size) for method, key, size in REQUESTS if method == "PUT"}
    with contextlib.closing(cluster.client("g2")) as client:
        for key, data in {**expected, "before": content("before", 100_000)}.items():
            answer = client.request("GET", f"/majority/{key}")
            assert answer.code == "NoSuchKey" or answer.body == data, (key, answer.status)


@pytest.mark.long
@pytest.mark.parametrize("direction", ["answers", "requests"])
def test_packets_lost_in_one_direction_fail_no_request(cluster: NetCluster, direction: str) -> None:
    """Two nodes hear requests that they cannot answer; or would answer those that they do not hear."""
    pairs = [("n2", "g1"), ("n5", "g1")] if direction == "answers" else [("g1", "n2"), ("g1", "n5")]
    with under_load(cluster, direction, "g1", "g2") as load:
        with cluster.network.blocked(*pairs):
            outlast(load)
    nothing_failed(load)


@pytest.mark.long
def test_nobody_needs_the_coordinator_to_read_and_write(cluster: NetCluster) -> None:
    with under_load(cluster, "coordinator", "g1", "g2") as load:
        cluster.network.unplug("c1")
        try:
            outlast(load)
        finally:
            cluster.network.plug("c1")
    nothing_failed(load)


@pytest.mark.long
def test_a_leader_of_repair_cut_off_from_the_coordinator_alone_does_no_harm(cluster: NetCluster) -> None:
    """It still reaches every node. The other one leads; what the first goes on doing has to be harmless."""
    leader = cluster.wait(lambda status: status.leader is not None, 30).leader
    assert leader is not None
    with under_load(cluster, "leader", "g1", "g2") as load:
        with cluster.network.blocked(*both_ways([leader], ["c1"])):
            cluster.network.unplug("n4")
            try:
                cluster.wait(lambda status: status.leader not in (None, leader), 40)
                outlast(load)
            finally:
                cluster.network.plug("n4")
    nothing_failed(load)


@pytest.mark.long
def test_a_gateway_that_misses_a_layout_change_fails_no_request(cluster: NetCluster) -> None:
    """Where the registers of n4 are now the coordinator cannot tell it, so it learns that from the other nodes."""
    with under_load(cluster, "stale", "g1", "g2") as load:
        with cluster.network.blocked(*both_ways(["g1"], ["c1"])):
            cluster.network.unplug("n4")
            try:
                cluster.wait(lambda status: any(n.name == "n4" and n.state == "out" for n in status.nodes), 40)
                outlast(load)
            finally:
                cluster.network.plug("n4")
    nothing_failed(load)
