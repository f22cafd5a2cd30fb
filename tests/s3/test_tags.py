"""Tags of objects, of their versions and of buckets."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.s3.errors import error_code, status_of
from tests.s3.wire import Wire


def tag_set(**tags: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(s3: Any, bucket: str, key: str = "k", **options: Any) -> dict[str, str]:
    found = s3.get_object_tagging(Bucket=bucket, Key=key, **options)["TagSet"]
    return {one["Key"]: one["Value"] for one in found}


def test_tags_are_put_replaced_counted_and_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b%20c=x%2By+z&empty=")
    assert tags_of(s3, bucket) == {"a": "1", "b c": "x+y z", "empty": ""}
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 3
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(d="Grüße / 1:2_3@4-5=6.7")})
    assert tags_of(s3, bucket) == {"d": "Grüße / 1:2_3@4-5=6.7"}
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == etag
    assert status_of(s3.delete_object_tagging(Bucket=bucket, Key="k")) == 204
    assert tags_of(s3, bucket) == {}
    assert "TagCount" not in s3.get_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(e="1")})
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    assert tags_of(s3, bucket) == {}, "tags belong to what was overwritten"
    assert error_code(s3.get_object_tagging, Bucket=bucket, Key="none") == "NoSuchKey"
    assert error_code(s3.put_object_tagging, Bucket=bucket, Key="none", Tagging={"TagSet": []}) == "NoSuchKey"


def test_each_version_has_its_own(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="n=1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", Tagging="n=2")["VersionId"]
    changed = s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=first, Tagging={"TagSet": tag_set(n="one")})
    assert changed["VersionId"] == first
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["VersionId"] == second
    assert (tags_of(s3, bucket), tags_of(s3, bucket, VersionId=first)) == ({"n": "2"}, {"n": "one"})
    assert s3.delete_object_tagging(Bucket=bucket, Key="k", VersionId=first)["VersionId"] == first
    assert (tags_of(s3, bucket), tags_of(s3, bucket, VersionId=first)) == ({"n": "2"}, {})
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    assert error_code(s3.get_object_tagging, Bucket=bucket, Key="k") == "MethodNotAllowed"
    assert error_code(s3.delete_object_tagging, Bucket=bucket, Key="k") == "MethodNotAllowed"
    assert error_code(s3.get_object_tagging, Bucket=bucket, Key="k", VersionId=marker) == "MethodNotAllowed"


def test_copies_and_uploads_have_tags(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": f"{bucket}/k"}
    s3.copy_object(**copy)
    assert tags_of(s3, bucket, "copy") == {"a": "1"}
    s3.copy_object(**copy, TaggingDirective="REPLACE", Tagging="b=2")
    assert tags_of(s3, bucket, "copy") == {"b": "2"}
    s3.copy_object(**copy, TaggingDirective="REPLACE")
    assert tags_of(s3, bucket, "copy") == {}
    assert error_code(s3.copy_object, **copy, Tagging="b=2") == "InvalidRequest"
    assert error_code(s3.copy_object, **copy, TaggingDirective="MERGE", Tagging="b=2") == "InvalidArgument"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="joined", Tagging="c=3")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="joined", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="joined", UploadId=upload, MultipartUpload=parts)
    assert tags_of(s3, bucket, "joined") == {"c": "3"}


GOOD = [
    {f"k{i}": f"v{i}" for i in range(10)},
    {"k" * 128: "v" * 256},
    {"ключ": "значение"},
]
BAD = [
    {"k" * 129: "v"},
    {"k": "v" * 257},
    {"aws:k": "v"},
    {"k": "<>"},
]


@pytest.mark.parametrize("tags", GOOD)
def test_as_many_and_as_long_as_s3_allows(s3: Any, bucket: str, tags: dict[str, str]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(**tags)})
    assert tags_of(s3, bucket) == tags


@pytest.mark.parametrize("tags", BAD)
def test_no_more_and_no_others(s3: Any, bucket: str, tags: dict[str, str]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    wanted = {"TagSet": tag_set(**tags)}
    assert error_code(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=wanted) == "InvalidTag"
    assert tags_of(s3, bucket) == {"a": "1"}


def test_ten_tags_and_no_more(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    wanted = {"TagSet": tag_set(**{f"k{i}": f"v{i}" for i in range(11)})}
    assert error_code(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=wanted) == "BadRequest"
    assert tags_of(s3, bucket) == {"a": "1"}


def test_no_key_twice(s3: Any, bucket: str, wire: Wire) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    twice = {"TagSet": [*tag_set(a="1"), *tag_set(a="2")]}
    assert error_code(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=twice) == "InvalidTag"
    for header in ("a=1&a=2", "a=%FF", "a=1,b=2"):
        answer = wire.request("PUT", f"/{bucket}/k", b"x", x_amz_tagging=header)
        assert (answer.status, answer.code) == (400, "InvalidArgument")
    empty = b"<Tagging><TagSet><Tag><Key/><Value>v</Value></Tag></TagSet></Tagging>"
    assert wire.request("PUT", f"/{bucket}/k?tagging", empty).code == "InvalidTag"
    for body in (b"<Tagging/>", b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", b""):
        assert wire.request("PUT", f"/{bucket}/k?tagging", body).code == "MalformedXML"


def test_a_bucket_has_tags_too(s3: Any, bucket: str) -> None:
    assert error_code(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"
    wanted = tag_set(**{f"k{i}": f"v{i}" for i in range(50)})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": wanted})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == wanted
    more = {"TagSet": [*wanted, *tag_set(one="more")]}
    assert error_code(s3.put_bucket_tagging, Bucket=bucket, Tagging=more) == "BadRequest"
    assert status_of(s3.delete_bucket_tagging(Bucket=bucket)) == 204
    assert error_code(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"


def test_a_bucket_can_be_made_with_tags(s3: Any) -> None:
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Tags": tag_set(a="1")})
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == tag_set(a="1")
    s3.delete_bucket(Bucket=name)
