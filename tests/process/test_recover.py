"""All metadata indexes are deleted, on real processes and real disks, and everything comes back byte for byte."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest

from objstore.testing.s3client import S3Client
from tests.process.conftest import Objstore
from tests.process.test_up import UP, client_of, state_of, status_of, wait_healthy

SIZES = (0, 1, 3000, 40_000, 1_500_000, 9_000_000)


def fill(client: S3Client, chance: random.Random) -> dict[tuple[str, str], bytes | None]:
    """What should be there afterwards; None: deleted."""
    wanted: dict[tuple[str, str], bytes | None] = {}
    for bucket in ("photos", "logs", "empty"):
        client.create_bucket(bucket)
    for bucket in ("photos", "logs"):
        for number in range(12):
            name, data = f"dir{number % 3}/file {number}", chance.randbytes(SIZES[number % len(SIZES)])
            client.put(bucket, name, data)
            wanted[bucket, name] = data
    for number in range(0, 12, 4):
        name, data = f"dir{number % 3}/file {number}", chance.randbytes(2000 + 100_000 * number)
        client.put("photos", name, data)
        wanted["photos", name] = data
    for number in (1, 5):
        client.delete("logs", f"dir{number % 3}/file {number}")
        wanted["logs", f"dir{number % 3}/file {number}"] = None
    return wanted


def check(client: S3Client, wanted: dict[tuple[str, str], bytes | None]) -> None:
    for bucket in ("photos", "logs", "empty"):
        there = sorted(name for (where, name), data in wanted.items() if where == bucket and data is not None)
        assert sorted(client.keys(bucket)) == there
    for (bucket, name), data in wanted.items():
        if data is not None:
            assert client.get(bucket, name) == data, (bucket, name)


class Upload:
    """Of two parts, the second of which comes after the disaster."""

    bucket, key = "photos", "joined"

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self._where = {"Bucket": self.bucket, "Key": self.key}
        self._where["UploadId"] = self._s3().create_multipart_upload(**self._where)["UploadId"]
        self._parts = {number: random.Random(number).randbytes(5 << 20) for number in (1, 2)}
        self._etags: dict[int, str] = {}

    def put(self, number: int) -> None:
        answer = self._s3().upload_part(**self._where, PartNumber=number, Body=self._parts[number])
        self._etags[number] = answer["ETag"]

    def complete(self) -> bytes:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        self._s3().complete_multipart_upload(**self._where, MultipartUpload={"Parts": parts})
        return b"".join(self._parts[number] for number in (1, 2))

    def _s3(self) -> Any:
        state = state_of(self._tmp_path)
        return boto3.client(
            "s3",
            endpoint_url=state.endpoints[0],
            aws_access_key_id=state.access_key,
            aws_secret_access_key=state.secret_key,
            region_name=state.region,
        )


def lose_indexes(data: Path, *, coordinator: str) -> None:
    for node in data.glob("n*"):
        shutil.rmtree(node / "index")
    shutil.rmtree(data / "c1" / coordinator)


@pytest.mark.long
@pytest.mark.parametrize(
    "coordinator",
    [pytest.param("kv", id="its store"), pytest.param("", id="all of the coordinator")],
)
def test_everything_comes_back_after_all_indexes_were_deleted(
    objstore: Objstore, tmp_path: Path, coordinator: str
) -> None:
    assert objstore(*UP).returncode == 0
    with client_of(tmp_path) as client:
        wanted = fill(client, random.Random(5))
    upload = Upload(tmp_path)
    upload.put(1)
    refused = objstore("recover")
    assert refused.returncode == 6 and "nothing needs to be recovered" in refused.stderr
    assert objstore("down").returncode == 0
    lose_indexes(tmp_path / "data" / "data", coordinator=coordinator)

    up = objstore(*UP)
    assert up.returncode == 0, up.stderr
    status = status_of(objstore)
    assert status["verdict"] == "UNAVAILABLE", status["reasons"]
    assert [reason["next"] for reason in status["reasons"] if reason["code"] == "METADATA_LOST"] == ["objstore recover"]
    look = objstore("recover")
    assert look.returncode == 0 and "Nothing has been changed" in look.stdout, look.stdout + look.stderr
    found = json.loads(objstore("recover", "--json").stdout)
    assert (found["buckets"], found["objects"], found["uploads"]) == (3, 22, 1)
    assert found["map_lost"] == (coordinator == "")
    done = objstore("recover", "--yes")
    assert done.returncode == 0 and "Done" in done.stdout, done.stdout + done.stderr

    with client_of(tmp_path) as client:
        upload.put(2)
        check(client, {**wanted, (upload.bucket, upload.key): upload.complete()})
    wait_healthy(objstore)
    assert objstore("recover").returncode == 6
