"""Lifecycle: the configuration, and what answers say of it. What the worker does: tests/unit/lifecycle."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.s3.errors import error_code, status_of
from tests.s3.wire import Wire

RULE = {"ID": "one", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


def put(s3: Any, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})


def rule(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**RULE, **changes}.items() if value is not None}


TAG = {"Key": "a", "Value": "1"}
EVERY_FORM = [
    rule(ID="prefix", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
    rule(ID="empty", Filter={}, Status="Disabled"),
    rule(ID="all", Filter={"Prefix": ""}, Expiration={"ExpiredObjectDeleteMarker": True}),
    rule(ID="tag", Filter={"Tag": TAG}),
    rule(ID="above", Filter={"ObjectSizeGreaterThan": 0}),
    rule(ID="below", Filter={"ObjectSizeLessThan": 10}),
    rule(
        ID="and",
        Filter={
            "And": {
                "Prefix": "p&<>",
                "Tags": [TAG, {"Key": "b", "Value": ""}],
                "ObjectSizeGreaterThan": 1,
                "ObjectSizeLessThan": 5,
            }
        },
        Expiration=None,
        NoncurrentVersionExpiration={"NoncurrentDays": 2, "NewerNoncurrentVersions": 3},
    ),
    rule(ID="legacy", Filter=None, Prefix="old/", Expiration={"Date": datetime(2030, 1, 31, tzinfo=UTC)}),
]


def test_rules_are_kept_as_they_were_sent(s3: Any, bucket: str) -> None:
    assert error_code(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == "NoSuchLifecycleConfiguration"
    put(s3, bucket, *EVERY_FORM)
    found = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert found["Rules"] == EVERY_FORM
    assert found["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    put(s3, bucket, RULE)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [RULE]
    assert status_of(s3.delete_bucket_lifecycle(Bucket=bucket)) == 204
    assert error_code(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == "NoSuchLifecycleConfiguration"
    assert status_of(s3.delete_bucket_lifecycle(Bucket=bucket)) == 204


def test_a_rule_without_an_id_is_given_one(s3: Any, bucket: str) -> None:
    put(s3, bucket, rule(ID=None), rule(ID=None))
    ids = [one["ID"] for one in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]]
    assert all(ids) and len(set(ids)) == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ID": "x" * 256}, "InvalidArgument"),
        ({"Status": "enabled"}, "MalformedXML"),
        ({"Filter": None}, "MalformedXML"),
        ({"Prefix": "logs/"}, "MalformedXML"),
        ({"Filter": {"Prefix": "x", "Tag": TAG}}, "MalformedXML"),
        ({"Filter": {"And": {}}}, "MalformedXML"),
        ({"Filter": {"And": {"Tags": [TAG, TAG]}}}, "InvalidRequest"),
        ({"Filter": {"Tag": {"Key": "aws:x", "Value": "1"}}}, "InvalidTag"),
        ({"Filter": {"ObjectSizeGreaterThan": -1}}, "InvalidArgument"),
        ({"Filter": {"ObjectSizeLessThan": 0}}, "InvalidArgument"),
        ({"Filter": {"And": {"ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 5}}}, "InvalidRequest"),
        ({"Expiration": None}, "InvalidRequest"),
        ({"Expiration": {}}, "MalformedXML"),
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"Expiration": {"Days": -1}}, "InvalidArgument"),
        ({"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": True}}, "MalformedXML"),
        ({"Expiration": {"Date": datetime(2030, 1, 1, 1, tzinfo=UTC)}}, "InvalidArgument"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}, "InvalidArgument"),
        ({"NoncurrentVersionExpiration": {"NewerNoncurrentVersions": 2}}, "MalformedXML"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 101}}, "InvalidArgument"),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 0}}, "InvalidArgument"),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}, "Filter": {"Tag": TAG}}, "InvalidRequest"),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}, "Filter": {"Tag": TAG}}, "InvalidRequest"),
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "NotImplemented"),
        (
            {"NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "GLACIER"}]},
            "NotImplemented",
        ),
    ],
)
def test_what_is_no_rule_is_refused_and_changes_nothing(
    s3: Any, bucket: str, changes: dict[str, Any], code: str
) -> None:
    put(s3, bucket, RULE)
    wrong = {"Rules": [rule(ID="two"), rule(**{"ID": "wrong", **changes})]}
    got = error_code(s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration=wrong)
    assert got == code
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [RULE]


def test_ids_are_unique_and_rules_not_more_than_a_thousand(s3: Any, bucket: str) -> None:
    def refused(*rules: dict[str, Any]) -> str:
        return error_code(
            s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)}
        )

    assert refused(RULE, RULE) == "InvalidArgument"
    many = [rule(ID=str(number)) for number in range(1001)]
    assert refused(*many) == "MalformedXML"
    assert refused() == "MalformedXML"
    put(s3, bucket, *many[:1000])
    assert len(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]) == 1000


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("<Expiration><Date>20300101</Date></Expiration>", "MalformedXML"),
        ("<Expiration><Date>tomorrow</Date></Expiration>", "InvalidArgument"),
        ("<Expiration><Days>1e3</Days></Expiration>", "MalformedXML"),
        ("<Expiration><Days>99999999999999999999999</Days></Expiration>", "MalformedXML"),
        ("<Expiration><Days>2147483648</Days></Expiration>", "InvalidArgument"),
        ("<Expiration><Days>1</Days><Hours>1</Hours></Expiration>", "MalformedXML"),
        ("<Expiration><Days>1</Days></Expiration><Expiration><Days>1</Days></Expiration>", "MalformedXML"),
        ("<Expiration><Days>1</Days></Expiration><Unknown/>", "MalformedXML"),
    ],
)
def test_documents_that_no_client_sends(wire: Wire, bucket: str, content: str, code: str) -> None:
    rule_text = f"<Rule><Filter/><Status>Enabled</Status>{content}</Rule>"
    body = f"<LifecycleConfiguration>{rule_text}</LifecycleConfiguration>".encode()
    answer = wire.request("PUT", f"/{bucket}?lifecycle", body=body)
    assert (answer.status, answer.code) == (400, code)


def expiry_of(answer: dict[str, Any]) -> tuple[datetime, str] | None:
    """Of the header x-amz-expiration."""
    if "Expiration" not in answer:
        return None
    match = re.fullmatch(r'expiry-date="([^"]+)", rule-id="([^"]*)"', answer["Expiration"])
    assert match is not None, answer["Expiration"]
    at = datetime.strptime(match[1], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return at, match[2]


def midnight_after(moment: datetime, days: int) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days + 1)


def test_who_writes_and_reads_is_told_when_an_object_goes(s3: Any, bucket: str) -> None:
    put(
        s3,
        bucket,
        rule(ID="three days/ü"),
        rule(ID="off", Status="Disabled", Expiration={"Days": 1}),
        rule(ID="tagged", Filter={"And": {"Prefix": "logs/", "Tags": [TAG]}}, Expiration={"Days": 2}),
        rule(ID="large", Filter={"ObjectSizeGreaterThan": 5}, Expiration={"Date": datetime(2020, 1, 1, tzinfo=UTC)}),
    )
    name = "three%20days%2F%C3%BC"
    written = s3.put_object(Bucket=bucket, Key="logs/a", Body=b"x")
    shown = s3.head_object(Bucket=bucket, Key="logs/a")
    expected = (midnight_after(shown["LastModified"], 3), name)
    assert expiry_of(written) == expiry_of(shown) == expected
    assert expiry_of(s3.get_object(Bucket=bucket, Key="logs/a")) == expected
    copy = s3.copy_object(Bucket=bucket, Key="logs/b", CopySource={"Bucket": bucket, "Key": "logs/a"})
    assert expiry_of(copy) == (midnight_after(copy["CopyObjectResult"]["LastModified"], 3), name)
    assert expiry_of(s3.put_object(Bucket=bucket, Key="other", Body=b"x")) is None
    assert expiry_of(s3.head_object(Bucket=bucket, Key="other")) is None
    s3.put_object_tagging(Bucket=bucket, Key="logs/a", Tagging={"TagSet": [TAG]})
    assert expiry_of(s3.head_object(Bucket=bucket, Key="logs/a")) == (
        midnight_after(shown["LastModified"], 2),
        "tagged",
    )
    large = s3.put_object(Bucket=bucket, Key="logs/c", Body=b"123456")
    assert expiry_of(large) == (datetime(2020, 1, 1, tzinfo=UTC), "large")


def test_only_the_current_version_has_an_expiration(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(s3, bucket, RULE)
    old = s3.put_object(Bucket=bucket, Key="logs/a", Body=b"1")
    assert expiry_of(old) is not None
    s3.put_object(Bucket=bucket, Key="logs/a", Body=b"2")
    assert expiry_of(s3.head_object(Bucket=bucket, Key="logs/a", VersionId=old["VersionId"])) is None
    assert expiry_of(s3.head_object(Bucket=bucket, Key="logs/a")) is not None


def test_who_begins_an_upload_is_told_when_it_is_aborted(s3: Any, bucket: str) -> None:
    put(s3, bucket, rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}))
    upload = s3.create_multipart_upload(Bucket=bucket, Key="logs/big")
    [listed] = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert (upload["AbortDate"], upload["AbortRuleId"]) == (midnight_after(listed["Initiated"], 2), "one")
    names = {"Bucket": bucket, "Key": "logs/big", "UploadId": upload["UploadId"]}
    parts = s3.list_parts(**names)
    assert (parts["AbortDate"], parts["AbortRuleId"]) == (upload["AbortDate"], "one")
    other = s3.create_multipart_upload(Bucket=bucket, Key="other")
    assert "AbortDate" not in other
    part = s3.upload_part(**names, PartNumber=1, Body=b"x")
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert expiry_of(done) is not None
