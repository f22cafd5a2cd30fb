"""The router: every operation of the published API is known, and nothing with a meaning is ignored."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest

import gateway.s3
from gateway.s3 import router
from gateway.s3.errors import S3Error
from gateway.s3.operations import DELETED, EMPTY, NOT_CONFIGURED, TABLE, Operation, Row, Scope, Support
from gateway.s3.router import copy_source, route
from gateway.s3.target import Query
from tests.unit.gateway_s3 import boto

MODEL = botocore.session.get_session().get_service_model("s3")
# Old names of operations that the API still lists, and one that is no request to a bucket at all.
ALIASES = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "PutBucketLifecycle",
    "PutBucketNotification",
    "WriteGetObjectResponse",
}


def asked(row: Row) -> tuple[str, str | None, str | None, Query, dict[str, str]]:
    bucket = None if row.scope is Scope.SERVICE else "bucket"
    key = "key" if row.scope is Scope.OBJECT else None
    query = Query((marker, "2" if marker == "list-type" else "1") for marker in row.markers)
    return row.method, bucket, key, query, {row.header: "b/k"} if row.header else {}


def refused(method: str, target: str, headers: dict[str, str] | None = None) -> S3Error:
    path, _, query = target.partition("?")
    bucket, _, key = path.removeprefix("/").partition("/")
    with pytest.raises(S3Error) as caught:
        route(method, bucket or None, key or None, Query.parse(query), headers or {})
    return caught.value


def routed(method: str, target: str, headers: dict[str, str] | None = None) -> Operation:
    path, _, query = target.partition("?")
    bucket, _, key = path.removeprefix("/").partition("/")
    return route(method, bucket or None, key or None, Query.parse(query), headers or {})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.operation.value)
def test_each_row_routes_to_its_operation_or_is_refused_by_its_name(row: Row) -> None:
    if row.support is Support.NO:
        with pytest.raises(S3Error) as caught:
            route(*asked(row))
        assert caught.value.status == 501
        assert row.operation.value in caught.value.message
    else:
        assert route(*asked(row)) is row.operation


def test_the_table_has_every_operation_once() -> None:
    assert sorted(row.operation.value for row in TABLE) == sorted(operation.value for operation in Operation)
    requests = [(row.method, row.scope, frozenset(row.markers), row.header) for row in TABLE]
    assert len(set(requests)) == len(requests)


def test_every_operation_of_the_published_api_is_known() -> None:
    known = {operation.value for operation in Operation}
    # Newer versions of the API have newer operations: these are refused as unknown parameters.
    assert set(MODEL.operation_names) - ALIASES <= known
    assert known - set(MODEL.operation_names) == {"PostObject"}


@pytest.mark.parametrize("name", sorted(set(MODEL.operation_names) - ALIASES - {"ListParts", "ListDirectoryBuckets"}))
def test_the_request_line_of_the_published_api_leads_to_the_operation(name: str) -> None:
    model = MODEL.operation_model(name)
    path, _, raw = model.http["requestUri"].partition("?")
    wanted = [
        member.serialization["name"]
        for field, member in model.input_shape.members.items()
        if member.serialization.get("location") == "querystring" and field in model.input_shape.required_members
    ]
    pairs = [*Query.parse(raw).pairs, *((marker, "1") for marker in wanted)]
    headers = {"x-amz-copy-source": "b/k"} if name in ("CopyObject", "UploadPartCopy") else {}
    bucket, key = ("bucket" if "{Bucket}" in path else None), ("key" if "{Key+}" in path else None)
    row = router._match(
        model.http["method"], Scope.OBJECT if key else Scope.BUCKET if bucket else Scope.SERVICE, Query(pairs), headers
    )
    assert row.operation.value == name


def test_what_is_answered_without_being_configured_is_in_just_one_list() -> None:
    absent = {row.operation for row in TABLE if row.support is Support.ABSENT}
    assert absent == NOT_CONFIGURED.keys() | EMPTY.keys() | DELETED
    assert len(absent) == len(NOT_CONFIGURED) + len(EMPTY) + len(DELETED)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/bucket?foo"),
        ("GET", "/bucket?list-type=2&metadata-too=true"),
        ("GET", "/bucket/key?uploads"),
        ("GET", "/bucket/key?acl&tagging"),
        ("PUT", "/bucket/key?uploadId=u"),
        ("PUT", "/bucket/key?partNumber=1"),
        ("PUT", "/bucket/key?foo"),
        ("DELETE", "/bucket?force"),
        ("HEAD", "/bucket?foo"),
        ("POST", "/bucket?foo"),
        ("POST", "/bucket/key?foo"),
        ("POST", "/bucket/key?tagging"),
    ],
)
def test_unknown_parameters_are_refused(method: str, target: str) -> None:
    assert refused(method, target).status == 501


@pytest.mark.parametrize(
    "target",
    ["/bucket/key?x-id=GetObject", "/bucket/key?X-Amz-Signature=0&X-Amz-Date=1", "/bucket/key?x-custom=1"],
)
def test_parameters_for_the_log_and_for_authentication_are_fine(target: str) -> None:
    assert routed("GET", target) is Operation.GET_OBJECT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption-of-the-future", "AES256"),
        ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
        ("x-amz-tagging-directive", "REPLACE"),
        ("x-amz-bucket-object-lock-enabled", "true"),
        ("x-amz-bypass-governance-retention", "true"),
        ("x-amz-website-redirect-location", "/"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-api-version", "2030-01-01"),
        ("x-amz-rename-source", "/b/k"),
        ("x-amz-source-expected-bucket-owner", "123456789012"),
        ("x-amz-if-match-size", "1"),
        ("x-amz-of-the-future", "x"),
        ("if-modified-since", "x"),
        ("if-unmodified-since", "x"),
        ("content-range", "bytes 0-1/2"),
    ],
)
def test_headers_that_would_change_the_meaning_are_refused_by_name(name: str, value: str) -> None:
    error = refused("PUT", "/bucket/key", {name: value})
    assert (error.status, error.extra) == (501, {"Header": name})
    assert name in error.message.lower()


@pytest.mark.parametrize(
    ("method", "target", "name", "value", "code"),
    [
        ("PUT", "/bucket/key", "x-amz-object-ownership", "ObjectWriter", "NotImplemented"),
        ("PUT", "/bucket/key?tagging", "x-amz-grant-read", "id=1", "NotImplemented"),
        ("PUT", "/bucket/key", "x-amz-storage-class", "OF_THE_FUTURE", "InvalidStorageClass"),
        ("GET", "/bucket/key", "x-amz-acl", "public-read", "NotImplemented"),
        ("PUT", "/bucket/key", "x-amz-checksum-of-the-future", "x", "InvalidRequest"),
    ],
)
def test_values_that_have_no_meaning_there_are_refused(
    method: str, target: str, name: str, value: str, code: str
) -> None:
    assert refused(method, target, {name: value}).code == code


def test_the_same_as_parameters_of_a_presigned_url_are_refused_too() -> None:
    found = refused("PUT", "/bucket/key?tagging&X-Amz-Acl=public-read&X-Amz-Signature=0")
    assert found.extra == {"Header": "x-amz-acl"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-acl", "public-read"),
        ("x-amz-grant-full-control", "id=1"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-api-version", "2006-03-01"),
        ("x-amz-meta-anything", "x"),
        ("x-amz-checksum-crc64nvme", "x"),
        ("x-amz-request-payer", "requester"),
        ("if-none-match", "*"),
        ("if-match", "e"),
        ("expect", "100-continue"),
        ("x-forwarded-for", "10.0.0.1"),
    ],
)
def test_headers_that_are_obeyed_or_harmless_are_accepted(name: str, value: str) -> None:
    assert routed("PUT", "/bucket/key", {name: value}) is Operation.PUT_OBJECT


def test_conditions_are_refused_where_they_would_be_ignored() -> None:
    assert refused("PUT", "/bucket/key?partNumber=1&uploadId=u", {"if-match": "e"}).status == 501
    assert refused("DELETE", "/bucket/key", {"if-none-match": "*"}).status == 501
    assert refused("DELETE", "/bucket", {"if-match": "e"}).status == 501
    assert refused("POST", "/bucket/key?uploads", {"if-none-match": "*"}).status == 501
    assert routed("GET", "/bucket/key", {"if-none-match": "e"}) is Operation.GET_OBJECT
    assert routed("GET", "/bucket", {"if-modified-since": "x"}) is Operation.LIST_OBJECTS


def test_a_copy_source_makes_a_copy_and_has_no_place_elsewhere() -> None:
    source = {"x-amz-copy-source": "b/k", "x-amz-copy-source-if-match": "e"}
    assert routed("PUT", "/bucket/key", source) is Operation.COPY_OBJECT
    assert routed("PUT", "/bucket/key?partNumber=1&uploadId=u", source) is Operation.UPLOAD_PART_COPY
    assert refused("GET", "/bucket/key", source).status == 501
    assert refused("PUT", "/bucket", source).status == 501
    assert refused("PUT", "/bucket/key", {"x-amz-copy-source-range": "bytes=0-1"}).status == 501


def test_version_ids_are_null_or_those_that_are_given_out() -> None:
    assert routed("GET", "/bucket/key?versionId=null") is Operation.GET_OBJECT
    assert routed("GET", "/bucket/key?versionId=" + "0a" * 16) is Operation.GET_OBJECT
    assert refused("GET", "/bucket/key?versionId=abc").code == "InvalidArgument"
    assert refused("DELETE", "/bucket/key?versionId=").code == "InvalidArgument"


@pytest.mark.parametrize(("method", "target"), [("PATCH", "/bucket/key"), ("PUT", "/"), ("OPTIONS", "/bucket")])
def test_other_methods_are_not_allowed(method: str, target: str) -> None:
    error = refused(method, target)
    assert error.status == 405
    assert error.headers["Allow"]


def test_names_are_checked_first() -> None:
    assert refused("GET", "/NO?foo").code == "InvalidBucketName"
    assert refused("GET", "/bucket/" + "k" * 1025).code == "KeyTooLongError"


@pytest.mark.parametrize(
    ("header", "source"),
    [
        ("bucket/k", ("bucket", "k", None)),
        ("/bucket/a/b%20c+d%2B", ("bucket", "a/b c+d+", None)),
        ("bucket/k%3FversionId=x", ("bucket", "k?versionId=x", None)),
        ("bucket/k?versionId=null", ("bucket", "k", "null")),
        ("bucket/k?versionId=" + "ab" * 16, ("bucket", "k", "ab" * 16)),
        ("bucket//k", ("bucket", "/k", None)),
    ],
)
def test_copy_sources(header: str, source: tuple[str, str, str | None]) -> None:
    assert copy_source(header) == source


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("bucket", "InvalidArgument"),
        ("bucket/", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("bucket/k?versionId=3", "InvalidArgument"),
        ("bucket/k?versionId=", "InvalidArgument"),
        ("arn:aws:s3:us-west-2:1:accesspoint/x/object/y", "NotImplemented"),
        ("BUCKET/k", "InvalidBucketName"),
        ("bucket/%ff", "InvalidURI"),
    ],
)
def test_bad_copy_sources(header: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        copy_source(header)
    assert caught.value.code == code


def test_the_copy_source_of_boto3_is_read_back() -> None:
    source = {"Bucket": "other-bucket", "Key": "a b+c/é?d%"}
    sent = boto.send(boto.client(), lambda c: c.copy_object(Bucket="bucket", Key="k", CopySource=source))
    assert copy_source(sent.headers["x-amz-copy-source"]) == ("other-bucket", "a b+c/é?d%", None)


def test_the_design_document_has_the_table_of_the_router() -> None:
    text = (Path(gateway.s3.__path__[0]) / "DESIGN.md").read_text()
    shown = dict(re.findall(r"^\| (\w+) \| [^|]* \| (yes|partial|absent|501)\b", text, re.MULTILINE))
    words = {Support.YES: "yes", Support.PARTIAL: "partial", Support.ABSENT: "absent", Support.NO: "501"}
    assert shown == {row.operation.value: words[row.support] for row in TABLE}


def test_the_design_names_the_conditions_of_each_operation() -> None:
    text = (Path(gateway.s3.__path__[0]) / "DESIGN.md").read_text()
    table = text.partition("## Conditions")[2].partition("## Operations")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    written = {operation: conditions.split() for operation, conditions, _ in rows[2:]}
    assert written == {row.operation.value: sorted(row.conditions) for row in TABLE if row.conditions}
    assert routed("DELETE", "/bucket/key", {"x-amz-if-match-size": "5"}) is Operation.DELETE_OBJECT
    assert refused("PUT", "/bucket/key", {"x-amz-if-match-size": "5"}).status == 501


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        ("/bucket?list-type=2&metadata=true", Operation.LIST_OBJECTS_V2),
        ("/bucket?versions&metadata=true", Operation.LIST_OBJECT_VERSIONS),
        ("/bucket?lifecycle&withUpdatedAt=true", Operation.GET_BUCKET_LIFECYCLE_CONFIGURATION),
    ],
)
def test_additions_that_clients_of_minio_ask_for_are_not_refused(target: str, operation: Operation) -> None:
    assert routed("GET", target) is operation
