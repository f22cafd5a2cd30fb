"""Appending: PutObject with x-amz-write-offset-bytes."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import zlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.errors import error_code, status_of
from tests.s3.wire import Wire

MIB = 1 << 20


def append(s3: Any, bucket: str, key: str, body: bytes, offset: int, **options: Any) -> dict[str, Any]:
    answer = s3.put_object(Bucket=bucket, Key=key, Body=body, WriteOffsetBytes=offset, **options)
    assert isinstance(answer, dict)
    return answer


def grow(s3: Any, bucket: str, key: str, sizes: list[int], **options: Any) -> bytes:
    """Appends of these sizes; what must be there then, and is."""
    whole = b""
    for size in sizes:
        piece = os.urandom(size)
        answer = append(s3, bucket, key, piece, len(whole), **options)
        whole += piece
        assert answer["Size"] == len(whole)
        got = s3.get_object(Bucket=bucket, Key=key, **options)
        assert got["Body"].read() == whole and got["ETag"] == answer["ETag"]
    return whole


@pytest.mark.parametrize("sizes", [[5, 6, 7], [30_000, 2_000, 2_000, 1], [100_000, 1, 1, 200_000, 70_000], [1] * 20])
def test_appends_make_one_object(s3: Any, bucket: str, sizes: list[int]) -> None:
    whole = grow(s3, bucket, "k", sizes)
    ranged = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={sizes[0] - 1}-{sizes[0] + 1}")["Body"].read()
    assert ranged == whole[sizes[0] - 1 : sizes[0] + 2]
    [entry] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["Size"] == len(whole)
    head = s3.head_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (head["ContentLength"], head["PartsCount"]) == (sizes[1], len(sizes))


def test_the_offset_must_be_the_size(s3: Any, bucket: str) -> None:
    for offset in (1, 7):
        assert error_code(append, s3=s3, bucket=bucket, key="k", body=b"x", offset=offset) == "InvalidWriteOffset"
    append(s3, bucket, "k", b"abc", 0)
    for offset in (0, 2, 4):
        with pytest.raises(ClientError) as caught:
            append(s3, bucket, "k", b"x", offset)
        assert caught.value.response["Error"]["Code"] == "InvalidWriteOffset"
        assert status_of(caught.value.response) == 400
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"
    assert error_code(append, s3=s3, bucket=bucket, key="k", body=b"", offset=3) == "InvalidRequest"
    s3.put_object(Bucket=bucket, Key="empty")
    assert append(s3, bucket, "empty", b"xy", 0)["Size"] == 2
    assert s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b"xy"


def test_conditions_hold(s3: Any, bucket: str) -> None:
    etag = append(s3, bucket, "k", b"abc", 0, IfNoneMatch="*")["ETag"]
    second = append(s3, bucket, "k", b"d", 3, IfMatch=etag)["ETag"]
    assert second != etag
    arguments = {"s3": s3, "bucket": bucket, "key": "k", "body": b"d", "offset": 4}
    assert error_code(append, **arguments, IfMatch=etag) == "PreconditionFailed"
    assert error_code(append, **arguments, IfNoneMatch="*") == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abcd"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_the_checksum_of_the_whole_is_computed(s3: Any, bucket: str, algorithm: str) -> None:
    append(s3, bucket, "k", b"hello ", 0, ChecksumAlgorithm=algorithm)
    append(s3, bucket, "k", b"wide ", 6, ChecksumAlgorithm=algorithm)
    append(s3, bucket, "k", b"world", 11, ChecksumAlgorithm=algorithm)
    s3.put_object(Bucket=bucket, Key="whole", Body=b"hello wide world", ChecksumAlgorithm=algorithm)
    one, other = (s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED") for key in ("k", "whole"))
    assert one["Checksum" + algorithm] == other["Checksum" + algorithm] and one["ChecksumType"] == "FULL_OBJECT"
    if algorithm == "CRC32":
        assert one["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"hello wide world").to_bytes(4, "big")).decode()


def test_a_checksum_that_cannot_be_continued_is_refused(s3: Any, bucket: str) -> None:
    append(s3, bucket, "k", b"abc", 0, ChecksumAlgorithm="CRC32")
    mismatch = {"s3": s3, "bucket": bucket, "key": "k", "body": b"d", "offset": 3, "ChecksumAlgorithm": "CRC32C"}
    assert error_code(append, **mismatch) == "InvalidRequest"
    s3.put_object(Bucket=bucket, Key="sha", Body=b"abc", ChecksumAlgorithm="SHA256")
    assert error_code(append, s3=s3, bucket=bucket, key="sha", body=b"d", offset=3) == "InvalidRequest"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


def test_a_body_that_does_not_match_changes_nothing(s3: Any, bucket: str) -> None:
    body = append(s3, bucket, "k", b"a" * 50_000, 0) and b"b" * 40_000
    md5 = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    arguments = {"s3": s3, "bucket": bucket, "key": "k", "body": body, "offset": 50_000}
    assert error_code(append, **arguments, ContentMD5=md5) == "BadDigest"
    assert error_code(append, **arguments, ChecksumCRC32="AAAAAA==") == "BadDigest"
    right = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    assert append(s3, bucket, "k", body, 50_000, ContentMD5=right)["Size"] == 90_000


def test_what_is_known_of_the_object_stays(s3: Any, bucket: str) -> None:
    about = {"Metadata": {"a": "1"}, "ContentType": "text/plain", "Tagging": "t=1"}
    append(s3, bucket, "k", b"abc", 0, **about)
    arguments = {"s3": s3, "bucket": bucket, "key": "k", "body": b"d", "offset": 3}
    for name, value in about.items():
        if name != "ContentType":
            assert error_code(append, **arguments, **{name: value}) == "InvalidRequest"
    assert error_code(append, **arguments, ContentType="text/html") == "InvalidRequest"
    append(s3, bucket, "k", b"d", 3, ContentType="text/plain")
    append(s3, bucket, "k", b"e", 4)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"], got["TagCount"]) == (
        b"abcde",
        {"a": "1"},
        "text/plain",
        1,
    )


def test_a_versioned_bucket_refuses(s3: Any, bucket: str) -> None:
    append(s3, bucket, "k", b"abc", 0)
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        for key, offset in (("k", 3), ("new", 0)):
            assert error_code(append, s3=s3, bucket=bucket, key=key, body=b"d", offset=offset) == "InvalidRequest"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


def test_a_multipart_object_grows(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    bodies = [os.urandom(5 * MIB), os.urandom(1000)]
    names = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    etags = [
        s3.upload_part(**names, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")["ETag"]
        for number, body in enumerate(bodies, 1)
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    append(s3, bucket, "k", b"tail", 5 * MIB + 1000, ChecksumAlgorithm="CRC32")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(bodies) + b"tail"
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=3)["PartsCount"] == 3
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})  # a late repeat makes nothing new
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 5 * MIB + 1004


def test_of_appends_at_one_offset_one_wins(s3: Any, bucket: str) -> None:
    append(s3, bucket, "k", b"0" * 40_000, 0)
    outcomes: dict[int, str] = {}
    gate = threading.Barrier(6)

    def run(number: int) -> None:
        gate.wait()
        try:
            append(s3, bucket, "k", b"%d" % number * 30_000, 40_000)
            outcomes[number] = ""
        except ClientError as error:
            outcomes[number] = error.response["Error"]["Code"]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for number, code in outcomes.items() if not code]
    assert {code for code in outcomes.values() if code} == {"InvalidWriteOffset"}
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0" * 40_000 + b"%d" % winner * 30_000


def customer(key: bytes) -> dict[str, Any]:
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}


def test_an_object_under_a_key_of_the_client_grows_under_it(s3: Any, bucket: str) -> None:
    key = bytes(range(32))
    whole = grow(s3, bucket, "k", [100, 70_000, 50, 1], **customer(key))
    arguments = {"s3": s3, "bucket": bucket, "key": "k", "body": b"x", "offset": len(whole)}
    assert error_code(append, **arguments) == "EncryptionTypeMismatch"
    assert error_code(append, **arguments, ServerSideEncryption="AES256") == "EncryptionTypeMismatch"
    assert error_code(append, **arguments, **customer(bytes(32))) == "AccessDenied"
    assert s3.get_object(Bucket=bucket, Key="k", **customer(key))["Body"].read() == whole


def test_an_object_that_the_cluster_encrypts_grows_encrypted(s3: Any, bucket: str) -> None:
    append(s3, bucket, "k", b"abc", 0, ServerSideEncryption="AES256")
    assert append(s3, bucket, "k", b"def", 3)["ServerSideEncryption"] == "AES256"
    assert append(s3, bucket, "k", b"g", 6, ServerSideEncryption="AES256")["Size"] == 7
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abcdefg"
    append(s3, bucket, "plain", b"abc", 0)
    mismatch = {"s3": s3, "bucket": bucket, "key": "plain", "body": b"d", "offset": 3}
    assert error_code(append, **mismatch, ServerSideEncryption="AES256") == "EncryptionTypeMismatch"


def test_a_copy_is_one_part_again(s3: Any, bucket: str) -> None:
    whole = grow(s3, bucket, "k", [50_000, 1, 2])
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    got = s3.get_object(Bucket=bucket, Key="copy", PartNumber=1)
    assert got["Body"].read() == whole and "PartsCount" not in got


def test_attributes_list_the_appends_as_parts(s3: Any, bucket: str) -> None:
    grow(s3, bucket, "k", [40_000, 7, 9])
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "ObjectSize", "Checksum"])
    assert [part["Size"] for part in got["ObjectParts"]["Parts"]] == [40_000, 7, 9]
    assert (got["ObjectSize"], got["Checksum"]["ChecksumType"]) == (40_016, "FULL_OBJECT")


@pytest.mark.parametrize("offset", ["-1", "1.5", "", "x", "9" * 30])
def test_an_offset_is_a_number(wire: Wire, bucket: str, offset: str) -> None:
    answer = wire.request("PUT", f"/{bucket}/k", b"x", **{"x-amz-write-offset-bytes": offset})
    assert (answer.status, answer.code) == (400, "InvalidArgument")
