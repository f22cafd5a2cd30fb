"""RenameObject."""

from __future__ import annotations

import os
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.errors import error_code


def rename(s3: Any, bucket: str, source: str, key: str, **options: Any) -> None:
    s3.rename_object(Bucket=bucket, Key=key, RenameSource=source, **options)


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_the_object_has_another_key(s3: Any, bucket: str, size: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="old", Body=body, ContentType="text/x", Metadata={"a": "b"}, Tagging="t=1")
    before = s3.head_object(Bucket=bucket, Key="old")
    rename(s3, bucket, "old", "d/new ä+&%20")
    after = s3.get_object(Bucket=bucket, Key="d/new ä+&%20")
    assert after["Body"].read() == body
    for name in ("ETag", "ContentType", "Metadata", "LastModified", "TagCount"):
        assert after.get(name) == before.get(name), name
    assert keys(s3, bucket) == ["d/new ä+&%20"]
    assert error_code(s3.get_object, Bucket=bucket, Key="old") == "NoSuchKey"
    rename(s3, bucket, "/" + bucket + "/d/new%20%C3%A4%2B%26%2520", "back")
    assert keys(s3, bucket) == ["back"]
    s3.put_object(Bucket=bucket, Key="old", Body=b"another")
    s3.delete_object(Bucket=bucket, Key="old")
    assert s3.get_object(Bucket=bucket, Key="back")["Body"].read() == body


def test_a_multipart_object_is_renamed_and_its_parts_stay(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="old")["UploadId"]
    bodies = [os.urandom(5 << 20), b"end"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket=bucket, Key="old", UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, 1)
    ]
    done = {"Bucket": bucket, "Key": "old", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    etag = s3.complete_multipart_upload(**done)["ETag"]
    rename(s3, bucket, "old", "new")
    found = s3.get_object(Bucket=bucket, Key="new")
    assert found["ETag"] == etag and found["Body"].read() == b"".join(bodies)
    assert s3.head_object(Bucket=bucket, Key="new", PartNumber=2)["PartsCount"] == 2


def test_conditions_of_both_keys(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="old", Body=b"1")["ETag"]
    other = s3.put_object(Bucket=bucket, Key="new", Body=b"2")["ETag"]
    for refused in (
        {"DestinationIfNoneMatch": "*"},
        {"DestinationIfMatch": etag},
        {"SourceIfMatch": other},
        {"SourceIfNoneMatch": etag},
        {"SourceIfUnmodifiedSince": 0},
    ):
        code = error_code(rename, s3=s3, bucket=bucket, source="old", key="new", **refused)
        assert code == "PreconditionFailed", refused
    assert error_code(rename, s3=s3, bucket=bucket, source="none", key="new", SourceIfMatch=etag) == "NoSuchKey"
    assert keys(s3, bucket) == ["new", "old"]
    rename(s3, bucket, "old", "new", DestinationIfMatch=other, SourceIfMatch=etag, SourceIfModifiedSince=0)
    assert keys(s3, bucket) == ["new"]


def test_a_request_that_is_repeated_is_done_once(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="old", Body=b"1")
    token = uuid.uuid4().hex
    for _ in range(2):
        rename(s3, bucket, "old", "new", ClientToken=token)
    assert error_code(rename, s3=s3, bucket=bucket, source="old", key="new") == "NoSuchKey"


def test_what_cannot_be_renamed(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="old", Body=b"1")
    refused = {"s3": s3, "bucket": bucket, "key": "old"}
    assert error_code(rename, source="old", **refused) == "InvalidRequest"
    assert error_code(rename, source="/", **refused) == "InvalidArgument"
    assert error_code(rename, source="old", s3=s3, bucket=bucket, key="x", ClientToken="a" * 65) == "InvalidArgument"
    assert error_code(rename, source="old", s3=s3, bucket=f"{bucket}-none", key="x") == "NoSuchBucket"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(ClientError, match="versioned cannot be renamed; copy it"):
        rename(s3, bucket, "old", "new")
    assert keys(s3, bucket) == ["old"]
