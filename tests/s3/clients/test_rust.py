"""Clients in Rust: object_store (by obstore) and OpenDAL."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, library, python_jobs


@pytest.fixture
def obstore(client: Client) -> Job:
    return python_jobs(client, "obstore_jobs.py", library("obstore"))


def test_obstore_transfer(obstore: Job) -> None:
    obstore("transfer")


def test_obstore_conditional_writes(obstore: Job) -> None:
    obstore("conditional")


def test_opendal_transfer(client: Client) -> None:
    python_jobs(client, "opendal_jobs.py", library("opendal"))("transfer")
