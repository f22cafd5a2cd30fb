"""Volumes that rot, shrink, vanish or change places on m nodes: every byte read is right, and all is repaired."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from tests.process import damage
from tests.process.faults import Faults
from tests.process.load import content
from tests.process.outages import Outages

TWO = ("n3", "n6")
SIZES = (40_000, 70_000, 300_000, 1_048_576, 1_500_000, 3_000_000)
OBJECTS = {f"k{number}": content(f"k{number}", SIZES[number % len(SIZES)]) for number in range(36)}


@pytest.fixture(scope="module")
def _cluster() -> Iterator[LocalCluster]:
    few = {"OBJSTORE_CLUSTER__PARTITION_BITS": "6"}  # a look through all of them takes a moment then
    with LocalCluster(8, "4+2", out_after=600, environment=few) as running:
        running.wait_healthy(60)
        client = running.s3_client()
        client.create_bucket("rot")
        for key, data in OBJECTS.items():
            client.put("rot", key, data)
        yield running


@pytest.fixture
def cluster(_cluster: LocalCluster) -> LocalCluster:
    _cluster.wait_healthy(60)
    return _cluster


def read_everything(client: S3Client) -> None:
    """Whole, and in ranges that begin and end anywhere."""
    chance = random.Random(1)
    for key, data in OBJECTS.items():
        assert client.get("rot", key) == data, key
        for _ in range(3):
            first = chance.randrange(len(data))
            last = min(len(data) - 1, first + chance.choice((0, 1, 4096, 300_000)))
            answer = client.request("GET", f"/rot/{key}", headers={"Range": f"bytes={first}-{last}"})
            assert (answer.status, answer.body) == (206, data[first : last + 1]), (key, first, last)


def flip(cluster: LocalCluster) -> None:
    """One bit of every fragment of both nodes."""
    assert spoil_all(cluster) >= len(OBJECTS)


def spoil_all(cluster: LocalCluster) -> int:
    chance = random.Random(2)
    return sum(damage.rot(volume, chance) for name in TWO for volume in volumes(cluster, name))


def shorten(cluster: LocalCluster) -> None:
    chance = random.Random(3)
    for name in TWO:
        for volume in volumes(cluster, name):
            damage.cut(volume, chance)


def remove(cluster: LocalCluster) -> None:
    for name in TWO:
        for volume in volumes(cluster, name):
            volume.unlink()


def change_places(cluster: LocalCluster) -> None:
    """A whole volume of the one under the name of one of the other, while neither runs."""
    cluster.kill(*TWO)
    damage.swap(volumes(cluster, TWO[0])[0], volumes(cluster, TWO[1])[0])
    cluster.start(*TWO)


def volumes(cluster: LocalCluster, name: str) -> list[Path]:
    return damage.volumes(cluster.folder / "data" / name)


@pytest.mark.parametrize(
    "harm", [flip, *(pytest.param(harm, marks=pytest.mark.long) for harm in (change_places, shorten, remove))]
)
def test_damage_on_two_nodes_is_never_served_and_always_repaired(
    cluster: LocalCluster, harm: Callable[[LocalCluster], None]
) -> None:
    client = cluster.s3_client()
    harm(cluster)
    read_everything(client)
    cluster.wait(lambda status: all(node.state == "up" for node in status.nodes), 60, "all up")
    damage.scrub(cluster, *TWO)
    Faults(cluster, Outages(), random.Random(0)).heal()
    assert damage.scrub(cluster) == 0
    cluster.kill("n1", "n8")  # two others: what was rebuilt has to be real
    read_everything(client)
    cluster.start("n1", "n8")


def test_a_read_that_meets_damage_has_it_repaired_without_any_other_help(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    fragments = sum(damage.count(cluster, name) for name in TWO)
    spoil_all(cluster)
    read_everything(client)
    left = damage.scrub(cluster, *TWO)
    assert left < fragments * 0.7  # reads meet the shards of data, two of three; the rest is for the scrub
    Faults(cluster, Outages(), random.Random(0)).heal()
