"""The AWS SDK for JavaScript, version 3."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, javascript_jobs


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
