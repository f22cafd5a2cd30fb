"""Multipart uploads."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from tests.s3.errors import error_code, status_of

MIN = 5 * 1024 * 1024
FIRST, LAST = os.urandom(MIN), os.urandom(1000)


def upload_parts(s3: Any, where: dict[str, str], bodies: dict[int, bytes], **options: Any) -> list[dict[str, Any]]:
    parts = []
    for number, body in bodies.items():
        answer = s3.upload_part(**where, PartNumber=number, Body=body, **options)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    return parts


def begin(s3: Any, bucket: str, key: str = "k", **options: Any) -> dict[str, str]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)
    return {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket, Metadata={"a": "1"}, ContentType="text/plain")
    parts = upload_parts(s3, where, {7: LAST, 2: FIRST})[::-1]
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    digests = hashlib.md5(FIRST).digest() + hashlib.md5(LAST).digest()
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert done["Location"].endswith(f"/{bucket}/k")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == FIRST + LAST
    assert (got["Metadata"], got["ContentType"], got["ETag"]) == ({"a": "1"}, "text/plain", done["ETag"])


def test_each_part_can_be_read_by_number(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket)
    parts = upload_parts(s3, where, {1: FIRST, 2: LAST})
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert got["Body"].read() == LAST
    assert (status_of(got), got["PartsCount"]) == (206, 2)
    assert got["ContentRange"] == f"bytes {MIN}-{MIN + 999}/{MIN + 1000}"
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == MIN
    assert error_code(s3.get_object, Bucket=bucket, Key="k", PartNumber=3) == "InvalidPartNumber"
    straddling = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={MIN - 5}-{MIN + 4}")
    assert straddling["Body"].read() == FIRST[-5:] + LAST[:5]


def test_completing_twice_gives_the_same_answer(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket)
    parts = upload_parts(s3, where, {1: LAST})
    first = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    again = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert again["ETag"] == first["ETag"]


def test_completion_refuses_parts_that_are_wrong(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket)
    one, two = upload_parts(s3, where, {1: b"short", 2: LAST})

    def refusal(parts: list[dict[str, Any]]) -> str:
        return error_code(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts})

    assert refusal([two, one]) == "InvalidPartOrder"
    assert refusal([one, two]) == "EntityTooSmall"
    assert refusal([{"PartNumber": 1, "ETag": two["ETag"]}]) == "InvalidPart"
    assert refusal([{"PartNumber": 9, "ETag": two["ETag"]}]) == "InvalidPart"
    assert refusal([]) == "MalformedXML"
    assert error_code(s3.head_object, Bucket=bucket, Key="k") == "404"
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [two]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == LAST


def test_completion_obeys_conditions(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    where = begin(s3, bucket)
    parts = {"Parts": upload_parts(s3, where, {1: LAST})}
    code = error_code(s3.complete_multipart_upload, **where, MultipartUpload=parts, IfNoneMatch="*")
    assert code == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"there"


def test_an_aborted_upload_is_gone(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket)
    upload_parts(s3, where, {1: LAST})
    assert status_of(s3.abort_multipart_upload(**where)) == 204
    assert error_code(s3.upload_part, **where, PartNumber=2, Body=b"x") == "NoSuchUpload"
    assert error_code(s3.list_parts, **where) == "NoSuchUpload"
    assert error_code(s3.abort_multipart_upload, **where) == "NoSuchUpload"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_are_bounded(s3: Any, bucket: str, number: int) -> None:
    where = begin(s3, bucket)
    assert error_code(s3.upload_part, **where, PartNumber=number, Body=b"x") == "InvalidArgument"


def test_parts_are_listed_in_pages(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket)
    upload_parts(s3, where, {number: str(number).encode() for number in (3, 1, 2)})
    pages = list(s3.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2}))
    assert [part["PartNumber"] for page in pages for part in page["Parts"]] == [1, 2, 3]
    assert [page["IsTruncated"] for page in pages] == [True, False]


def test_uploads_are_listed_by_key_and_prefix(s3: Any, bucket: str) -> None:
    ids = {key: [begin(s3, bucket, key)["UploadId"] for _ in range(2)] for key in ("a/x", "a/y", "b", "c/z")}
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
    listed = [(upload["Key"], upload["UploadId"]) for page in pages for upload in page["Uploads"]]
    assert [key for key, _ in listed] == ["a/x", "a/x", "a/y", "a/y", "b", "b", "c/z", "c/z"]
    assert {upload_id for _, upload_id in listed} == {upload_id for pair in ids.values() for upload_id in pair}
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [upload["Key"] for upload in page["Uploads"]] == ["a/x", "a/x", "a/y", "a/y"]
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [group["Prefix"] for group in page["CommonPrefixes"]] == ["a/", "c/"]
    assert [upload["Key"] for upload in page["Uploads"]] == ["b", "b"]


def test_a_part_can_be_a_range_of_another_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=FIRST)
    where = begin(s3, bucket)
    copied = s3.upload_part_copy(
        **where, PartNumber=1, CopySource=f"{bucket}/from", CopySourceRange=f"bytes=10-{MIN - 1}"
    )
    part = {"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == FIRST[10:]


def test_a_part_copy_needs_a_range_inside_of_its_source(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=LAST)
    where = {**begin(s3, bucket), "PartNumber": 1, "CopySource": f"{bucket}/from"}
    assert error_code(s3.upload_part_copy, **where, CopySourceRange="bytes=0-1000") == "InvalidArgument"
    assert error_code(s3.upload_part_copy, **where, CopySourceRange="bytes=5-") == "InvalidArgument"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"),
     ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE")],
)  # fmt: skip
def test_part_checksums_become_the_checksum_of_the_object(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    where = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = []
    for number, body in ((1, FIRST), (2, LAST)):
        answer = s3.upload_part(**where, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        name = f"Checksum{algorithm}"
        parts.append({"PartNumber": number, "ETag": answer["ETag"], name: answer[name]})
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert done["ChecksumType"] == kind
    assert done[f"Checksum{algorithm}"].endswith("-2") is (kind == "COMPOSITE")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"]
    if kind == "FULL_OBJECT" and algorithm == "CRC32":
        s3.put_object(Bucket=bucket, Key="whole", Body=FIRST + LAST, ChecksumAlgorithm=algorithm)
        whole = s3.head_object(Bucket=bucket, Key="whole", ChecksumMode="ENABLED")
        assert whole["ChecksumCRC32"] == done["ChecksumCRC32"]


def test_the_transfer_manager_uploads_copies_and_downloads(s3: Any, bucket: str, tmp_path: Any) -> None:
    data = os.urandom(17 * 1024 * 1024)
    (tmp_path / "up").write_bytes(data)
    s3.upload_file(str(tmp_path / "up"), bucket, "big")
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copy")
    s3.download_file(bucket, "copy", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data


def test_a_part_without_the_checksum_of_its_upload_is_refused(s3: Any, bucket: str) -> None:
    where = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    part = {**where, "PartNumber": 1, "Body": b"x"}
    assert error_code(s3.upload_part, **part, ChecksumAlgorithm="CRC32") == "InvalidRequest"
    assert "Parts" not in s3.list_parts(**where)
    parts = upload_parts(s3, where, {1: b"x"}, ChecksumAlgorithm="SHA256")
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert done["ChecksumSHA256"].endswith("-1")


@pytest.mark.parametrize("kind", ["FULL_OBJECT", "COMPOSITE"])
def test_a_checksum_sent_with_the_completion_is_of_the_object_and_not_of_the_document(
    s3: Any, bucket: str, kind: str
) -> None:
    def complete(key: str, checksum: str | None) -> Any:
        where = begin(s3, bucket, key, ChecksumAlgorithm="CRC32", ChecksumType=kind)
        parts = upload_parts(s3, where, {1: FIRST, 2: LAST}, ChecksumAlgorithm="CRC32")
        more = {"ChecksumCRC32": checksum} if checksum else {}
        return lambda: s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, **more)

    right = complete("k", None)()["ChecksumCRC32"]
    assert complete("same", right)()["ChecksumCRC32"] == right
    assert complete("bare", right.partition("-")[0])()["ChecksumCRC32"] == right
    assert error_code(complete("wrong", "AAAAAA==")) == "BadDigest"
