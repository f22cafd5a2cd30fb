"""What only real processes can show: kill -9 under load, repair, elections, restarts of everything."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import shake_128
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from objstore.admin.status import Status
from objstore.local.folder import Folder
from objstore.local.supervisor import StartFailed
from objstore.testing import tree
from objstore.testing.cluster import LocalCluster
from objstore.testing.traffic import Traffic

SIZES = (0, 1, 1000, 32 * 1024, 40_000, 300_000, 2_000_000)


def body(number: int) -> bytes:
    return shake_128(str(number).encode()).digest(SIZES[number % len(SIZES)])


def boto3(cluster: LocalCluster) -> Any:
    """Without retries, so that each failure is seen."""
    return cluster.boto3_client(config=Config(retries={"total_max_attempts": 1}, max_pool_connections=8))


def read_all(s3: Any, count: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(
            pool.map(lambda n: s3.get_object(Bucket="bkt", Key=f"k{n}")["Body"].read(), range(count))
        ):
            assert found == body(number), f"k{number}"


def test_200_objects_survive_the_kill_of_two_nodes_under_load_and_are_whole_again(cluster: LocalCluster) -> None:
    s3 = boto3(cluster)
    s3.create_bucket(Bucket="bkt")
    half = threading.Event()

    def put(number: int) -> None:
        if number == 100:
            half.set()
        s3.put_object(Bucket="bkt", Key=f"k{number}", Body=body(number))

    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(put, number) for number in range(200)]
        assert half.wait(60)
        cluster.kill("n2", "n7")
        for job in puts:
            job.result()
    read_all(s3, 200)
    status = cluster.status()
    assert status.verdict != "HEALTHY"
    assert {node.state for node in status.nodes if node.name in ("n2", "n7")} <= {"down", "out"}
    cluster.restart("n2", "n7")
    status = cluster.wait_healthy(90)
    assert status.objects is not None and status.objects.full == status.objects.total == 200
    read_all(s3, 200)
    s3.close()


def test_a_killed_node_is_rebuilt_on_the_others(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("bkt")
    for number in range(40):
        client.put("bkt", f"k{number}", body(number + 1))
    cluster.kill("n4")

    def rebuilt(status: Status) -> bool:
        node = status.node("n4")
        return status.is_whole and node is not None and node.state == "out" and status.can_lose == 2

    cluster.wait(rebuilt, 60, "rebuilt without n4")
    cluster.kill("n1", "n8")  # two more than before: possible only if the rebuilt shards are real
    for number in range(40):
        assert client.get("bkt", f"k{number}") == body(number + 1)


@pytest.mark.long
def test_when_the_repairer_at_work_is_killed_the_other_goes_on(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("bkt")
    for number in range(60):
        client.put("bkt", f"k{number}", shake_128(bytes((number,))).digest(1_500_000))
    leader = cluster.wait(lambda status: status.leader is not None, 20, "led").leader
    assert leader is not None
    cluster.kill("n5")
    cluster.wait(lambda status: status.repair is not None and status.repair.state != "idle", 30, "repairing")
    cluster.kill(leader)
    status = cluster.wait(lambda s: s.is_whole and s.leader not in (None, leader), 90, "whole under the other repairer")
    assert status.objects is not None and status.objects.total == 60
    for number in range(60):
        assert client.get("bkt", f"k{number}") == shake_128(bytes((number,))).digest(1_500_000)


@pytest.mark.long
def test_after_kill_9_of_everything_the_same_folder_gives_all_back(tmp_path: Path) -> None:
    with LocalCluster(8, "4+2", folder=tmp_path) as cluster:
        client = cluster.s3_client()
        client.create_bucket("bkt")
        for number in range(50):
            client.put("bkt", f"k{number}", body(number))
        env = cluster.env
        cluster.close(force=True)
    with LocalCluster(folder=tmp_path) as cluster:
        assert cluster.env["AWS_SECRET_ACCESS_KEY"] == env["AWS_SECRET_ACCESS_KEY"]
        client = cluster.s3_client()
        assert sorted(client.keys("bkt")) == sorted(f"k{number}" for number in range(50))
        for number in range(50):
            assert client.get("bkt", f"k{number}") == body(number)
        cluster.wait_healthy(60)


def test_reads_and_writes_go_on_without_the_coordinator(shared: LocalCluster) -> None:
    client = shared.s3_client()
    client.create_bucket("alone")
    client.put("alone", "before", b"1" * 100_000)
    shared.kill("c1")
    client.put("alone", "meanwhile", b"2" * 100_000)
    assert client.get("alone", "before") == b"1" * 100_000
    assert client.get("alone", "meanwhile") == b"2" * 100_000
    status = shared.status()
    assert (status.verdict, status.can_lose) == ("UNKNOWN", None)
    assert [reason.code for reason in status.reasons] == ["COORDINATOR_DOWN"]
    shared.restart("c1")
    shared.wait_healthy(60)  # so it was not the end of the coordinator's data


def test_a_hanging_node_fails_no_request(shared: LocalCluster) -> None:
    client = shared.s3_client()
    client.create_bucket("hanging")
    with Traffic(client, "hanging") as traffic:
        shared.pause("n6")
        shared.wait(lambda status: {"NODE_LATE", "NODE_DOWN"} & {r.code for r in status.reasons} != set(), 10, "late")
        before = traffic.requests
        shared.wait(lambda status: traffic.requests > before + 20, 60, "serving requests")
        shared.resume("n6")
    traffic.read_all_again()
    assert (traffic.failed, traffic.wrong) == (0, 0), traffic.errors


def test_a_flipped_bit_is_never_served(shared: LocalCluster) -> None:
    client = shared.s3_client()
    client.create_bucket("flipped")
    file = tree.TestFile("k", 3_000_000)
    client.put("flipped", "k", tree.content(file))
    for shard in (0, 3):
        shared.corrupt("flipped", "k", shard)
    assert client.get("flipped", "k") == tree.content(file)


def test_the_status_tells_the_truth_the_moment_a_node_dies(shared: LocalCluster) -> None:
    assert shared.status().verdict == "HEALTHY"
    shared.kill("n3")
    status = shared.status()  # long before any lease has ended
    node = status.node("n3")
    assert node is not None and node.state == "down"
    assert status.verdict == "DEGRADED" and status.can_lose == 1
    assert [reason.code for reason in status.reasons if "n3" in reason.text] == ["NODE_DOWN"]
    shared.start("n3")


def test_a_process_that_cannot_start_says_why_and_nothing_is_left(tmp_path: Path) -> None:
    cluster = LocalCluster(folder=tmp_path, environment={"OBJSTORE_CLUSTER__CODEC": "abacus"})
    with pytest.raises(StartFailed, match="c1 ended with exit code 2 before it was ready") as failure:
        cluster.start()
    assert "abacus" in str(failure.value)
    assert Folder(tmp_path).read_state() is None
    lock = Folder(tmp_path).lock()
    assert lock is not None
    os.close(lock)
