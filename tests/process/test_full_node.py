"""One full node of eight: nothing fails, what is written is whole, and shards come home when the node has room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from objstore.admin.status import Status
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from tests.process import damage
from tests.process.load import content
from tests.process.machine import small_disk

MEGABYTES = 48
SMALL, LARGE = 1_000_000, 8_000_000
FULL = "n3"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """n3 believes that it may hold as much as the others, but its disk is small."""
    folder = tmp_path / "cluster"
    (folder / "data").mkdir(parents=True)
    environment = {
        "OBJSTORE_NODE__RESERVE": "256KiB",
        "OBJSTORE_NODE__CAPACITY": "1GiB",
        "OBJSTORE_NODE__NEARFULL": "40",
        "OBJSTORE_NODE__FULL": "60",
        "OBJSTORE_NODE__BACKFILL_FULL": "80",
        "OBJSTORE_CLUSTER__PARTITION_BITS": "6",
        "OBJSTORE_REPAIR__GARBAGE_DELAY_S": "1",
    }
    with (
        small_disk(folder / "data" / FULL, MEGABYTES),
        LocalCluster(8, "4+2", folder=folder, environment=environment) as running,
    ):
        running.wait_healthy(60)
        yield running
        running.close(force=True)


def put(client: S3Client, key: str, size: int) -> bytes:
    data = content(key, size)
    answer = client.request("PUT", f"/full/{key}", body=data)
    assert answer.status == 200, answer
    return data


def codes(status: Status) -> set[str]:
    return {reason.code for reason in status.reasons}


def is_full(status: Status) -> bool:
    return "NODE_FULL" in codes(status)


def level(status: Status) -> str:
    node = status.node(FULL)
    assert node is not None
    return node.level


def fill_disk(cluster: LocalCluster, share: float) -> Path:
    """Somebody else takes so much that what n3 holds is that share of what it could hold."""
    data = cluster.folder / "data" / FULL
    held = sum(path.stat().st_blocks * 512 for name in ("volumes", "records") for path in (data / name).iterdir())
    free = os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
    foreign = data / "foreign"
    with foreign.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - int(held * (1 - share) / share))
    return foreign


def test_a_full_node_is_avoided_and_its_shards_come_home_when_it_has_room(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("full")
    kept = {f"before{n}": put(client, f"before{n}", SMALL) for n in range(40)}
    foreign = fill_disk(cluster, 0.7)
    cluster.wait(is_full, 20, "NODE_FULL")
    held = damage.count(cluster, FULL)
    sizes = {**dict.fromkeys((f"small{n}" for n in range(30)), SMALL), "large0": LARGE, "large1": LARGE}
    for key, size in sizes.items():
        kept[key] = put(client, key, size)
    status = cluster.wait(lambda status: status.objects is not None and status.objects.total == len(kept), 30)
    assert status.objects is not None and status.objects.full == len(kept), "full redundancy, by others"
    assert damage.count(cluster, FULL) == held, "it took nothing"
    status = cluster.status()
    assert "NODE_FULL" in codes(status) and status.verdict == "DEGRADED"
    assert not codes(status) & {"REDUNDANCY_LOW", "REPAIR_BLOCKED", "CLUSTER_FULL"}, status.reasons
    assert status.repair is not None and status.repair.state == "waiting" and FULL in status.repair.reason
    for key in [key for key in kept if key.startswith("before")][:20]:
        client.delete("full", key)
        del kept[key]
    foreign.unlink()
    cluster.wait_healthy(60)  # which it is before the shards are home: others have them
    cluster.wait(lambda _: damage.count(cluster, FULL) > held / 2, 30, "its shards came home")
    assert level(cluster.status()) == "ok"
    for key, data in kept.items():
        assert client.get("full", key) == data, key


@pytest.mark.long
def test_repair_goes_past_a_node_that_takes_no_more(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("full")
    kept = {f"before{n}": put(client, f"before{n}", SMALL) for n in range(40)}
    foreign = fill_disk(cluster, 0.85)
    cluster.wait(lambda status: level(status) in ("backfill", "reserve"), 20, "closed to repair")
    cluster.kill("n5")
    cluster.wait_whole(60)
    for key, data in kept.items():
        assert client.get("full", key) == data, key
    assert "NODE_FULL" in codes(cluster.status()), "and not through that node"
    cluster.start("n5")
    foreign.unlink()
    cluster.wait_healthy(60)
