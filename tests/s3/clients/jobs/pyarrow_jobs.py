"""What programs do with pyarrow, whose S3 client is the C++ SDK: run as `pyarrow_jobs.py JOB`."""

from __future__ import annotations

import os
import sys

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

BUCKET = os.environ["BUCKET"]
ROWS = 300_000


def filesystem() -> fs.S3FileSystem:
    return fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"].partition("://")[2],
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )


def table() -> pa.Table:
    numbers = list(range(ROWS))
    return pa.table({"n": numbers, "square": [n * n for n in numbers], "year": [2020 + n % 3 for n in numbers]})


def partitioned() -> None:
    """Written by year; read back: one column, a filter that needs one folder only."""
    s3 = filesystem()
    ds.write_dataset(table(), f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["year"])
    back = ds.dataset(f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["year"])
    assert len(back.files) == 3 and back.count_rows() == ROWS
    found = back.to_table(columns=["n"], filter=(ds.field("year") == 2021) & (ds.field("n") < 10))
    assert sorted(found["n"].to_pylist()) == [1, 4, 7]
    assert back.to_table().sort_by("n").select(["n", "square"]).equals(table().select(["n", "square"]))


def one_file() -> None:
    """Some row groups and columns of a file of several parts: read by ranges."""
    s3 = filesystem()
    pq.write_table(table(), f"{BUCKET}/one.parquet", filesystem=s3, row_group_size=50_000, compression="none",
                   use_dictionary=False)  # fmt: skip
    assert s3.get_file_info(f"{BUCKET}/one.parquet").size > 5 << 20
    with s3.open_input_file(f"{BUCKET}/one.parquet") as source:
        file = pq.ParquetFile(source, pre_buffer=True)
        assert file.num_row_groups == 6
        assert file.read_row_group(5, columns=["square"])["square"][0].as_py() == 250_000**2
    with s3.open_output_stream(f"{BUCKET}/stream") as stream:
        for start in range(12):
            stream.write(bytes([start]) * (1 << 20))
    with s3.open_input_file(f"{BUCKET}/stream") as source:
        assert source.size() == 12 << 20 and source.read_at(2, (5 << 20) - 1) == b"\x04\x05"


def tree() -> None:
    s3 = filesystem()
    s3.create_dir(f"{BUCKET}/empty")
    assert s3.get_file_info(f"{BUCKET}/empty").type == fs.FileType.Directory
    for name in ("a/1", "a/b/2"):
        with s3.open_output_stream(f"{BUCKET}/{name}", metadata={"Content-Type": "text/plain"}) as stream:
            stream.write(name.encode())
    names = {info.path for info in s3.get_file_info(fs.FileSelector(f"{BUCKET}/a", recursive=True))}
    assert names == {f"{BUCKET}/a/1", f"{BUCKET}/a/b", f"{BUCKET}/a/b/2"}, names
    s3.move(f"{BUCKET}/a/1", f"{BUCKET}/c")
    s3.copy_file(f"{BUCKET}/c", f"{BUCKET}/d e")
    with s3.open_input_stream(f"{BUCKET}/d e") as stream:
        assert stream.read() == b"a/1"
    s3.delete_dir(f"{BUCKET}/a")
    assert s3.get_file_info(f"{BUCKET}/a/b/2").type == fs.FileType.NotFound
    s3.create_dir(f"{BUCKET}-2")
    s3.delete_dir(f"{BUCKET}-2")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    fs.finalize_s3()
