"""The AWS SDK for JavaScript, version 3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.clients.programs import Client, Job, javascript_jobs, make_role


@pytest.fixture
def javascript(client: Client) -> Job:
    return javascript_jobs(client, "javascript_jobs.cjs")


def test_transfer_in_parts_and_streams(javascript: Job) -> None:
    javascript("transfer")


def test_aborted_upload(javascript: Job) -> None:
    javascript("aborted_upload")


def test_presigned_urls(javascript: Job) -> None:
    javascript("presign")


def test_listing(javascript: Job) -> None:
    javascript("listing")


def test_versions_and_conditions(javascript: Job) -> None:
    javascript("versions")


def test_role_of_a_profile(client: Client, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"for readers")
    make_role(client, f"role-{bucket}")
    environment = {name: value for name, value in client.environment.items() if "KEY" not in name}
    javascript_jobs(Client(client.home, {**environment, "AWS_PROFILE": "role"}), "javascript_jobs.cjs")("role")
