"""Fixtures: an S3 endpoint and clients of it.

The endpoint is a gateway over the memory engine, unless OBJSTORE_TEST_S3="url access_key secret_key" names a
running one: then the same tests judge a real cluster. Tests that need a gateway of their own (short time-outs,
an engine that fails) make one with `local_gateway`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config

from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Wire


class Endpoint(NamedTuple):
    url: str
    access_key: str
    secret_key: str


def make_client(endpoint: Endpoint, *, verify: str | bool = True, **config: Any) -> Any:
    """A boto3 client that never retries, so that each answer is seen."""
    options = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}, "read_timeout": 30, **config}
    return boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name=REGION,
        verify=verify,
        config=Config(**options),
    )


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[Endpoint]:
    given = os.environ.get("OBJSTORE_TEST_S3")
    if given:
        yield Endpoint(*given.split())
        return
    with local_gateway(MemoryEngine()) as gateway:
        yield Endpoint(gateway.url, ACCESS_KEY, SECRET_KEY)


@pytest.fixture(scope="session")
def s3(s3_endpoint: Endpoint) -> Iterator[Any]:
    client = make_client(s3_endpoint)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    """A new bucket, emptied and removed afterwards."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"])
    for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def wire(s3_endpoint: Endpoint) -> Iterator[Wire]:
    """A raw connection to the endpoint."""
    with Wire.to(s3_endpoint.url, s3_endpoint.access_key, s3_endpoint.secret_key) as connection:
        yield connection
