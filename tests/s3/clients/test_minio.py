"""minio-py."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, library, python_jobs


@pytest.fixture
def minio(client: Client) -> Job:
    return python_jobs(client, "minio_jobs.py", library("minio"))


def test_transfer_copy_and_compose(minio: Job) -> None:
    minio("transfer")


def test_listing(minio: Job) -> None:
    minio("listing")


def test_listing_with_metadata(minio: Job) -> None:
    minio("listing_with_metadata")


def test_presigned_urls(minio: Job) -> None:
    minio("presign")


def test_post_form(minio: Job) -> None:
    minio("post_form")


def test_versions(minio: Job) -> None:
    minio("versions")


def test_tags(minio: Job) -> None:
    minio("tags")


def test_retention(minio: Job) -> None:
    minio("retention")


def test_lifecycle_and_encryption(minio: Job) -> None:
    minio("lifecycle")


def test_assume_role(minio: Job) -> None:
    minio("assume_role")
