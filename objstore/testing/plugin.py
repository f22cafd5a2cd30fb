"""The pytest plugin of objstore (entry point `pytest11`): a real S3 cluster as fixtures, started when first used.

def test_upload(s3_client, s3_bucket):
    s3_client.put_object(Bucket=s3_bucket, Key="k", Body=b"v")
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from objstore.testing.cluster import LocalCluster


@pytest.fixture(scope="session")
def s3_cluster() -> Iterator[LocalCluster]:
    """One cluster for the whole run (for each worker, under xdist)."""
    from objstore.testing.cluster import LocalCluster

    with LocalCluster() as cluster:
        cluster.wait_healthy()
        yield cluster


@pytest.fixture
def s3_env(s3_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that SDKs read, set for this test."""
    for name, value in s3_cluster.env.items():
        monkeypatch.setenv(name, value)
    return s3_cluster.env


@pytest.fixture(scope="session")
def s3_client(s3_cluster: LocalCluster) -> Any:
    """A boto3 client (needs boto3)."""
    return s3_cluster.boto3_client()


@pytest.fixture
def s3_bucket(s3_cluster: LocalCluster) -> str:
    """A fresh, empty bucket of its own for each test."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3_cluster.s3_client().create_bucket(name)
    return name
