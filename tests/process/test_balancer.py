"""HAProxy in front of two gateways: one is killed, and processes are restarted one after the other, under load."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gateway.handlers.responses import WHOLE_BYTES_MAX
from objstore.deploy.haproxy import BODY_BYTES_MAX
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from tests.process import etcd
from tests.process.balancer import Balancer, balancer
from tests.process.load import Load
from tests.process.outages import Outages
from tests.process.served import ACCESS_KEY, SECRET_KEY, Served

BUCKET = "bkt"
SIZES = (0, 1000, 30_000, BODY_BYTES_MAX, 200_000, 1_500_000)
NOTICE_S = 2.5  # longer than the balancer takes to notice
MORE = 40  # requests between two blows

Balanced = tuple[LocalCluster, S3Client, Balancer]
Step = tuple[str, Callable[[], object]]  # a request by name
RoundOf = Callable[[str, bytes], Iterator[Step]]  # of a key and its bytes


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """A cluster with two gateways, a client of the balancer in front of them, and that one."""
    environment = {"OBJSTORE_GATEWAY__STOP_NOTICE_S": str(NOTICE_S)}
    with LocalCluster(7, "4+2", gateways=2, repairers=2, environment=environment) as cluster:
        cluster.wait_healthy(60)
        addresses = {name: cluster.member(name).address for name in ("g1", "g2")}
        with balancer(tmp_path_factory.mktemp("balancer"), addresses) as front:
            keys = cluster.env
            client = S3Client(
                front.url, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], keys["AWS_DEFAULT_REGION"]
            )
            client.create_bucket(BUCKET)
            yield cluster, client, front
            client.close()


class Rounds:
    """Threads that each PUT, GET, HEAD, list and DELETE objects in turn; what failed, by operation and size."""

    def __init__(self, clients: list[RoundOf]) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.failed: list[tuple[str, int, str]] = []
        self._threads = [threading.Thread(target=self._work, args=(i, one)) for i, one in enumerate(clients)]

    def __enter__(self) -> Rounds:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int) -> None:
        wanted, deadline = self.done.total() + more, time.monotonic() + 60
        while self.done.total() < wanted:
            assert time.monotonic() < deadline, "requests hang"
            time.sleep(0.02)

    def _work(self, number: int, round_of: RoundOf) -> None:
        chance = random.Random(number)
        turn = 0
        while not self._stop.is_set():
            turn += 1
            key, size = f"{number}/{turn}", chance.choice(SIZES)
            for name, action in round_of(key, random.Random(key).randbytes(size)):
                try:
                    action()
                except (OSError, AssertionError, http.client.HTTPException, BotoCoreError, ClientError) as error:
                    with self._lock:
                        self.failed.append((name, size, repr(error)))
                    break  # what would follow has nothing to find
                with self._lock:
                    self.done[name] += 1


def by_hand(client: S3Client) -> RoundOf:
    """Requests of a client that never repeats one."""

    def expect(method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None) -> bytes:
        answer = client.request(method, path, query, body)
        assert answer.status in (200, 204), (answer.status, answer.code)
        return answer.body

    def round_of(key: str, data: bytes) -> Iterator[Step]:
        def get() -> None:
            assert expect("GET", path) == data

        path = f"/{BUCKET}/{key}"
        yield "PUT", lambda: expect("PUT", path, data)
        yield "GET", get
        yield "HEAD", lambda: expect("HEAD", path)
        yield "LIST", lambda: expect("GET", f"/{BUCKET}", query={"list-type": "2", "prefix": key})
        yield "DELETE", lambda: expect("DELETE", path)

    return round_of


def by_boto3(s3: Any) -> RoundOf:
    """With the retries that it makes by default."""

    def round_of(key: str, data: bytes) -> Iterator[Step]:
        def get() -> None:
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == data

        yield "boto3 PUT", lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        if len(data) <= WHOLE_BYTES_MAX:  # a body that is cut in its middle is not asked for again by boto3
            yield "boto3 GET", get
        yield "boto3 HEAD", lambda: s3.head_object(Bucket=BUCKET, Key=key)
        yield "boto3 LIST", lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
        yield "boto3 DELETE", lambda: s3.delete_object(Bucket=BUCKET, Key=key)

    return round_of


def test_a_killed_gateway_costs_no_request_that_can_be_sent_again(balanced: Balanced) -> None:
    cluster, client, front = balanced
    cluster.wait_healthy(60)
    s3 = cluster.boto3_client(endpoint_url=client.endpoint, config=Config(max_pool_connections=4))
    with Rounds([by_hand(client), by_hand(client), by_hand(client), by_boto3(s3)]) as rounds:
        rounds.wait(MORE)
        for name in ("g1", "g2"):
            cluster.kill(name)
            front.wait_until(name, "DOWN")
            cluster.start(name)
            front.wait_until(name, "UP")  # until then there is no other to send requests to
            rounds.wait(MORE)
    s3.close()
    # What no balancer can hide: a body on its way to the one that died, too long to be kept, or on its way from it.
    lost = [one for one in rounds.failed if (one[0] == "PUT" and one[1] > BODY_BYTES_MAX) or "IncompleteRead" in one[2]]
    assert [one for one in rounds.failed if one not in lost] == []
    assert len(lost) <= 2 * 3, lost  # of those in flight at two kills
    assert all(rounds.done[name] for name in ("PUT", "GET", "DELETE", "boto3 PUT", "boto3 DELETE"))


def restart_in_turn(cluster: LocalCluster, client: S3Client, bucket: str, names: list[str]) -> Load:
    """Under load, of clients that repeat nothing."""
    cluster.wait_healthy(60)
    client.create_bucket(bucket)
    load = Load({"balancer": client}, Outages(), bucket=bucket)
    with load:
        assert load.wait_acknowledged(10, 30)
        for name in names:
            cluster.restart(name)
            assert load.wait_acknowledged(3, 30)
    return load


def assert_nothing_failed(load: Load) -> None:
    load.read_all()
    assert load.judge() == []
    assert load.refusals == []
    assert not {"503", "cut", "no answer", "unexcused"} & set(load.counts), load.summary()


def test_one_of_each_role_is_restarted_and_no_request_fails(balanced: Balanced) -> None:
    cluster, client, _ = balanced
    assert_nothing_failed(restart_in_turn(cluster, client, "some", ["n1", "c1", "g1"]))


@pytest.mark.long
def test_every_process_is_restarted_twice_and_no_request_fails(balanced: Balanced) -> None:
    cluster, client, _ = balanced
    names = [*cluster.node_names, "r1", "r2", "c1", "g1", "g2"]
    assert_nothing_failed(restart_in_turn(cluster, client, "every", names + names[::-1]))


@pytest.mark.long
def test_separate_processes_and_etcd_are_restarted_in_turn_and_no_request_fails(tmp_path: Path) -> None:
    """As the README tells it: repairers, members of etcd, nodes when it is ok to stop them, gateways."""
    with etcd.running(tmp_path / "etcd", 3) as members, Served(tmp_path / "cluster", members.urls) as cluster:
        cluster.wait_healthy()
        gateways = {name: cluster.addresses[name] for name in ("g1", "g2")}
        with balancer(tmp_path, gateways) as front:
            client = S3Client(front.url, ACCESS_KEY, SECRET_KEY, "us-east-1")
            client.create_bucket(BUCKET)
            s3 = boto3_client(front.url)
            with Rounds([by_hand(client), by_hand(client), by_boto3(s3)]) as rounds:
                rounds.wait(MORE)
                for name in ("r1", "r2"):
                    cluster.restart(name)
                for member in members.members:
                    member.restart()
                    members.wait_serving()
                    rounds.wait(MORE)
                for name in ("n1", "n2", "n3", "n4"):
                    wait_ok_to_stop(cluster, name)
                    cluster.restart(name)
                    rounds.wait(MORE)
                for name in gateways:
                    cluster.restart(name)
                    front.wait_until(name, "UP")
                    rounds.wait(MORE)
            client.close()
            s3.close()
    assert rounds.failed == []
    assert all(rounds.done[name] for name in ("PUT", "GET", "LIST", "DELETE", "boto3 PUT", "boto3 GET"))


def wait_ok_to_stop(cluster: Served, name: str) -> None:
    deadline = time.monotonic() + 60
    while (said := cluster.run("node", "ok-to-stop", name)).returncode:
        assert time.monotonic() < deadline, said.stdout + said.stderr
        time.sleep(0.2)


def boto3_client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
