"""s3fs: what fsspec, pandas and dask open s3:// with."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, library, python_jobs


@pytest.fixture
def s3fs(client: Client) -> Job:
    return python_jobs(client, "s3fs_jobs.py", library("s3fs"))


def test_write_read_and_append(s3fs: Job) -> None:
    s3fs("write_and_read")


def test_names_and_folders(s3fs: Job) -> None:
    s3fs("tree")


def test_versions_tags_and_presign(s3fs: Job) -> None:
    s3fs("metadata")
