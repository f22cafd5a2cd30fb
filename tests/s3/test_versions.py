"""Versioning: what was overwritten or deleted stays, under its id; without it there is the version "null"."""

from __future__ import annotations

import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.errors import error_code, status_of

NO_SUCH = "0" * 32


def enable(s3: Any, bucket: str, status: str = "Enabled") -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def put(s3: Any, bucket: str, key: str, body: bytes) -> str:
    version = s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
    assert isinstance(version, str)
    return version


def versions(s3: Any, bucket: str, **options: Any) -> list[tuple[str, str, bool, bool]]:
    """(key, version id, newest, delete marker) as listed, both kinds in the order of their keys and times."""
    page = s3.list_object_versions(Bucket=bucket, **options)
    found = [(v["Key"], v["VersionId"], v["IsLatest"], False) for v in page.get("Versions", [])]
    found += [(v["Key"], v["VersionId"], v["IsLatest"], True) for v in page.get("DeleteMarkers", [])]
    return found


def body_of(s3: Any, bucket: str, key: str, version: str | None = None) -> bytes:
    options = {"VersionId": version} if version else {}
    data = s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()
    assert isinstance(data, bytes)
    return data


def test_a_bucket_is_not_versioned_until_it_is_told(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert "VersionId" not in s3.get_object(Bucket=bucket, Key="k")
    assert versions(s3, bucket) == [("k", "null", True, False)]
    assert body_of(s3, bucket, "k", "null") == b"1"
    for status in ("Enabled", "Suspended", "Enabled"):
        enable(s3, bucket, status)
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    assert error_code(enable, s3=s3, bucket=bucket, status="enabled") == "MalformedXML"
    nothing = {"Bucket": bucket, "VersioningConfiguration": {}}
    assert error_code(s3.put_bucket_versioning, **nothing) == "IllegalVersioningConfigurationException"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


@pytest.mark.parametrize("size", [1, 20_000, 400_000])
def test_what_was_overwritten_is_still_there(s3: Any, bucket: str, size: int) -> None:
    bodies = [os.urandom(size) for _ in range(6)]
    s3.put_object(Bucket=bucket, Key="k", Body=bodies[0])
    enable(s3, bucket)
    ids = ["null", *(put(s3, bucket, "k", body) for body in bodies[1:])]
    assert len(set(ids)) == 6
    for version, body in zip(ids, bodies, strict=True):
        got = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (body, version)
        assert s3.head_object(Bucket=bucket, Key="k", VersionId=version)["ContentLength"] == size
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == ids[-1]
    assert [one[1] for one in versions(s3, bucket)] == ids[::-1]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=ids[3])
    assert error_code(s3.get_object, Bucket=bucket, Key="k", VersionId=ids[3]) == "NoSuchVersion"
    for version, body in zip(ids, bodies, strict=True):
        if version != ids[3]:
            assert body_of(s3, bucket, "k", version) == body
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_a_delete_makes_a_marker_and_deleting_that_undoes_it(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    first = put(s3, bucket, "k", b"one")
    gone = s3.delete_object(Bucket=bucket, Key="k")
    assert gone["DeleteMarker"] is True and status_of(gone) == 204
    marker = gone["VersionId"]
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k")
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"]) == (
        "NoSuchKey",
        "true",
    )
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key="k", VersionId=marker)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 405
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["last-modified"].endswith(" GMT")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert versions(s3, bucket) == [("k", first, False, False), ("k", marker, True, True)]
    assert error_code(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty"
    assert s3.delete_object(Bucket=bucket, Key="never")["DeleteMarker"] is True
    undone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker)
    assert body_of(s3, bucket, "k") == b"one"
    assert s3.delete_object(Bucket=bucket, Key="k", VersionId=NO_SUCH)["VersionId"] == NO_SUCH
    assert body_of(s3, bucket, "k") == b"one"


def test_suspended_there_is_one_null_version_and_the_others_stay(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    first = put(s3, bucket, "k", b"1")
    enable(s3, bucket, "Suspended")
    assert put(s3, bucket, "k", b"2") == "null"
    assert put(s3, bucket, "k", b"3") == "null"
    assert [one[1] for one in versions(s3, bucket)] == ["null", first]
    assert body_of(s3, bucket, "k", "null") == b"3" and body_of(s3, bucket, "k", first) == b"1"
    gone = s3.delete_object(Bucket=bucket, Key="k")
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, "null")
    assert versions(s3, bucket) == [("k", first, False, False), ("k", "null", True, True)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert body_of(s3, bucket, "k") == b"1"


def test_versions_are_listed_in_pages_of_any_size(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    for key in ("a", "b/1", "b/2", "c"):
        for body in (b"1", b"22", b"333"):
            put(s3, bucket, key, body)
    s3.delete_object(Bucket=bucket, Key="c")
    whole = s3.list_object_versions(Bucket=bucket)
    wanted = {(v["Key"], v["VersionId"]) for v in [*whole["Versions"], *whole["DeleteMarkers"]]}
    assert len(wanted) == 13
    for limit in (1, 2, 5):
        seen = []
        for page in s3.get_paginator("list_object_versions").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": limit}
        ):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            assert 1 <= len(entries) <= limit
            seen += [(v["Key"], v["VersionId"]) for v in entries]
        assert len(seen) == 13 and set(seen) == wanted
    grouped = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in grouped["CommonPrefixes"]] == ["b/"]
    assert {v["Key"] for v in grouped["Versions"]} == {"a", "c"}
    first = s3.list_object_versions(Bucket=bucket, Delimiter="/", MaxKeys=4)
    assert first["IsTruncated"] and first["NextKeyMarker"] == "b/" and "NextVersionIdMarker" not in first
    rest = s3.list_object_versions(Bucket=bucket, Delimiter="/", KeyMarker="b/")
    assert "CommonPrefixes" not in rest and {v["Key"] for v in rest["Versions"]} == {"c"}
    assert {one[0] for one in versions(s3, bucket, Prefix="b/")} == {"b/1", "b/2"}


def test_a_list_of_objects_skips_what_is_hidden_and_tells_the_truth_about_more(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    for key in ("a", "b", "c", "d/1", "e"):
        put(s3, bucket, key, b"x")
    for key in ("b", "d/1", "e"):
        s3.delete_object(Bucket=bucket, Key=key)
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=2, Delimiter="/")
    assert [e["Key"] for e in page["Contents"]] == ["a", "c"]
    assert page["IsTruncated"] is False and "CommonPrefixes" not in page


def test_copies_and_multipart_uploads_make_versions(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    first, second = put(s3, bucket, "k", b"one"), put(s3, bucket, "k", b"two")
    source = {"Bucket": bucket, "Key": "k", "VersionId": first}
    restored = s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert restored["CopySourceVersionId"] == first and restored["VersionId"] not in (first, second)
    assert body_of(s3, bucket, "k") == b"one"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"three")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    put(s3, bucket, "k", b"four")
    again = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert again["VersionId"] == done["VersionId"] and again["ETag"] == done["ETag"]
    assert body_of(s3, bucket, "k", done["VersionId"]) == b"three" and body_of(s3, bucket, "k") == b"four"
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    named = {**source, "VersionId": marker}
    assert error_code(s3.copy_object, Bucket=bucket, Key="l", CopySource=named) == "InvalidRequest"
    assert error_code(s3.copy_object, Bucket=bucket, Key="l", CopySource=f"{bucket}/k") == "NoSuchKey"


def test_conditions_take_a_delete_marker_for_nothing(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    put(s3, bucket, "k", b"1")
    assert error_code(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    s3.delete_object(Bucket=bucket, Key="k")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfNoneMatch="*")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"4", IfMatch=etag)
    assert error_code(s3.delete_object, Bucket=bucket, Key="k", IfMatch=etag) == "PreconditionFailed"


def test_many_are_deleted_at_once_with_and_without_their_ids(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    first, second = put(s3, bucket, "k", b"1"), put(s3, bucket, "k", b"2")
    put(s3, bucket, "l", b"1")
    objects = [{"Key": "k", "VersionId": first}, {"Key": "l"}, {"Key": "m", "VersionId": "nonsense"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    by_key = {one["Key"]: one for one in answer["Deleted"]}
    assert by_key["k"] == {"Key": "k", "VersionId": first}
    marker = by_key["l"]["DeleteMarkerVersionId"]
    assert by_key["l"] == {"Key": "l", "DeleteMarker": True, "DeleteMarkerVersionId": marker}
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("m", "InvalidArgument")]
    objects = [{"Key": "l", "VersionId": marker}]
    undone = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})["Deleted"]
    assert undone == [{"Key": "l", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert [one[1] for one in versions(s3, bucket, Prefix="k")] == [second]
    assert body_of(s3, bucket, "l") == b"1"


@pytest.mark.parametrize("version", ["x", "", "NULL"])
def test_a_version_id_that_cannot_be_is_an_invalid_argument(s3: Any, bucket: str, version: str) -> None:
    assert error_code(s3.delete_object, Bucket=bucket, Key="k", VersionId=version) == "InvalidArgument"
