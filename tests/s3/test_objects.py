"""Objects: what is put is what is got, headers and ranges, conditions, copies, deletes."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.web import StreamResponse
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from gateway.handlers import responses
from gateway.handlers.call import Call
from tests.s3.conftest import Endpoint, make_client
from tests.s3.errors import error_code, status_of
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("size", [0, 1, 5_000, 100_000, 3_000_001])
def test_what_is_put_is_what_is_got(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert (got["ContentLength"], got["ETag"], got["AcceptRanges"]) == (size, put["ETag"], "bytes")
    assert abs(got["LastModified"] - datetime.now(UTC)) < timedelta(minutes=5)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"], head["LastModified"]) == (size, put["ETag"], got["LastModified"])


@pytest.mark.parametrize(
    "key", ["a b", "a+b", "ä/ö/ü", "a//b", "/lead", "trail/", "%41", "q?x=1&y", "'(~*!)'", ".", "日本"]
)
def test_any_key_comes_back_as_it_went(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_an_overwrite_replaces_body_and_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "1"}, ContentType="text/plain")
    s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"newer", {}, "binary/octet-stream")


def test_stored_headers_come_back_and_others_do_not(s3: Any, bucket: str) -> None:
    stored = {
        "ContentType": "text/x-test",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "en",
        "Metadata": {"colour": "blue", "empty": ""},
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"not really gzip", Expires=LONG_AGO, **stored)
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in stored} == stored
        assert answer["ExpiresString"] == "Mon, 01 Jan 2001 00:00:00 GMT"


def test_user_metadata_is_bounded(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2000})
    code = error_code(s3.put_object, Bucket=bucket, Key="big", Body=b"", Metadata={"a": "x" * 2048})
    assert code == "MetadataTooLarge"
    assert error_code(s3.head_object, Bucket=bucket, Key="big") == "404"


def test_the_query_overrides_response_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="text/html", ResponseCacheControl="no-store")
    assert (got["ContentType"], got["CacheControl"]) == ("text/html", "no-store")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=90-", 90, 99),
        ("bytes=-7", 93, 99),
        ("bytes=50-900", 50, 99),
    ],
)
def test_a_range_gets_its_bytes(s3: Any, bucket: str, asked: str, first: int, last: int) -> None:
    data = os.urandom(100)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["Body"].read() == data[first : last + 1]
    assert (status_of(got), got["ContentRange"]) == (206, f"bytes {first}-{last}/100")
    head = s3.head_object(Bucket=bucket, Key="k", Range=asked)
    assert (status_of(head), head["ContentLength"]) == (206, last + 1 - first)


def test_a_range_outside_of_the_object_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-20")
    assert caught.value.response["Error"]["Code"] == "InvalidRange"
    assert status_of(caught.value.response) == 416


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    where = {"Bucket": bucket, "Key": "k"}
    later = datetime.now(UTC) + timedelta(days=1)
    for read in (s3.get_object, s3.head_object):
        assert status_of(read(**where, IfMatch=etag)) == 200
        assert status_of(read(**where, IfNoneMatch='"other"')) == 200
        assert status_of(read(**where, IfModifiedSince=LONG_AGO)) == 200
        assert status_of(read(**where, IfUnmodifiedSince=later)) == 200
        assert error_code(read, **where, IfNoneMatch=etag) == "304"
    assert error_code(s3.get_object, **where, IfMatch='"other"') == "PreconditionFailed"
    assert error_code(s3.head_object, **where, IfMatch='"other"') == "412"
    assert error_code(s3.get_object, **where, IfUnmodifiedSince=LONG_AGO) == "PreconditionFailed"


def test_a_304_names_the_etag(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["etag"] == etag and "last-modified" in headers


def test_conditional_writes(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    assert error_code(s3.put_object, **where, Body=b"0", IfMatch='"any"') == "NoSuchKey"
    first = s3.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert error_code(s3.put_object, **where, Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert error_code(s3.put_object, **where, Body=b"2", IfMatch='"other"') == "PreconditionFailed"
    assert s3.get_object(**where)["Body"].read() == b"1"
    second = s3.put_object(**where, Body=b"2", IfMatch=first)["ETag"]
    assert error_code(s3.delete_object, **where, IfMatch=first) == "PreconditionFailed"
    assert status_of(s3.delete_object(**where, IfMatch=second)) == 204
    s3.put_object(**where, Body=b"3", IfNoneMatch="*")


def test_deleting_what_is_not_there_succeeds(s3: Any, bucket: str) -> None:
    assert status_of(s3.delete_object(Bucket=bucket, Key="never")) == 204


def test_delete_objects_reports_each_key(s3: Any, bucket: str) -> None:
    keys = [f"k{number:04}&<>" for number in range(1000)]
    for key in keys[:3]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [entry["Key"] for entry in answer["Deleted"]] == keys
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_delete_objects_decides_conditions_per_key(s3: Any, bucket: str) -> None:
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"] for key in ("a", "b")}
    objects = [{"Key": "a", "ETag": etags["a"]}, {"Key": "b", "ETag": '"other"'}, {"Key": "c"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    assert "Deleted" not in answer
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("b", "PreconditionFailed")]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b"]


def test_deletes_may_name_size_and_time(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"12345")
    at = s3.head_object(**where)["LastModified"]
    assert error_code(s3.delete_object, **where, IfMatchSize=4) == "PreconditionFailed"
    assert error_code(s3.delete_object, **where, IfMatchLastModifiedTime=LONG_AGO) == "PreconditionFailed"
    objects = [{"Key": "k", "Size": 6}, {"Key": "k", "LastModifiedTime": LONG_AGO}, {"Key": "k", "ETag": "other"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [entry["Code"] for entry in answer["Errors"]] == ["PreconditionFailed"] * 3
    assert status_of(s3.delete_object(**where, IfMatchSize=5, IfMatchLastModifiedTime=at)) == 204
    assert status_of(s3.delete_object(**where, IfMatchSize=5, IfMatchLastModifiedTime=at)) == 204
    missing = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "Size": 5}, {"Key": "k", "ETag": "*"}]})
    assert [entry["Code"] for entry in missing["Errors"]] == ["NoSuchKey"]


def test_of_many_conditional_creators_one_wins(s3: Any, bucket: str) -> None:
    def create(number: int) -> str:
        try:
            s3.put_object(Bucket=bucket, Key="once", Body=b"%d" % number * 40_000, IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(create, range(8)))
    assert outcomes == ["PreconditionFailed"] * 7 + ["made"]


def test_a_copy_has_body_and_headers_of_its_source(s3: Any, bucket: str) -> None:
    data = os.urandom(200_000)
    s3.put_object(Bucket=bucket, Key="from ä+", Body=data, Metadata={"a": "1"}, ContentType="text/plain")
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from ä+"})
    got = s3.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == data
    assert (got["Metadata"], got["ContentType"]) == ({"a": "1"}, "text/plain")
    assert copied["CopyObjectResult"]["ETag"] == got["ETag"]


def test_a_copy_can_replace_the_headers_even_of_itself(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "CopySource": f"{bucket}/k"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"})
    assert error_code(s3.copy_object, **where) == "InvalidRequest"
    s3.copy_object(**where, MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="text/html")
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["Metadata"], head["ContentType"]) == ({"b": "2"}, "text/html")


def test_a_copy_obeys_conditions_on_source_and_destination(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="from", Body=b"x")["ETag"]
    where = {"Bucket": bucket, "Key": "to", "CopySource": f"{bucket}/from"}
    assert error_code(s3.copy_object, **where, CopySourceIfMatch='"other"') == "PreconditionFailed"
    assert error_code(s3.copy_object, **where, CopySourceIfNoneMatch=etag) == "PreconditionFailed"
    assert error_code(s3.head_object, Bucket=bucket, Key="to") == "404"
    s3.copy_object(**where, CopySourceIfMatch=etag, IfNoneMatch="*")
    assert error_code(s3.copy_object, **where, IfNoneMatch="*") == "PreconditionFailed"
    missing = {"Bucket": bucket, "Key": "to", "CopySource": f"{bucket}/missing"}
    assert error_code(s3.copy_object, **missing) == "NoSuchKey"


@pytest.mark.parametrize("parameter", ["x-amz-meta-a=b%0D%0Ac:%20d", "x-amz-meta-a%0D%0Ab=c", "x-amz-meta-a%20b=c"])
def test_a_presigned_parameter_cannot_hold_what_no_header_can(
    s3_endpoint: Endpoint, s3: Any, bucket: str, parameter: str
) -> None:
    request = AWSRequest("PUT", url=f"{s3_endpoint.url}/{bucket}/k?{parameter}")
    credentials = Credentials(s3_endpoint.access_key, s3_endpoint.secret_key)
    S3SigV4QueryAuth(credentials, "s3", "us-east-1").add_auth(request)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(request.url, data=b"x", method="PUT"))
    assert caught.value.code == 400
    caught.value.close()
    assert error_code(s3.head_object, Bucket=bucket, Key="k") == "404"


@pytest.mark.parametrize("signature", [{"signature_version": "s3v4"}, {}, {"signature_version": "s3"}])
def test_presigned_urls_read_and_write(s3_endpoint: Endpoint, bucket: str, signature: dict[str, str]) -> None:
    """boto3 presigns in the old way unless it is told not to."""
    signer = make_client(s3_endpoint, **signature)
    where = {"Bucket": bucket, "Key": "signed key"}
    wanted = {**where, "ContentType": "text/plain", "Metadata": {"a": "b"}}
    put = signer.generate_presigned_url("put_object", Params=wanted, ExpiresIn=60)
    request = urllib.request.Request(put, data=b"by url", method="PUT", headers={"Content-Type": "text/plain"})
    if signature.get("signature_version") == "s3v4":
        request.add_header("x-amz-meta-a", "b")  # of SigV4 the URL says only that it is signed
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    get = signer.generate_presigned_url("get_object", Params={**where, "ResponseContentType": "a/b"}, ExpiresIn=60)
    with urllib.request.urlopen(get) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"by url", "a/b")
        assert answer.headers["x-amz-meta-a"] == "b"
    signer.close()


def test_a_client_that_signs_in_the_old_way(s3_endpoint: Endpoint, bucket: str) -> None:
    s3 = make_client(s3_endpoint, signature_version="s3")
    where = {"Bucket": bucket, "Key": "a b+c/é"}
    s3.put_object(**where, Body=b"x" * 100, ContentType="a/b", Metadata={"m": "1"}, Tagging="t=1")
    assert s3.get_object(**where)["Body"].read() == b"x" * 100
    assert s3.get_object_tagging(**where)["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="a ")["Contents"]] == ["a b+c/é"]
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"y")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where)
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": where["Key"]}]})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"y"
    s3.close()


@pytest.mark.parametrize(
    ("size", "apart"), [(1, 0), (responses.WHOLE_BYTES_MAX, 0), (responses.WHOLE_BYTES_MAX + 1, 1)]
)
def test_a_short_body_leaves_together_with_its_headers(monkeypatch: pytest.MonkeyPatch, size: int, apart: int) -> None:
    begun = []
    begin = responses.begin

    async def spy(call: Call, response: StreamResponse) -> None:
        begun.append(response)
        await begin(call, response)

    monkeypatch.setattr(responses, "begin", spy)
    with local_gateway(MemoryEngine()) as gateway:
        client = make_client(Endpoint(gateway.url, ACCESS_KEY, SECRET_KEY))
        client.create_bucket(Bucket="bkt")
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        client.put_object(Bucket="bkt", Key="k", Body=data)
        answer = client.get_object(Bucket="bkt", Key="k")
        assert (answer["ContentLength"], answer["Body"].read()) == (size, data)
        client.close()
    assert len(begun) == apart
