"""What is done with duckdb and its httpfs: run as `duckdb_jobs.py JOB`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import duckdb
import duckdb_extension_httpfs

BUCKET = os.environ["BUCKET"]


def connect() -> duckdb.DuckDBPyConnection:
    (httpfs,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    endpoint = os.environ["AWS_ENDPOINT_URL"].partition("://")[2]
    connection = duckdb.connect()
    connection.execute(f"LOAD '{httpfs}'")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}',"
        f" SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', ENDPOINT '{endpoint}',"
        " REGION 'us-east-1', URL_STYLE 'path', USE_SSL false)"
    )
    return connection


def parquet() -> None:
    """Partitions written, listed by a glob and read by ranges."""
    with connect() as duck:
        duck.execute(
            "COPY (SELECT range AS n, range % 3 AS part, hash(range) AS h FROM range(600000))"
            f" TO 's3://{BUCKET}/set' (FORMAT parquet, PARTITION_BY (part))"
        )
        source = f"read_parquet('s3://{BUCKET}/set/*/*.parquet', hive_partitioning = true)"
        assert duck.sql(f"SELECT count(*), sum(n) FROM {source}").fetchone() == (600000, 600000 * 599999 // 2)
        assert duck.sql(f"SELECT n FROM {source} WHERE part = 1 AND n < 10 ORDER BY n").fetchall() == [(1,), (4,), (7,)]
        assert duck.sql(f"SELECT count(DISTINCT h) FROM {source} WHERE part = 2").fetchone() == (200000,)


def csv() -> None:
    """One file of several parts, written and read as text."""
    with connect() as duck:
        duck.execute(
            f"COPY (SELECT range AS n, sha256(range::VARCHAR) AS s FROM range(200000)) TO 's3://{BUCKET}/a b.csv'"
        )
        assert duck.sql(f"SELECT count(*), max(n) FROM 's3://{BUCKET}/a b.csv'").fetchone() == (200000, 199999)
        duck.execute(f"COPY (SELECT 1 AS n) TO 's3://{BUCKET}/a b.csv'")
        assert duck.sql(f"SELECT n FROM 's3://{BUCKET}/a b.csv'").fetchall() == [(1,)]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
