"""GetObjectAttributes: what is asked for and no more, with the parts of a multipart object in pages."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import pytest

from tests.s3.errors import error_code
from tests.s3.wire import Wire

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
PART = 5 << 20


def test_of_a_plain_object(s3: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000, ChecksumAlgorithm="SHA256")
    found = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL)
    assert found["ETag"] == put["ETag"].strip('"')
    assert found["Checksum"] == {"ChecksumSHA256": put["ChecksumSHA256"], "ChecksumType": "FULL_OBJECT"}
    assert (found["StorageClass"], found["ObjectSize"], "ObjectParts" in found) == ("STANDARD", 1000, False)
    assert found["LastModified"] == s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    only = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert only["ObjectSize"] == 1000 and not {"ETag", "Checksum", "StorageClass"} & only.keys()


@pytest.mark.parametrize(("algorithm", "kind"), [("SHA256", "COMPOSITE"), ("CRC32", "FULL_OBJECT")])
def test_of_a_multipart_object_with_the_checksums_of_its_parts(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    name = f"Checksum{algorithm}"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    bodies = [os.urandom(PART), os.urandom(PART), b"end"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(**named, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})
    done = s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    found = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL)
    assert found["Checksum"] == {name: done[name].partition("-")[0], "ChecksumType": kind}
    assert found["ETag"] == done["ETag"].strip('"')
    listed = found["ObjectParts"]
    assert (listed["TotalPartsCount"], listed["IsTruncated"], listed["MaxParts"]) == (3, False, 1000)
    wanted = [
        {"PartNumber": part["PartNumber"], "Size": len(body), name: part[name]}
        for part, body in zip(parts, bodies, strict=True)
    ]
    assert listed["Parts"] == wanted
    if algorithm == "SHA256":
        assert wanted[2][name] == base64.b64encode(hashlib.sha256(b"end").digest()).decode()
    for number in (1, 3):
        got = s3.get_object(Bucket=bucket, Key="k", PartNumber=number, ChecksumMode="ENABLED")
        assert got["Body"].read() == bodies[number - 1]
        assert got.get(name) == (parts[number - 1][name] if kind == "COMPOSITE" else None)
        assert s3.head_object(Bucket=bucket, Key="k", PartNumber=number).get(name) is None
    seen, after = [], 0
    while True:
        page = s3.get_object_attributes(
            Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=2, PartNumberMarker=after
        )["ObjectParts"]
        assert (page["PartNumberMarker"], page["MaxParts"], page["TotalPartsCount"]) == (after, 2, 3)
        seen += page["Parts"]
        after = page["NextPartNumberMarker"]
        if not page["IsTruncated"]:
            break
    assert seen == wanted and after == 3
    past = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], PartNumberMarker=7)
    assert "Parts" not in past["ObjectParts"] and past["ObjectParts"]["IsTruncated"] is False
    none = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=0)["ObjectParts"]
    assert "Parts" not in none and (none["MaxParts"], none["IsTruncated"]) == (0, False)


def test_of_versions(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"22")["VersionId"]
    newest = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert (newest["VersionId"], newest["ObjectSize"]) == (second, 2)
    older = s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=first, ObjectAttributes=["ObjectSize"])
    assert (older["VersionId"], older["ObjectSize"]) == (first, 1)
    s3.delete_object(Bucket=bucket, Key="k")
    assert error_code(s3.get_object_attributes, Bucket=bucket, Key="k", ObjectAttributes=ALL) == "NoSuchKey"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "InvalidRequest"),
        ({"x_amz_object_attributes": ","}, "InvalidRequest"),
        ({"x_amz_object_attributes": "ETag,Colour"}, "InvalidArgument"),
        ({"x_amz_object_attributes": "etag"}, "InvalidArgument"),
        ({"x_amz_object_attributes": "ObjectParts", "x_amz_max_parts": "-1"}, "InvalidArgument"),
        ({"x_amz_object_attributes": "ObjectParts", "x_amz_part_number_marker": "x"}, "InvalidArgument"),
    ],
)
def test_requests_that_cannot_be(wire: Wire, bucket: str, headers: dict[str, str], code: str) -> None:
    wire.request("PUT", f"/{bucket}/k", b"x")
    answer = wire.request("GET", f"/{bucket}/k?attributes", **headers)
    assert (answer.status, answer.code) == (400, code)
