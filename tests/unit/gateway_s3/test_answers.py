"""Answers, read back by the parser of botocore with the published model of the S3 API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import answers, listing
from gateway.s3.answers import Deleted, DeleteFailure, Owner
from gateway.s3.operations import EMPTY
from gateway.s3.target import Query
from objstore.engine.types import (
    BucketInfo,
    ObjectEntry,
    ObjectPage,
    PartInfo,
    PartPage,
    UploadEntry,
    UploadPage,
)
from objstore.model.ids import BucketId

MODEL = botocore.session.get_session().get_service_model("s3")
OWNER = Owner("0" * 64, "objstore & co")
AT_MS = 1369353600_123
AT = datetime(2013, 5, 24, tzinfo=UTC)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def read(operation: str, body: bytes) -> dict[str, Any]:
    shape = MODEL.operation_model(operation).output_shape
    response = create_parser("rest-xml").parse({"body": body, "headers": {}, "status_code": 200}, shape)
    del response["ResponseMetadata"]
    return dict(response)


def objects(raw: str, page: ObjectPage) -> dict[str, Any]:
    params = listing.objects_params(Query.parse(raw))
    return read(f"ListObjects{'V2' if params.version == 2 else ''}", answers.list_objects("b", params, page, OWNER))


def entries(*keys: str) -> list[ObjectEntry]:
    return [ObjectEntry(key, 7, "e" * 32, AT_MS) for key in keys]


def test_version_1_in_full() -> None:
    page = ObjectPage(entries("a/b"), ["a/c/"], True, "a/c/")
    assert objects("prefix=a&delimiter=%2F&marker=a%2F&max-keys=2", page) == {
        "Name": "b",
        "Prefix": "a",
        "Marker": "a/",
        "NextMarker": "a/c/",
        "MaxKeys": 2,
        "Delimiter": "/",
        "IsTruncated": True,
        "Contents": [
            {
                "Key": "a/b",
                "LastModified": AT,
                "ETag": f'"{"e" * 32}"',
                "Size": 7,
                "StorageClass": "STANDARD",
                "Owner": {"ID": OWNER.id, "DisplayName": OWNER.name},
            }
        ],
        "CommonPrefixes": [{"Prefix": "a/c/"}],
    }


def test_version_1_names_the_next_marker_only_with_a_delimiter() -> None:
    assert "NextMarker" not in objects("", ObjectPage(entries("a"), [], True, "a"))


def test_version_2_in_full() -> None:
    page = ObjectPage([ObjectEntry("a", 0, "e", AT_MS, "CRC32")], ["p/"], True, "p/")
    token = listing.encode_token("0")
    found = objects(f"list-type=2&start-after=0&continuation-token={token}&delimiter=%2F", page)
    assert found == {
        "Name": "b",
        "Prefix": "",
        "KeyCount": 2,
        "ContinuationToken": token,
        "NextContinuationToken": listing.encode_token("p/"),
        "StartAfter": "0",
        "MaxKeys": 1000,
        "Delimiter": "/",
        "IsTruncated": True,
        "Contents": [
            {
                "Key": "a",
                "LastModified": AT,
                "ETag": '"e"',
                "ChecksumAlgorithm": ["CRC32"],
                "Size": 0,
                "StorageClass": "STANDARD",
            }
        ],
        "CommonPrefixes": [{"Prefix": "p/"}],
    }
    assert objects("list-type=2&fetch-owner=true", page)["Contents"][0]["Owner"]["ID"] == OWNER.id


def test_a_list_of_no_keys_is_empty_and_not_truncated() -> None:
    found = objects("list-type=2&max-keys=0", listing.EMPTY_OBJECTS)
    assert (found["KeyCount"], found["MaxKeys"], found["IsTruncated"]) == (0, 0, False)


@settings(deadline=None)
@given(keys=st.lists(KEYS, max_size=4), prefix=KEYS, asked=st.booleans(), version=st.sampled_from((1, 2)))
def test_any_key_is_read_back_exactly(keys: list[str], prefix: str, asked: bool, version: int) -> None:
    query = Query(
        [("prefix", prefix), ("delimiter", "/")]
        + ([("encoding-type", "url")] if asked else [])
        + ([("list-type", "2")] if version == 2 else [])
    )
    params = listing.objects_params(query)
    body = answers.list_objects("b", params, ObjectPage(entries(*keys), [prefix], False, ""), OWNER)
    found = read("ListObjectsV2" if version == 2 else "ListObjects", body)
    decode = unquote if found.get("EncodingType") == "url" else str
    assert [decode(entry["Key"]) for entry in found.get("Contents", [])] == keys
    assert [decode(each["Prefix"]) for each in found["CommonPrefixes"]] == [prefix]
    assert decode(found["Prefix"]) == prefix
    if asked:
        assert found["EncodingType"] == "url"


def test_url_encoding_keeps_slashes_and_writes_a_space_so_that_every_client_reads_it() -> None:
    body = answers.list_objects(
        "b",
        listing.objects_params(Query.parse("encoding-type=url")),
        ObjectPage(entries("a b/+*"), [], False, ""),
        OWNER,
    )
    assert b"<Key>a%20b/%2B%2A</Key>" in body


def test_parts() -> None:
    params = listing.parts_params(Query.parse("uploadId=u&part-number-marker=1&max-parts=1"))
    part = PartInfo(2, 9, "e", AT_MS, {"x-amz-checksum-sha1": "s", "x-amz-checksum-type": "FULL_OBJECT"})
    page = PartPage({"x-amz-checksum-algorithm": "SHA1", "x-amz-checksum-type": "COMPOSITE"}, [part], True, 2)
    assert read("ListParts", answers.list_parts("b", "k", params, page, OWNER)) == {
        "Bucket": "b",
        "Key": "k",
        "UploadId": "u",
        "PartNumberMarker": 1,
        "NextPartNumberMarker": 2,
        "MaxParts": 1,
        "IsTruncated": True,
        "Parts": [{"PartNumber": 2, "LastModified": AT, "ETag": '"e"', "Size": 9, "ChecksumSHA1": "s"}],
        "Initiator": {"ID": OWNER.id, "DisplayName": OWNER.name},
        "Owner": {"ID": OWNER.id, "DisplayName": OWNER.name},
        "StorageClass": "STANDARD",
        "ChecksumAlgorithm": "SHA1",
        "ChecksumType": "COMPOSITE",
    }


def test_uploads() -> None:
    params = listing.uploads_params(Query.parse("prefix=k&key-marker=a&upload-id-marker=b&delimiter=%2F&max-uploads=1"))
    page = UploadPage([UploadEntry("k\x01", "u", AT_MS)], ["k/"], True, "k\x01", "u")
    found = read("ListMultipartUploads", answers.list_uploads("b", params, page, OWNER))
    assert found["EncodingType"] == "url"  # not asked for, but XML cannot carry the key
    assert found["Uploads"][0]["Key"] == "k%01"
    assert found["Uploads"][0]["Initiated"] == AT
    assert (found["NextKeyMarker"], found["NextUploadIdMarker"], found["IsTruncated"]) == ("k%01", "u", True)
    assert (found["KeyMarker"], found["UploadIdMarker"], found["MaxUploads"]) == ("a", "b", 1)
    assert found["CommonPrefixes"] == [{"Prefix": "k/"}]


def test_the_documents_of_an_upload() -> None:
    assert read("CreateMultipartUpload", answers.create_multipart_upload("b", "k<", "u")) == {
        "Bucket": "b",
        "Key": "k<",
        "UploadId": "u",
    }
    checksums = {"x-amz-checksum-crc32c": "c-2", "x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-algorithm": "X"}
    whole = answers.complete_multipart_upload("http://h/b/k", "b", "k", "e-2", checksums)
    assert read("CompleteMultipartUpload", whole) == {
        "Location": "http://h/b/k",
        "Bucket": "b",
        "Key": "k",
        "ETag": '"e-2"',
        "ChecksumCRC32C": "c-2",
        "ChecksumType": "COMPOSITE",
    }
    bare = answers.complete_multipart_upload("http://h/b/k", "b", "k", "e-2", checksums, declaration=False)
    assert answers.XML_DECLARATION + bare == whole
    spaced = answers.XML_DECLARATION + b"   \n" + bare
    assert read("CompleteMultipartUpload", spaced) == read("CompleteMultipartUpload", whole)


def test_copies() -> None:
    checksums = {"x-amz-checksum-crc32": "c", "x-amz-checksum-type": "FULL_OBJECT"}
    expected = {"ETag": '"e"', "LastModified": AT, "ChecksumCRC32": "c"}
    assert read("UploadPartCopy", answers.copy_part("e", AT_MS, checksums)) == {"CopyPartResult": expected}
    expected["ChecksumType"] = "FULL_OBJECT"
    assert read("CopyObject", answers.copy_object("e", AT_MS, checksums)) == {"CopyObjectResult": expected}


@pytest.mark.parametrize("quiet", [False, True])
def test_the_result_of_a_delete(quiet: bool) -> None:
    results: list[Deleted | DeleteFailure] = [
        Deleted("a"),
        DeleteFailure("b", "AccessDenied", "no", "null"),
        Deleted("c", "null"),
    ]
    found = read("DeleteObjects", answers.delete_result(results, quiet))
    assert found["Errors"] == [{"Key": "b", "VersionId": "null", "Code": "AccessDenied", "Message": "no"}]
    assert found.get("Deleted", []) == ([] if quiet else [{"Key": "a"}, {"Key": "c", "VersionId": "null"}])


def test_buckets() -> None:
    params = listing.buckets_params(Query.parse("prefix=b"))
    body = answers.list_buckets([BucketInfo("b1", BucketId(bytes(16)), AT_MS)], "t", params, OWNER, "r")
    assert read("ListBuckets", body) == {
        "Buckets": [{"Name": "b1", "CreationDate": AT, "BucketRegion": "r"}],
        "Owner": {"ID": OWNER.id, "DisplayName": OWNER.name},
        "ContinuationToken": "t",
        "Prefix": "b",
    }


def test_the_owner_controls_everything() -> None:
    for operation in ("GetBucketAcl", "GetObjectAcl"):
        found = read(operation, answers.acl(OWNER))
        assert found["Owner"]["ID"] == OWNER.id
        assert [grant["Permission"] for grant in found["Grants"]] == ["FULL_CONTROL"]
        assert found["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"


def test_versioning_is_shown_once_it_was_configured() -> None:
    assert read("GetBucketVersioning", answers.versioning("")) == {}
    assert read("GetBucketVersioning", answers.versioning("Suspended")) == {"Status": "Suspended"}


@pytest.mark.parametrize(("region", "body"), [("us-east-1", b""), ("eu-<1>", b"eu-&lt;1&gt;")])
def test_the_location(region: str, body: bytes) -> None:
    opening = b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    assert answers.location(region) == answers.XML_DECLARATION + opening + body + b"</LocationConstraint>"


def test_the_constant_answers_say_that_there_is_nothing() -> None:
    for operation, body in EMPTY.items():
        found = read(operation.value, body)
        assert found in ({}, {"TagSet": []}, {"Payer": "BucketOwner"}, {"IsTruncated": False}), operation


def test_the_date_of_a_header() -> None:
    assert answers.http_date(AT_MS) == "Fri, 24 May 2013 00:00:00 GMT"
