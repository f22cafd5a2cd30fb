"""boto3, before and since it sends checksums unasked."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, library, python_jobs


@pytest.fixture(params=["1.35", "newest"])
def boto3(client: Client, request: pytest.FixtureRequest) -> Job:
    return python_jobs(
        client, "boto3_jobs.py", None if request.param == "newest" else library(f"boto3-{request.param}")
    )


def test_versions_are_those_that_are_meant(client: Client) -> None:
    assert python_jobs(client, "boto3_jobs.py", library("boto3-1.35"))("version").startswith("1.35.")
    assert tuple(map(int, python_jobs(client, "boto3_jobs.py")("version").split("."))) >= (1, 36)


def test_transfer(boto3: Job) -> None:
    boto3("transfer")


def test_payload_modes(boto3: Job) -> None:
    boto3("payload_modes")


def test_presigned_urls(boto3: Job) -> None:
    boto3("presign")


def test_post_form(boto3: Job) -> None:
    boto3("post_form")


def test_versions(boto3: Job) -> None:
    boto3("versions")


def test_listing(boto3: Job) -> None:
    boto3("listing")


def test_configuration(boto3: Job) -> None:
    boto3("configuration")


def test_conditional_writes(boto3: Job) -> None:
    boto3("conditional")


def test_customer_keys(boto3: Job) -> None:
    boto3("customer_keys")


def test_transfer_by_the_common_runtime(client: Client) -> None:
    python_jobs(client, "crt_jobs.py")("transfer")
