"""The scrub on real processes: what rotted, was swapped or vanished on disks is found, told, and made anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from objstore.admin.status import Status
from objstore.codec.envelope import encode_header, envelope_length
from objstore.node.volumes import padded
from objstore.testing.cluster import LocalCluster
from objstore.testing.damage import Place, envelopes_of
from tests.process import damage
from tests.process.load import content

OBJECTS, SIZE = 24, 150_000


def objstore(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "objstore", *arguments]
    return subprocess.run(command, env={**os.environ, **cluster.env}, capture_output=True, text=True, timeout=120)


def scrub_status(cluster: LocalCluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(objstore(cluster, "scrub", "status", "--json").stdout)
    return found


def places(cluster: LocalCluster, name: str) -> list[Place]:
    """Envelopes on a node, in order of the medium."""
    data = cluster.folder / "data" / name
    return [place for path in damage.volumes(data) for place in envelopes_of(name, path)]


def start(place: Place) -> int:
    return place.body - len(encode_header(place.header))


def rot(place: Place) -> None:
    with place.path.open("r+b") as file:
        file.seek(place.body + 100)
        byte = file.read(1)[0]
        file.seek(place.body + 100)
        file.write(bytes((byte ^ 4,)))


def overwrite(place: Place, other: Place) -> None:
    """As a disk that wrote in the wrong place."""
    with place.path.open("r+b") as file, other.path.open("rb") as source:
        source.seek(start(other))
        raw = source.read(min(envelope_length(other.header), envelope_length(place.header)))
        file.seek(start(place))
        file.write(raw)


def blank(place: Place) -> None:
    with place.path.open("r+b") as file:
        file.seek(start(place))
        file.write(bytes(padded(envelope_length(place.header))))


def has_shard_corrupt(status: Status) -> bool:
    return any(reason.code == "SHARD_CORRUPT" for reason in status.reasons)


def fill(cluster: LocalCluster) -> dict[str, bytes]:
    client = cluster.s3_client()
    client.create_bucket("scrub")
    kept = {f"k{number}": content(f"k{number}", SIZE) for number in range(OBJECTS)}
    for key, data in kept.items():
        client.put("scrub", key, data)
    return kept


def check(cluster: LocalCluster, kept: dict[str, bytes]) -> None:
    client = cluster.s3_client()
    for key, data in kept.items():
        assert client.get("scrub", key) == data, key


def test_each_kind_of_damage_is_found_told_and_made_anew(tmp_path: Path) -> None:
    with LocalCluster(6, "4+2", folder=tmp_path / "c") as cluster:
        kept = fill(cluster)
        cluster.wait_healthy(60)
        one = places(cluster, "n1")
        rot(one[0])
        overwrite(one[1], one[2])
        blank(one[3])
        rot(places(cluster, "n2")[-1])
        answer = objstore(cluster, "scrub", "start", "--wait", "--json", "--timeout", "60s")
        assert answer.returncode == 3, answer
        found = json.loads(answer.stdout)["found"]
        assert found["n1"] == {"corrupt": 1, "misplaced": 1, "missing": 1, "records": 0}
        assert found["n2"] == {"corrupt": 1, "misplaced": 0, "missing": 0, "records": 0}
        assert sum(sum(counts.values()) for counts in found.values()) == 4
        cluster.wait(lambda status: not has_shard_corrupt(status) and status.verdict == "HEALTHY", 60)
        assert damage.scrub(cluster) == 0
        check(cluster, kept)


@pytest.mark.long
def test_damage_is_never_called_healthy_and_a_whole_node_of_it_is_made_anew(tmp_path: Path) -> None:
    with LocalCluster(7, "4+2", folder=tmp_path / "c") as cluster:
        kept = fill(cluster)
        cluster.wait_healthy(60)
        for place in places(cluster, "n3"):
            rot(place)
        cluster.kill("r1")  # so that nobody repairs before we have looked
        assert objstore(cluster, "scrub", "start").returncode == 0
        cluster.wait(has_shard_corrupt, 60, "SHARD_CORRUPT")
        cluster.start("r1")
        cluster.wait_healthy(90)
        assert not has_shard_corrupt(cluster.status())
        again = objstore(cluster, "scrub", "start", "--wait", "--json")
        assert again.returncode == 0, again
        nodes = {node["name"]: node for node in scrub_status(cluster)["nodes"]}
        assert nodes["n3"]["last"]["found"]["corrupt"] == 0 and nodes["n3"]["found_ever"]["corrupt"] > 5
        check(cluster, kept)


@pytest.mark.long
def test_a_round_outlives_restarts_and_is_steered_from_anywhere(tmp_path: Path) -> None:
    slow = {"OBJSTORE_NODE__SCRUB": "60KiB"}
    with LocalCluster(6, "4+2", folder=tmp_path / "c", environment=slow) as cluster:
        fill(cluster)
        assert objstore(cluster, "scrub", "start").returncode == 0
        cluster.wait(lambda status: scrub_status(cluster)["nodes"][0]["done_bytes"] > 150_000, 60)
        assert objstore(cluster, "scrub", "pause", "1h").returncode == 0
        cluster.wait(lambda status: all(n["state"] == "paused" for n in scrub_status(cluster)["nodes"]), 20)
        before = {node["name"]: node for node in scrub_status(cluster)["nodes"]}
        cluster.restart("n1")
        cluster.restart("c1")
        cluster.wait(lambda status: len(scrub_status(cluster)["nodes"]) == 6, 30)
        cluster.wait(lambda status: all(n["state"] == "paused" for n in scrub_status(cluster)["nodes"]), 20)
        after = {node["name"]: node for node in scrub_status(cluster)["nodes"]}
        assert after["n1"]["done_bytes"] >= before["n1"]["done_bytes"] > 0
        assert after["n1"]["started_ms"] == before["n1"]["started_ms"]
        assert objstore(cluster, "scrub", "rate", "50MiB/s").returncode == 0
        assert objstore(cluster, "scrub", "resume").returncode == 0

        def has_finished(status: Status) -> bool:
            """The round of before, not another."""
            nodes = scrub_status(cluster)["nodes"]
            return all(node["last"]["started_ms"] == before[node["name"]]["started_ms"] for node in nodes)

        cluster.wait(has_finished, 30, "through")
