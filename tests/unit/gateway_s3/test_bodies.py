"""Request documents, as boto3 writes them and as they must not be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.bodies import CompletePart, DeleteEntry, NewBucket, parse_complete, parse_create_bucket, parse_delete
from gateway.s3.conditions import entry_condition
from gateway.s3.errors import S3Error
from objstore.engine.types import WriteCondition
from tests.unit.gateway_s3 import boto

# Characters that XML 1.0 can carry: boto3 writes others down as they are, and no parser can read those.
KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)


def code(error: pytest.ExceptionInfo[S3Error]) -> str:
    return error.value.code


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(KEYS, min_size=1, max_size=5), quiet=st.booleans())
def test_the_delete_of_boto3_is_read_back(keys: list[str], quiet: bool) -> None:
    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": quiet}
    sent = boto.send(boto.client(), lambda c: c.delete_objects(Bucket="bucket", Delete=wanted))
    found = parse_delete(sent.body)
    assert found.entries == tuple(DeleteEntry(key) for key in keys)
    assert found.quiet is quiet


def test_versions_and_etags_of_a_delete() -> None:
    body = b"<Delete><Object><Key> a </Key><VersionId>null</VersionId><ETag>&quot;e&quot;</ETag></Object></Delete>"
    assert parse_delete(body).entries == (DeleteEntry(" a ", "null", '"e"'),)


def test_the_conditions_of_a_delete_as_boto3_writes_them() -> None:
    when = datetime(2026, 11, 22, 18, 0, 5, tzinfo=UTC)
    wanted = {"Objects": [{"Key": "k", "ETag": '"e"', "Size": 7, "LastModifiedTime": when}]}
    sent = boto.send(boto.client(), lambda c: c.delete_objects(Bucket="bucket", Delete=wanted))
    (entry,) = parse_delete(sent.body).entries
    condition = entry_condition(entry.etag, entry.size, entry.modified)
    assert condition == WriteCondition("e", None, 7, int(when.timestamp()))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<Delete></Delete>", "MalformedXML"),
        (b"<Delete><Object></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key></Key></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key><Only>b</Only></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key></Object><Quiet>maybe</Quiet></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key><Size>1</Size><Size>2</Size></Object></Delete>", "MalformedXML"),
        (b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>", "MalformedXML"),
        (b"<Complete/>", "MalformedXML"),
        (b"", "MalformedXML"),
    ],
)
def test_other_deletes_are_refused(body: bytes, expected: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_delete(body)
    assert code(caught) == expected


def test_the_completion_of_boto3_is_read_back() -> None:
    parts = [
        {"PartNumber": 2, "ETag": '"b"', "ChecksumCRC32": "AAAAAA=="},
        {"PartNumber": 1, "ETag": "a"},
    ]
    sent = boto.send(
        boto.client(),
        lambda c: c.complete_multipart_upload(Bucket="bucket", Key="k", UploadId="u", MultipartUpload={"Parts": parts}),
    )
    assert parse_complete(sent.body) == (CompletePart(2, "b", {"crc32": "AAAAAA=="}), CompletePart(1, "a", {}))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", "MalformedXML"),
        ("<Part><PartNumber>1</PartNumber></Part>", "MalformedXML"),
        ("<Part><ETag>a</ETag></Part>", "MalformedXML"),
        ("<Part><PartNumber>0</PartNumber><ETag>a</ETag></Part>", "InvalidArgument"),
        ("<Part><PartNumber>10001</PartNumber><ETag>a</ETag></Part>", "InvalidArgument"),
        ("<Part><PartNumber>one</PartNumber><ETag>a</ETag></Part>", "InvalidArgument"),
        ("<Part><PartNumber>1</PartNumber><ETag>a</ETag><ChecksumMD5>a</ChecksumMD5></Part>", "MalformedXML"),
        ("<Part><PartNumber>1</PartNumber><ETag>a</ETag><ChecksumCRC32>a</ChecksumCRC32></Part>", "InvalidRequest"),
    ],
)
def test_other_completions_are_refused(part: str, expected: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_complete(f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode())
    assert code(caught) == expected


def test_ten_thousand_parts_are_read_and_one_more_is_not() -> None:
    part = "<Part><PartNumber>10000</PartNumber><ETag>a</ETag></Part>"
    for count, good in ((10_000, True), (10_001, False)):
        body = f"<CompleteMultipartUpload>{part * count}</CompleteMultipartUpload>".encode()
        if good:
            assert len(parse_complete(body)) == count
        else:
            with pytest.raises(S3Error):
                parse_complete(body)


def test_the_configuration_of_a_new_bucket() -> None:
    sent = boto.send(
        boto.client(),
        lambda c: c.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}),
    )
    assert parse_create_bucket(sent.body) == NewBucket("eu-west-1", {})
    assert parse_create_bucket(b"") == parse_create_bucket(b"<CreateBucketConfiguration/>") == NewBucket("", {})
    tags = b"<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
    found = parse_create_bucket(b"<CreateBucketConfiguration>" + tags + b"</CreateBucketConfiguration>")
    assert found == NewBucket("", {"a": "b"})
    for body, expected in (
        (b"<CreateBucketConfiguration>" + tags * 2 + b"</CreateBucketConfiguration>", "MalformedXML"),
        (b"<CreateBucketConfiguration><Location/></CreateBucketConfiguration>", "NotImplemented"),
        (b"<CreateBucketConfiguration><Other/></CreateBucketConfiguration>", "MalformedXML"),
        (b"garbage", "MalformedXML"),
    ):
        with pytest.raises(S3Error) as caught:
            parse_create_bucket(body)
        assert code(caught) == expected
