"""The status never says HEALTHY while a shard is missing: held against what lies in the volumes of nodes that live."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from objstore.codec.envelope import envelope_length, shape_of, verify_body
from objstore.model.errors import Corrupt
from objstore.testing.cluster import LocalCluster
from objstore.testing.damage import Place, envelopes_of
from tests.process.load import content

SIZES = (40_000, 200_000, 700_000)
OBJECTS = {f"k{number}": content(f"k{number}", SIZES[number % len(SIZES)]) for number in range(30)}
SHARDS = 6


class Watch:
    """Samples of the status, and of the truth, with the moments between which each was taken."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.healthy: list[tuple[float, float]] = []
        self.other = 0
        self.missing: list[tuple[float, float]] = []
        self.gone: set[str] = set()
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._ask, self._look)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            if self._cluster.status().verdict == "HEALTHY":
                self.healthy.append((begin, time.monotonic()))
            else:
                self.other += 1

    def _look(self) -> None:
        """A shard that two looks in a row did not find was missing all the time between them: it came back by a
        rebuild, which is not undone, or a node that returned, and `gone` is changed before it is started."""
        before: tuple[float, set[tuple[bytes, int]]] | None = None
        while not self._stop.is_set():
            begin, gone = time.monotonic(), set(self.gone)
            lost = missing({name: self._cluster.folder / "data" / name for name in self._cluster.node_names}, gone)
            if before is not None and before[1] & lost and gone == self.gone:
                self.missing.append((before[0], begin))
            before = (time.monotonic(), lost) if gone == self.gone else None

    def lies(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """HEALTHY was said by a look that began and ended while a shard was missing."""
        return [
            (said, truth)
            for said in self.healthy
            for truth in self.missing
            if truth[0] <= said[0] and said[1] <= truth[1]
        ]


def missing(folders: dict[str, Path], gone: set[str]) -> set[tuple[bytes, int]]:
    """(blob, shard) of live objects that no node that lives has a good envelope of."""
    found: dict[bytes, set[int]] = {}
    for name, folder in folders.items():
        for volume in sorted(folder.rglob("*.vol")) if folder.exists() else ():
            for place in _places(name, volume):
                shards = found.setdefault(place.header.blob, set())
                if name not in gone and _is_good(place):
                    shards.add(place.header.shard)
    return {(blob, shard) for blob, shards in found.items() for shard in range(SHARDS) if shard not in shards}


def _places(name: str, volume: Path) -> list[Place]:
    try:
        return list(envelopes_of(name, volume)) if volume.stat().st_size else []
    except (OSError, ValueError):
        return []  # erased meanwhile


def _is_good(place: Place) -> bool:
    body = shape_of(place.header).body_length(place.header.shard)
    try:
        with place.path.open("rb") as file:
            file.seek(place.body)
            verify_body(place.header, file.read(body))
    except (Corrupt, OSError):
        return False
    return envelope_length(place.header) > body


def run(cluster: LocalCluster, *words: str) -> str:
    command = [sys.executable, "-m", "objstore", *words, "--data", str(cluster.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def steps(cluster: LocalCluster, watch: Watch) -> list[Callable[[], None]]:
    def lose(*names: str) -> None:
        cluster.kill(*names)
        watch.gone.update(names)

    def back(*names: str) -> None:
        watch.gone.difference_update(names)
        cluster.start(*names)

    def kill_one() -> None:
        lose("n2")
        cluster.wait_whole(60)
        back("n2")

    def kill_two_shortly() -> None:
        lose("n1", "n5")
        time.sleep(1.5)
        back("n1", "n5")

    def wipe() -> None:
        watch.gone.add("n3")
        cluster.wipe("n3")
        cluster.start("n3")
        watch.gone.discard("n3")

    def pause_repair_and_kill() -> None:
        run(cluster, "repair", "pause")
        lose("n4")
        cluster.wait(lambda status: (n4 := status.node("n4")) is not None and n4.state in ("down", "out"), 30)
        time.sleep(5)
        assert cluster.status().repair.state == "paused"  # type: ignore[union-attr]
        run(cluster, "repair", "resume")
        cluster.wait_whole(60)
        back("n4")

    def drain() -> None:
        run(cluster, "node", "drain", "n7")
        revision = json.loads(run(cluster, "plan", "show", "--json"))["revision"]
        run(cluster, "plan", "apply", "--if-rev", str(revision), "--wait", "--timeout", "100")

    return [kill_one, kill_two_shortly, wipe, pause_repair_and_kill, drain]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_it_never_says_healthy_while_a_shard_is_missing() -> None:
    few = {"OBJSTORE_CLUSTER__PARTITION_BITS": "6"}
    with LocalCluster(9, "4+2", repairers=2, out_after=2.0, environment=few) as cluster:
        cluster.wait_healthy(60)
        client = cluster.s3_client()
        client.create_bucket("truth")
        for key, data in OBJECTS.items():
            client.put("truth", key, data)
        cluster.wait_healthy(60)
        with Watch(cluster) as watch:
            for step in steps(cluster, watch):
                step()
                cluster.wait_healthy(90)
        assert watch.missing and watch.healthy and watch.other
        assert not watch.lies()
        for key, data in OBJECTS.items():
            assert client.get("truth", key) == data
