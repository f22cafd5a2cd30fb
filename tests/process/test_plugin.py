"""The pytest plugin, in a pytest run of its own, as a project that uses objstore would have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TEST = """
import os

def test_round_trip(s3_client, s3_bucket, s3_env):
    s3_client.put_object(Bucket=s3_bucket, Key="k", Body=b"v")
    assert s3_client.get_object(Bucket=s3_bucket, Key="k")["Body"].read() == b"v"
    assert os.environ["AWS_ENDPOINT_URL"] == s3_env["AWS_ENDPOINT_URL"]

def test_a_bucket_of_its_own(s3_client, s3_bucket):
    assert s3_client.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0
"""


def test_the_fixtures_give_a_cluster_and_a_fresh_bucket_per_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TEST)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
    assert not list(tmp_path.glob("objstore-*")), "the cluster's folder is left"
