"""Tables on S3: pyarrow and duckdb."""

from __future__ import annotations

import pytest

from tests.s3.clients.programs import Client, Job, library, python_jobs


@pytest.fixture
def pyarrow(client: Client) -> Job:
    return python_jobs(client, "pyarrow_jobs.py", library("pyarrow"))


@pytest.fixture
def duckdb(client: Client) -> Job:
    return python_jobs(client, "duckdb_jobs.py", library("duckdb"))


def test_pyarrow_partitions(pyarrow: Job) -> None:
    pyarrow("partitioned")


def test_pyarrow_row_groups_and_streams(pyarrow: Job) -> None:
    pyarrow("one_file")


def test_pyarrow_names_and_folders(pyarrow: Job) -> None:
    pyarrow("tree")


def test_duckdb_partitions(duckdb: Job) -> None:
    duckdb("parquet")


def test_duckdb_csv(duckdb: Job) -> None:
    duckdb("csv")
