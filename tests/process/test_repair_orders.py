"""What an operator sees of repair and orders it to do, by the commands themselves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from objstore.testing.cluster import LocalCluster
from tests.process.load import content

OBJECTS = {f"a/k{number}": content(f"k{number}", 300_000) for number in range(12)}


def objstore(cluster: LocalCluster, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "objstore", *words, "--data", str(cluster.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.long
def test_pause_look_at_the_damage_resume_and_read_the_receipt(cluster: LocalCluster) -> None:
    client = cluster.s3_client()
    client.create_bucket("photos")
    for key, data in OBJECTS.items():
        client.put("photos", key, data)
    cluster.wait_healthy(30)
    assert "nothing is hurt" in objstore(cluster, "damage", "list")
    assert "6/6 shards readable" in objstore(cluster, "damage", "show", "photos/a/k1", "--verify")

    said = objstore(cluster, "repair", "pause", "30m")
    assert "repair is paused for 30m" in said
    cluster.kill("n1")
    hurt = cluster.wait(lambda s: bool(s.objects and s.objects.reduced) and "n1" in str(s.reasons), 30)
    assert hurt.verdict != "HEALTHY" and "REPAIR_PAUSED" in [reason.code for reason in hurt.reasons]
    cluster.wait(lambda s: s.node("n1").state == "out", 30)  # type: ignore[union-attr]
    paused = cluster.status().repair
    assert paused is not None and paused.state == "paused" and "min" in paused.reason and paused.bytes_done == 0
    listed = json.loads(objstore(cluster, "damage", "list", "--json", "--limit", "100", code=3))
    assert listed["total"] == len(listed["items"]) > 0
    worst = next(one for one in listed["items"] if one["kind"] == "reduced")
    name = f"{worst['bucket']}/{worst['key']}"
    assert name.removeprefix("photos/") in OBJECTS and worst["readable"] == 5
    shown = json.loads(objstore(cluster, "damage", "show", name, "--json", code=3))
    states = [shard["state"] for shard in shown["segments"][0]["shards"]]
    assert shown["readable"] and not shown["whole"] and sorted(states)[-1] == "ok" and len(set(states)) == 2

    objstore(cluster, "repair", "budget", "200MiB")
    assert "200 MiB/s at most" in objstore(cluster, "repair", "budget")
    objstore(cluster, "repair", "resume")
    whole = cluster.wait_whole(60)
    assert whole.receipt is not None and whole.receipt.objects > 0 and whole.receipt.kind == "repair"
    assert "Repair finished" in objstore(cluster, "repair", "status")
    assert "nothing has failed" in objstore(cluster, "repair", "failed")
    objstore(cluster, "repair", "budget", "default")
    assert objstore(cluster, "repair", "budget").startswith("auto")
    objstore(cluster, "repair", "now")
    objstore(cluster, "repair", "now", name)


def test_orders_are_followed_and_shown(shared: LocalCluster) -> None:
    assert "budget      auto" in objstore(shared, "repair", "status")
    assert "paused by an operator for 1 h" in objstore(shared, "repair", "pause", "90m")
    assert "REPAIR_PAUSED" in [reason.code for reason in shared.status().reasons]
    assert "idle" in objstore(shared, "repair", "resume")


def test_wrong_orders_are_refused_with_a_word_on_what_is_right(shared: LocalCluster) -> None:
    assert "for example 90s" in objstore(shared, "repair", "pause", "soon", code=2)
    assert '"auto" or "unlimited", or default' in objstore(shared, "repair", "budget", "fast", code=2)
    assert "write BUCKET/KEY" in objstore(shared, "repair", "now", "photo", code=2)
    assert "does not exist" in objstore(shared, "damage", "show", "no-such-bucket/key", code=1)
