"""The tests of the protocol, on a cluster one of whose nodes is dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from objstore.testing.cluster import LocalCluster
from tests.meta.source import ROOT

TESTS = ("tests/s3", "--ignore", "tests/s3/clients")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_s3_suite_holds_on_a_real_cluster() -> None:
    """tests/s3 judges the gateway on an engine in memory; here the same tests judge all of it."""
    with LocalCluster(8, "4+2", out_after=600) as cluster:
        cluster.wait_healthy(30)
        cluster.kill("n2")
        env = cluster.env
        given = f"{cluster.endpoint} {env['AWS_ACCESS_KEY_ID']} {env['AWS_SECRET_ACCESS_KEY']}"
        suite = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", *TESTS],
            cwd=ROOT, env={**os.environ, "OBJSTORE_TEST_S3": given}, capture_output=True, text=True, timeout=580,
        )  # fmt: skip
    assert suite.returncode == 0, suite.stdout[-5000:]
