"""One cluster of real processes for all clients, a bucket for each test."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from objstore.testing.cluster import LocalCluster
from tests.s3.clients.programs import Client, make_tree

WAIT_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.client)
            item.add_marker(pytest.mark.timeout(150))


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(8, "4+2", out_after=600) as running:
        running.wait_healthy(WAIT_S)
        yield running


@pytest.fixture(scope="session")
def s3(cluster: LocalCluster) -> Iterator[Any]:
    """For looking at what a client has done."""
    client = cluster.boto3_client()
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A new one. It stays until the cluster goes."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def client(cluster: LocalCluster, bucket: str, tmp_path: Path) -> Client:
    home = tmp_path / "home"
    home.mkdir()
    return Client(home, {**cluster.env, "BUCKET": bucket})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Of a minute ago: times of objects have whole seconds, and what changed in the same second is sent again."""
    made, before = make_tree(tmp_path / "tree"), time.time() - 60
    for path in made.rglob("*"):
        os.utime(path, (before, before))
    return made


@pytest.fixture
def kill_a_node_during(cluster: LocalCluster, s3: Any, bucket: str) -> Iterator[Callable[..., None]]:
    """Kills a node as soon as the process has stored something (below `prefix`), but not all. The node returns after
    the test."""
    cluster.wait_whole(WAIT_S)
    killed = []

    def kill(process: Any, prefix: str = "") -> None:
        deadline = time.monotonic() + WAIT_S
        while not s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"):
            assert process.poll() is None, f"it ended too early: {process.communicate()[0]}"
            assert time.monotonic() < deadline, "it stores nothing"
            time.sleep(0.02)
        cluster.kill("n2")
        killed.append("n2")
        assert process.poll() is None, "it was done before the node died"

    yield kill
    for name in killed:
        cluster.start(name)
