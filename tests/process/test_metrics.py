"""Health and metrics of a real cluster: nothing is missing, nothing is extra, workers add up, checks can fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from objstore.admin.metrics import CATALOGUE
from objstore.cli.exporter import token_of
from objstore.config import load
from objstore.testing import LocalCluster
from tests.unit.admin.test_metrics import samples

pytestmark = pytest.mark.process

DELETED = ("DeleteObject", "204")  # nobody else here deletes
ENVIRONMENT = {"OBJSTORE_METRICS__LISTEN": "127.0.0.1:0", "OBJSTORE_GATEWAY__WORKERS": "2"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=6, ec="4+2", repairers=1, environment=ENVIRONMENT) as cluster:
        cluster.wait_healthy()
        yield cluster


def get(url: str, token: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def own_metrics(cluster: LocalCluster, name: str) -> bytes:
    """From the port that the process opened for them."""
    log = (cluster.folder / "logs" / f"{name}.log").read_text()
    status, text = get(re.findall(r"metrics at (http://\S+/metrics)", log)[-1])
    assert status == 200
    return text


def gateway_metrics(cluster: LocalCluster) -> bytes:
    status, text = get(f"{cluster.endpoint}/_objstore/metrics", token_of(load(cluster.folder / "cluster.toml", {})))
    assert status == 200
    return text


def requests_counted(cluster: LocalCluster) -> dict[tuple[str, str], float]:
    return {
        (labels["op"], labels["code"]): value
        for name, labels, value in samples(gateway_metrics(cluster))
        if name == "objstore_s3_requests_total"
    }


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def bucket_bytes(cluster: LocalCluster, metric: str) -> dict[str, float]:
    found = samples(gateway_metrics(cluster))
    return {labels["bucket"]: value for name, labels, value in found if name == metric}


def health(cluster: LocalCluster, page: str) -> int:
    return get(f"{cluster.endpoint}/_objstore/health/{page}")[0]


def all_say(cluster: LocalCluster, page: str, status: int) -> bool:
    """Each worker finds out for itself, and what it found holds for a second. Which one answers is chance."""
    return all(health(cluster, page) == status for _ in range(16))


def command(cluster: LocalCluster, *words: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "objstore", *words, "--data", str(cluster.folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_every_role_exports_what_the_catalogue_says_and_nothing_else(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("photos")
    client.put("photos", "one", b"x" * 1_000_000)
    assert client.get("photos", "one") == b"x" * 1_000_000
    wait_for(lambda: ("GetObject", "200") in requests_counted(cluster))  # workers publish once a second
    assert command(cluster, "bucket", "quota", "photos", "--size", "1MB", "--objects", "7")[0] == 0
    quota = b'objstore_bucket_quota_bytes{bucket="photos"} '  # each process looks for itself, now and then
    wait_for(lambda: all(quota in own_metrics(cluster, name) for name in ("r1", "g1")))
    for role, name in {"coordinator": "c1", "node": "n1", "repairer": "r1", "gateway": "g1"}.items():
        text = own_metrics(cluster, name).decode()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        assert kinds == {metric.name: metric.kind for metric in CATALOGUE.values() if role in metric.by}, role
        told = {re.sub(r"_(bucket|sum|count)$", "", sample) for sample, _, _ in samples(text.encode())}
        silent = {name for name in kinds if name.startswith("objstore_notify_")}  # one sample for each target
        assert told == kinds.keys() - silent, f"{role}: has a family without samples"
    synced = {name: value for name, _, value in samples(own_metrics(cluster, "n1"))}
    assert synced["objstore_fsync_duration_seconds_count"] > 0


def test_what_the_workers_of_a_gateway_count_is_added_up_and_never_falls(cluster: LocalCluster) -> None:
    clients = [cluster.s3_client() for _ in range(12)]  # each on a connection, so that both workers get some
    clients[0].create_bucket("counted")
    for client in clients:
        for number in range(5):
            client.delete("counted", str(number))
    wait_for(lambda: requests_counted(cluster).get(DELETED, 0) >= 60)
    assert requests_counted(cluster)[DELETED] == 60
    pid = cluster.member("g1").pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    told = [told_while_a_worker_ends(cluster) for _ in range(20)]
    assert set(told) <= {None, 60} and told.count(60) >= 10, "a dead worker's count is kept"


def told_while_a_worker_ends(cluster: LocalCluster) -> float | None:
    """A connection that the dead worker had accepted breaks; the next one goes to the other."""
    try:
        return requests_counted(cluster)[DELETED]
    except OSError:
        return None


def test_a_bucket_is_kept_within_its_quota_by_every_worker_and_told_of(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("narrow")
    assert command(cluster, "bucket", "quota", "narrow", "--size", "100kB")[0] == 0
    client.put("narrow", "one", bytes(90_000))
    wait_for(lambda: bucket_bytes(cluster, "objstore_bucket_bytes").get("narrow") == 90_000)
    time.sleep(2)  # so long gateways may remember that it had no quota, and what was counted
    for _ in range(12):  # each on a connection of its own, so that both workers are asked
        answer = cluster.s3_client().request("PUT", "/narrow/two", body=bytes(20_000))
        assert answer.status == 403 and b"<Code>QuotaExceeded</Code>" in answer.body
    assert "BUCKET_QUOTA" in command(cluster, "health")[1]
    code, text = command(cluster, "bucket", "show", "narrow", "--json")
    shown = json.loads(text)
    assert code == 0 and (shown["usage"]["bytes"], shown["quota"]["bytes"]) == (90_000, 100_000)
    code, text = command(cluster, "bucket", "inventory", "narrow", "--format", "jsonl")
    assert code == 0 and [json.loads(line)["key"] for line in text.splitlines() if line.startswith("{")] == ["one"]
    client.delete("narrow", "one")
    wait_for(lambda: client.request("PUT", "/narrow/two", body=bytes(20_000)).status == 200)


def test_what_changed_is_told_from_a_cursor_on(cluster: LocalCluster, tmp_path: Path) -> None:
    client = cluster.s3_client()
    client.create_bucket("fed")
    cursor = str(tmp_path / "cursor")

    def told(*words: str) -> list[tuple[str, str]]:
        code, text = command(cluster, "bucket", "changes", "fed", "--since", cursor, *words)
        assert code == 0, text
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [(line["change"], line["key"]) for line in lines]

    for key in ("a", "b"):
        client.put("fed", key, key.encode())
    assert told("--from-now") == []
    client.put("fed", "c", b"c")
    client.put("fed", "b", b"again")
    client.delete("fed", "a")
    assert told() == [("removed", "a"), ("put", "b"), ("put", "c")]
    assert told() == []
    code, text = command(cluster, "bucket", "changes", "photos", "--since", cursor)
    assert code == 2 and "'fed'" in text


def test_metrics_of_a_gateway_want_the_token_that_the_command_prints(cluster: LocalCluster) -> None:
    code, token = command(cluster, "health", "--token")
    assert code == 0
    assert get(f"{cluster.endpoint}/_objstore/metrics")[0] == 401
    assert get(f"{cluster.endpoint}/_objstore/metrics", "wrong")[0] == 401
    assert get(f"{cluster.endpoint}/_objstore/metrics", token.strip())[0] == 200


def test_a_request_can_be_found_in_the_logs(cluster: LocalCluster) -> None:
    answer = cluster.s3_client().request("GET", "/no-such-bucket/k")
    assert answer.status == 404
    request_id = answer.headers["x-amz-request-id"]
    assert f"<RequestId>{request_id}</RequestId>".encode() in answer.body
    code, text = command(cluster, "logs", "--request", request_id, "--json")
    assert code == 0
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["node"], line["error"]) for line in lines] == [("g1", "NoSuchBucket")]
    assert "_objstore" not in (cluster.folder / "logs" / "g1.log").read_text(), "checks and scrapes are not logged"


def test_checks_of_health_fail_when_the_cluster_does(cluster: LocalCluster) -> None:
    """Last: it leaves the cluster with too few nodes."""
    assert [health(cluster, page) for page in ("live", "ready", "cluster", "cluster/read")] == [200] * 4
    assert command(cluster, "health", "--ready") == (0, "all is well\n")
    cluster.kill("n1", "n2")
    wait_for(lambda: all_say(cluster, "cluster", 503))  # 4 nodes: enough to read, not to write
    wait_for(lambda: all_say(cluster, "cluster/read", 200) and all_say(cluster, "ready", 200))
    assert "WRITE_QUORUM_LOST" in command(cluster, "health")[1]
    cluster.kill("n3")
    wait_for(lambda: all_say(cluster, "ready", 503))
    assert (health(cluster, "cluster/read"), health(cluster, "live")) == (503, 200)
    code, text = command(cluster, "health", "--ready")
    assert (code, "read" in text) == (4, True)
    code, text = command(cluster, "health")
    assert (code, "QUORUM_LOST" in text) == (4, True)
    checks = {labels["code"]: value for name, labels, value in samples(gateway_metrics(cluster)) if "check" in name}
    assert checks["QUORUM_LOST"] == 1
