"""A file system that really fills up: refused at once, in clear words; deletes go on, the space comes back (P8)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from objstore.model.limits import OPERATION_TIMEOUT_S
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import Answer, S3Client
from tests.process import damage
from tests.process.chaos import gateways
from tests.process.load import content
from tests.process.machine import small_disk

MEGABYTES = 260
RESERVE = "8MiB"
LARGE, SMALL = 3_000_000, 2_000
MARGIN_S = 5.0  # of a machine that does other work


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """All data of all members are on it, the coordinator's too; logs are not."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with small_disk(folder / "data", MEGABYTES) as data:
        yield data


@pytest.fixture
def cluster(disk: Path) -> Iterator[LocalCluster]:
    environment = {
        "OBJSTORE_NODE__RESERVE": RESERVE,
        "OBJSTORE_NODE__CAPACITY": f"{MEGABYTES}MiB",
        "OBJSTORE_CLUSTER__PARTITION_BITS": "6",
        "OBJSTORE_REPAIR__GARBAGE_DELAY_S": "1",
    }
    with LocalCluster(6, "4+2", gateways=2, out_after=600, folder=disk.parent, environment=environment) as running:
        running.wait_healthy(60)
        yield running
        running.close(force=True)


class Writer:
    """What was acknowledged, and every other answer in order."""

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.kept: dict[str, bytes] = {}
        self.refused: list[tuple[Answer, float]] = []

    def put(self, key: str, size: int) -> bool:
        data = content(key, size)
        start = time.monotonic()
        answer = self.client.request("PUT", f"/full/{key}", body=data)
        if answer.status == 200:
            self.kept[key] = data
        else:
            self.refused.append((answer, time.monotonic() - start))
        return answer.status == 200

    def fill(self, prefix: str, size: int, at_most: int) -> None:
        """Several at a time, until two in a row are refused."""
        with ThreadPoolExecutor(3) as pool:
            for start in range(0, at_most, 3):
                done = list(pool.map(lambda n: self.put(f"{prefix}{n}", size), range(start, start + 3)))
                if not any(done):
                    return
        raise AssertionError(f"{at_most} objects of {size} bytes did not fill {MEGABYTES} MB")

    def check_refusals(self) -> None:
        assert self.refused
        for answer, seconds in self.refused:
            assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
            assert "ull" in answer.find("Message") or "No room" in answer.find("Message"), answer
            assert seconds < OPERATION_TIMEOUT_S + MARGIN_S
        self.refused.clear()

    def check_all(self) -> None:
        for key, data in self.kept.items():
            assert self.client.get("full", key) == data, key
        assert set(self.client.keys("full")) == set(self.kept)

    def delete_some(self) -> None:
        for key in sorted(self.kept)[::2]:
            self.client.delete("full", key)
            del self.kept[key]


def test_a_full_disk_refuses_writes_deletes_go_on_and_the_space_comes_back(cluster: LocalCluster, disk: Path) -> None:
    with gateways(cluster) as clients:
        clients["g1"].create_bucket("full")
        writer = Writer(clients["g1"])
        writer.fill("large", LARGE, 200)
        writer.check_refusals()
        writer.check_all()
        exhaust(disk)  # by somebody else, to the last byte: the reserve does not help any more
        for number in range(6):
            assert not writer.put(f"none{number}", LARGE)
        writer.fill("small", SMALL, 3000)  # into the pages that the indexes have, and no further
        writer.check_refusals()
        writer.check_all()
        (disk / "foreign").unlink()
        writer.delete_some()
        writer.check_all()
        until = time.monotonic() + 60
        while not writer.put("again", LARGE) and time.monotonic() < until:
            time.sleep(0.2)
        assert "again" in writer.kept, "the space of what was deleted did not come back within a minute"
        writer.check_refusals() if writer.refused else None
        for turn in range(30):  # it comes back node by node, and the first that has room is not all
            writer.fill(f"more{turn}-", LARGE, 200)
            if sum(key.startswith("more") for key in writer.kept) > 5:
                break
            time.sleep(0.5)
        else:
            raise AssertionError("hardly any of the space came back")
        writer.check_all()
        writer.delete_some()  # what the last room let be written without one of its shards gets it now
    cluster.wait_healthy(60)  # nothing half written: every object has all its shards
    assert damage.scrub(cluster) == 0


@pytest.mark.long
def test_a_body_that_does_not_fit_is_refused_in_its_midst_and_leaves_nothing(cluster: LocalCluster) -> None:
    with gateways(cluster) as clients:
        client = clients["g1"]
        client.create_bucket("full")
        client.put("full", "small", content("small", LARGE))
        cluster.wait_healthy(60)
        data = content("large", 1_000_000) * 220  # of several segments: the first ones fit
        start = time.monotonic()
        answer = client.request("PUT", "/full/large", body=data)
        assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
        assert time.monotonic() - start < 30
        assert list(client.keys("full")) == ["small"]
        cluster.wait(lambda status: used_bytes(cluster) < 3 * LARGE, 30, "empty again")
        client.put("full", "again", content("again", LARGE))
        cluster.wait_healthy(60)


def used_bytes(cluster: LocalCluster) -> int:
    return sum(node.used_bytes or 0 for node in cluster.status().nodes)


def exhaust(disk: Path) -> None:
    with (disk / "foreign").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                os.fsync(file.fileno())
