"""`objstore node` and `objstore plan` on real processes: nodes come and go under load and kills; every byte stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from objstore.testing.cluster import LocalCluster
from objstore.testing.traffic import Traffic
from tests.process.test_cluster import body, boto3, read_all


class Operator:
    """Types commands."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.environment = {**os.environ, "OBJSTORE_DATA": str(cluster.folder)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "objstore", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{' '.join(words)}: {process.returncode}\n{out}\n{err}"
        return out or err

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))

    def states(self) -> dict[str, str]:
        return {node["name"]: node["state"] for node in self.json("node", "list")}

    def apply(self, *flags: str, code: int = 0) -> str:
        revision = self.json("plan", "show")["revision"]
        return self.run("plan", "apply", "--if-rev", str(revision), *flags, code=code)


def fill(cluster: LocalCluster, count: int) -> Any:
    s3 = boto3(cluster)
    s3.create_bucket(Bucket="bkt")
    for number in range(count):
        s3.put_object(Bucket="bkt", Key=f"k{number}", Body=body(number))
    return s3


def test_a_node_is_added_and_another_drained_and_removed(tmp_path: Path) -> None:
    with LocalCluster(nodes=4, ec="2+1", folder=tmp_path / "c") as cluster:
        s3 = fill(cluster, 24)
        operator = Operator(cluster)
        cluster.add_node("n5", zone="z5")
        cluster.wait(lambda status: (n5 := status.node("n5")) is not None and n5.state == "spare", 10, "a spare")
        shown = operator.json("node", "add", "n5")
        assert shown["state"] == "staged" and shown["preview"]["ratio"] <= 1.05 and not shown["refused"]
        operator.run("node", "drain", "n2")
        operator.run("plan", "apply", "--if-rev", str(shown["revision"]), code=7)  # another change came in between
        operator.apply("--wait", "--timeout", "60")
        assert operator.states() == {"n1": "up", "n2": "drained", "n3": "up", "n4": "up", "n5": "up"}
        operator.run("node", "ok-to-stop", "n2", "n3")
        assert "unreadable" in operator.run("node", "ok-to-stop", "n1", "n3", code=6)
        operator.run("node", "remove", "n2")
        operator.apply("--wait", "--timeout", "60")
        assert operator.states()["n2"] == "spare"
        cluster.retire_node("n2")
        cluster.wait_healthy()
        read_all(s3, 24)


def test_what_is_unsafe_is_refused_with_its_reason(tmp_path: Path) -> None:
    with LocalCluster(nodes=4, ec="2+1", folder=tmp_path / "c", out_after=60.0) as cluster:
        fill(cluster, 8)
        operator = Operator(cluster)
        cluster.kill("n1")
        cluster.wait(lambda status: bool(status.objects and status.objects.minimum), 20, "the data were looked at")
        operator.run("node", "drain", "n2")
        assert "no shard to spare" in operator.apply(code=6)
        assert operator.json("plan", "show")["can_force"]
        operator.run("plan", "discard")
        operator.run("node", "remove", "n1")
        assert "not at full redundancy" in operator.apply(code=6)
        operator.run("plan", "discard")
        assert "no plan" in operator.run("plan", "show")


@pytest.mark.long
def test_nodes_come_and_go_under_load_with_kills_in_between(tmp_path: Path) -> None:
    with LocalCluster(nodes=8, repairers=2, folder=tmp_path / "c") as cluster:
        s3 = fill(cluster, 120)
        operator = Operator(cluster)
        with Traffic(cluster.s3_client(), "bkt") as traffic:
            for name in ("n9", "n10"):
                cluster.add_node(name)
            operator.run("node", "add", "n9", "n10")
            operator.apply()
            cluster.kill("n4", "r1")
            cluster.start("n4", "r1")
            operator.run("plan", "wait", "--timeout", "90")
            operator.run("node", "drain", "n2")
            command = operator.start(
                "plan", "apply", "--if-rev", str(operator.json("plan", "show")["revision"]), "--wait"
            )
            cluster.kill("r2", "c1")
            cluster.start("c1", "r2")
            command.kill()
            command.communicate()
            if operator.json("plan", "show")["state"] == "staged":
                operator.apply()
            operator.run("plan", "wait", "--timeout", "90")
            cluster.add_node("n11")
            cluster.kill("n5")
            operator.run("node", "replace", "n5", "n11")
            operator.apply("--wait", "--timeout", "90")
        assert operator.states()["n11"] == "up" and operator.states()["n5"] == "gone"
        operator.run("node", "remove", "n5")
        operator.apply("--wait", "--timeout", "90")
        assert "n5" not in operator.states()
        cluster.wait_whole()
        read_all(s3, 120)
        traffic.read_all_again()
        assert traffic.wrong == 0 and traffic.objects > 10, traffic.errors
