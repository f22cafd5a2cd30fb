"""A disk that fails under a real node: the node stops at the first sync or commit that failed and says why, clients
notice nothing, and with a sound disk it is whole again. A node whose index is gone or damaged comes back under a new id
in its old place.

The errors are injected by a `sitecustomize` module in the processes of nodes: calls of the node that is named in a file
fail with EIO.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from objstore.admin.status import Status
from objstore.local.supervisor import StartFailed
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from tests.process.load import content

FAILING = """
import errno, os, sys

words = sys.orig_argv
if "node" in words and "--name" in words:
    name = words[words.index("--name") + 1]

    def failing(kind, call):
        def wrapped(*arguments):
            try:
                with open(SWITCH) as switch:
                    fails = switch.read().split() == [kind, name]
            except FileNotFoundError:
                fails = False
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*arguments)

        return wrapped

    from objstore.adapters import kv

    os.fdatasync = failing("sync", os.fdatasync)
    os.pread = failing("read", os.pread)
    kv.LmdbKV.commit = failing("commit", kv.LmdbKV.commit)
"""
SIZES = (100, 20_000, 70_000, 400_000)
OBJECTS = {f"k{number}": content(f"k{number}", SIZES[number % len(SIZES)]) for number in range(24)}


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disk") / "switch"


@pytest.fixture(scope="module")
def _cluster(switch: Path) -> Iterator[LocalCluster]:
    module = switch.with_name("sitecustomize.py")
    module.write_text(f"SWITCH = {str(switch)!r}\n{FAILING}")
    with LocalCluster(8, "4+2", out_after=5, environment={"PYTHONPATH": str(module.parent)}) as running:
        running.wait_healthy(60)
        client = running.s3_client()
        client.create_bucket("disk")
        for key, data in OBJECTS.items():
            client.put("disk", key, data)
        yield running


@pytest.fixture
def cluster(_cluster: LocalCluster) -> LocalCluster:
    _cluster.wait_healthy(90)
    return _cluster


def read_everything(client: S3Client) -> None:
    for key, data in OBJECTS.items():
        assert client.get("disk", key) == data, key


def read_everything_without(cluster: LocalCluster, *names: str) -> None:
    cluster.kill(*names)
    read_everything(cluster.s3_client())
    cluster.start(*names)


@pytest.mark.parametrize(("kind", "name"), [("sync", "n3"), pytest.param("commit", "n5", marks=pytest.mark.long)])
def test_a_node_stops_at_the_first_error_of_its_disk_and_nobody_notices(
    cluster: LocalCluster, switch: Path, kind: str, name: str
) -> None:
    client = cluster.s3_client()
    switch.write_text(f"{kind} {name}\n")
    written = 0
    while cluster.member(name).condition != "ended":
        key = f"{kind}-{written % 4}"
        client.put("disk", key, content(key, 50_000))
        assert client.get("disk", key) == content(key, 50_000)
        written += 1
        assert written < 400, "the node goes on although its disk fails"
    last = cluster.log_tail(name).splitlines()
    assert any("The disk of this node failed" in line and "Check or replace it." in line for line in last), last
    try:
        cluster.start(name)  # still broken: it may come up, and must end with the next write
    except StartFailed as failed:
        assert "Input/output error" in str(failed)
    read_everything(client)
    switch.unlink()
    if cluster.member(name).condition == "ended":
        cluster.start(name)
    cluster.wait_healthy(90)
    others = [node for node in cluster.node_names if node != name]
    read_everything_without(cluster, *random.Random(kind).sample(others, 2))


def test_shards_that_cannot_be_read_are_replaced_by_others_and_made_again(cluster: LocalCluster, switch: Path) -> None:
    switch.write_text("read n6\n")
    read_everything_without(cluster, "n1")
    assert cluster.member("n6").condition == "ready"
    log = cluster.folder / "logs" / "n6.log"
    cluster.wait(lambda _: "Input/output error" in log.read_text(), 30, "told of its disk")
    switch.unlink()
    cluster.wait(looked_at_since(time.time()), 90, "HEALTHY after another look")
    read_everything_without(cluster, "n2", "n8")


def looked_at_since(moment: float) -> Callable[[Status], bool]:
    return lambda now: now.verdict == "HEALTHY" and now.as_of_ms is not None and now.as_of_ms > moment * 1000


def lose(index: Path) -> None:
    shutil.rmtree(index)


def cut(index: Path) -> None:
    pages = index / "data.mdb"
    with pages.open("r+b") as file:
        file.truncate(3 * 4096)  # half of it would do no harm on a day when the other half is free pages


def garble(index: Path) -> None:
    chance = random.Random(7)
    with (index / "data.mdb").open("r+b") as file:
        size = file.seek(0, 2)
        for offset in range(2 * 4096, size, 4096):
            file.seek(offset + 16)
            file.write(chance.randbytes(512))


@pytest.mark.parametrize(
    ("harm", "name"),
    [(lose, "n2"), *(pytest.param(*harm, marks=pytest.mark.long) for harm in ((cut, "n4"), (garble, "n7")))],
)
def test_a_node_without_its_index_takes_its_old_place_under_a_new_id(
    cluster: LocalCluster, harm: Callable[[Path], None], name: str
) -> None:
    before = {node.name: node.id for node in cluster.status().nodes}
    cluster.kill(name)
    harm(cluster.folder / "data" / name / "index")
    cluster.start(name)
    status = cluster.wait(
        lambda now: now.verdict == "HEALTHY" and {node.name: node.id for node in now.nodes}[name] != before[name],
        120,
        "HEALTHY with a new node in the old place",
    )
    assert len(status.nodes) == len(before)
    others = [node for node in cluster.node_names if node != name]
    read_everything_without(cluster, *random.Random(name).sample(others, 2))
