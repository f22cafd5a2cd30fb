"""Object lock: what is retained or held cannot be deleted, and who may shorten that."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from objstore.model.errors import ObjectLocked
from objstore.model.records import Lock
from tests.s3.errors import error_code, status_of
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Wire

LATER = datetime(2140, 1, 1, tzinfo=UTC)
GOVERNANCE = {"Mode": "GOVERNANCE", "RetainUntilDate": LATER}
COMPLIANCE = {"Mode": "COMPLIANCE", "RetainUntilDate": LATER}


@pytest.fixture
def locked(s3: Any) -> Iterator[str]:
    """A bucket with object lock. What is under compliance stays, and the bucket with it."""
    name = f"lock-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield name
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            named = {"Bucket": name, "Key": entry["Key"], "VersionId": entry["VersionId"]}
            if "Size" in entry:
                s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
            try:
                s3.delete_object(**named, BypassGovernanceRetention=True)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied"
                return
    s3.delete_bucket(Bucket=name)


def configuration(**default: Any) -> dict[str, Any]:
    rule = {"Rule": {"DefaultRetention": default}} if default else {}
    return {"ObjectLockEnabled": "Enabled", **rule}


def put(s3: Any, bucket: str, key: str = "k", **options: Any) -> str:
    version = s3.put_object(Bucket=bucket, Key=key, Body=b"x", **options)["VersionId"]
    assert isinstance(version, str)
    return version


def test_a_bucket_made_with_lock_is_versioned_for_ever(s3: Any, locked: str) -> None:
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == configuration()
    suspended = {"Status": "Suspended"}
    code = error_code(s3.put_bucket_versioning, Bucket=locked, VersioningConfiguration=suspended)
    assert code == "InvalidBucketState"
    s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Enabled"})
    assert status_of(s3.delete_object(Bucket=locked, Key="never")) == 204


def test_lock_can_be_enabled_later_while_versions_are_kept(s3: Any, bucket: str) -> None:
    assert error_code(s3.get_object_lock_configuration, Bucket=bucket) == "ObjectLockConfigurationNotFoundError"
    wanted = configuration(Mode="GOVERNANCE", Days=1)
    for status in (None, "Suspended"):
        if status:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        code = error_code(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=wanted)
        assert code == "InvalidBucketState"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=wanted)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == wanted
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration())
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Mode": "GOVERNANCE", "Days": 1, "Years": 1}, "MalformedXML"),
        ({"Mode": "GOVERNANCE"}, "MalformedXML"),
        ({"Mode": "abc", "Years": 1}, "MalformedXML"),
        ({"Mode": "governance", "Years": 1}, "MalformedXML"),
        ({"Mode": "GOVERNANCE", "Days": 0}, "InvalidArgument"),
        ({"Mode": "GOVERNANCE", "Years": -1}, "InvalidArgument"),
        ({"Mode": "GOVERNANCE", "Years": 101}, "InvalidArgument"),
    ],
)
def test_other_defaults_are_refused(s3: Any, locked: str, changes: dict[str, Any], code: str) -> None:
    wanted = configuration(**changes)
    assert error_code(s3.put_object_lock_configuration, Bucket=locked, ObjectLockConfiguration=wanted) == code
    off = {**configuration(Mode="GOVERNANCE", Days=1), "ObjectLockEnabled": "Disabled"}
    assert error_code(s3.put_object_lock_configuration, Bucket=locked, ObjectLockConfiguration=off) == "MalformedXML"


def test_without_lock_nothing_can_be_locked(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    named = {"Bucket": bucket, "Key": "k"}
    hold = {"Status": "ON"}
    assert error_code(s3.put_object_retention, **named, Retention=GOVERNANCE) == "InvalidRequest"
    assert error_code(s3.get_object_retention, **named) == "InvalidRequest"
    assert error_code(s3.put_object_legal_hold, **named, LegalHold=hold) == "InvalidRequest"
    assert error_code(s3.get_object_legal_hold, **named) == "InvalidRequest"
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": LATER}
    assert error_code(s3.put_object, **named, Body=b"y", **lock) == "InvalidRequest"
    assert error_code(s3.create_multipart_upload, **named, ObjectLockLegalHoldStatus="ON") == "InvalidRequest"


def test_governance_yields_to_a_bypass_and_to_nothing_else(s3: Any, locked: str) -> None:
    version = put(s3, locked)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert error_code(s3.get_object_retention, **named) == "NoSuchObjectLockConfiguration"
    s3.put_object_retention(Bucket=locked, Key="k", Retention=GOVERNANCE)
    assert s3.get_object_retention(**named)["Retention"] == GOVERNANCE
    shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": LATER - timedelta(days=1)}
    longer = {"Mode": "GOVERNANCE", "RetainUntilDate": LATER + timedelta(days=1)}
    for less in (shorter, {}, COMPLIANCE):
        assert error_code(s3.put_object_retention, **named, Retention=less) == "AccessDenied"
    s3.put_object_retention(**named, Retention=longer)
    s3.put_object_retention(**named, Retention=shorter, BypassGovernanceRetention=True)
    assert s3.get_object_retention(**named)["Retention"] == shorter
    assert error_code(s3.delete_object, **named) == "AccessDenied"
    marker = s3.delete_object(Bucket=locked, Key="k")
    assert marker["DeleteMarker"] is True
    failed = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert [one["Code"] for one in failed["Errors"]] == ["AccessDenied"] and "Deleted" not in failed
    objects = [{"Key": "k", "VersionId": version}]
    gone = s3.delete_objects(Bucket=locked, Delete={"Objects": objects}, BypassGovernanceRetention=True)
    assert [one["VersionId"] for one in gone["Deleted"]] == [version]
    assert error_code(s3.head_object, **named) == "404"


def test_compliance_yields_to_nobody(s3: Any, locked: str) -> None:
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=LATER)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": LATER - timedelta(days=1)}
    longer = {"Mode": "COMPLIANCE", "RetainUntilDate": LATER + timedelta(days=1)}
    for less in (shorter, {}, GOVERNANCE):
        code = error_code(s3.put_object_retention, **named, Retention=less, BypassGovernanceRetention=True)
        assert code == "AccessDenied"
    s3.put_object_retention(**named, Retention=longer)
    assert s3.get_object_retention(**named)["Retention"] == longer
    assert error_code(s3.delete_object, **named, BypassGovernanceRetention=True) == "AccessDenied"
    second = put(s3, locked)
    assert second != version, "new versions of a locked key are welcome"
    assert s3.get_object(**named)["Body"].read() == b"x"


def test_a_retention_that_has_ended_keeps_nothing(s3: Any, locked: str) -> None:
    until = datetime.now(UTC) + timedelta(seconds=4)  # until then a busy machine must have asked for the first delete
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert error_code(s3.delete_object, **named) == "AccessDenied"
    while datetime.now(UTC) < until:
        time.sleep(0.05)
    assert status_of(s3.delete_object(**named)) == 204


def test_a_legal_hold_is_independent_of_retention(s3: Any, locked: str) -> None:
    version = put(s3, locked)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert error_code(s3.get_object_legal_hold, **named) == "NoSuchObjectLockConfiguration"
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(**named)["LegalHold"] == {"Status": "ON"}
    assert error_code(s3.delete_object, **named, BypassGovernanceRetention=True) == "AccessDenied"
    assert error_code(s3.put_object_legal_hold, **named, LegalHold={"Status": "abc"}) == "MalformedXML"
    s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**named)["LegalHold"] == {"Status": "OFF"}
    assert s3.head_object(**named)["ObjectLockLegalHoldStatus"] == "OFF"
    assert status_of(s3.delete_object(**named)) == 204


def test_head_shows_what_the_headers_of_a_put_said(s3: Any, locked: str) -> None:
    until = LATER + timedelta(milliseconds=500)
    put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    put(s3, locked, "held", ObjectLockLegalHoldStatus="ON")
    head = s3.head_object(Bucket=locked, Key="k")
    assert (head["ObjectLockMode"], "ObjectLockLegalHoldStatus" in head) == ("GOVERNANCE", False)
    assert head["ObjectLockRetainUntilDate"] - LATER in (timedelta(0), timedelta(milliseconds=500))
    held = s3.get_object(Bucket=locked, Key="held")
    assert (held["ObjectLockLegalHoldStatus"], "ObjectLockMode" in held) == ("ON", False)
    copy = {"Bucket": locked, "Key": "copy", "CopySource": f"{locked}/k"}
    s3.copy_object(**copy)
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="copy"), "a lock is not copied"
    s3.copy_object(**copy, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=LATER)
    assert s3.head_object(Bucket=locked, Key="copy")["ObjectLockRetainUntilDate"] == LATER


def test_the_default_of_the_bucket_locks_what_says_nothing(s3: Any, locked: str) -> None:
    wanted = configuration(Mode="GOVERNANCE", Years=1)
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=wanted)
    before = datetime.now(UTC)
    put(s3, locked)
    s3.copy_object(Bucket=locked, Key="copy", CopySource=f"{locked}/k")
    upload = s3.create_multipart_upload(Bucket=locked, Key="joined")["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="joined", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=locked, Key="joined", UploadId=upload, MultipartUpload=parts)
    for key in ("k", "copy", "joined"):
        found = s3.get_object_retention(Bucket=locked, Key=key)["Retention"]
        assert found["Mode"] == "GOVERNANCE"
        assert timedelta(days=364) < found["RetainUntilDate"] - before < timedelta(days=367)
        version = s3.head_object(Bucket=locked, Key=key)["VersionId"]
        assert error_code(s3.delete_object, Bucket=locked, Key=key, VersionId=version) == "AccessDenied"
    put(s3, locked, "own", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=LATER)
    assert s3.get_object_retention(Bucket=locked, Key="own")["Retention"] == GOVERNANCE


def test_an_upload_brings_its_lock_along(s3: Any, locked: str) -> None:
    upload = s3.create_multipart_upload(
        Bucket=locked, Key="k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=LATER
    )["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=locked, Key="k", UploadId=upload, MultipartUpload=parts)
    named = {"Bucket": locked, "Key": "k", "VersionId": done["VersionId"]}
    assert error_code(s3.delete_object, **named) == "AccessDenied"
    assert status_of(s3.delete_object(**named, BypassGovernanceRetention=True)) == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_object_lock_mode": "GOVERNANCE"},
        {"x_amz_object_lock_retain_until_date": "2140-01-01T00:00:00Z"},
        {"x_amz_object_lock_mode": "governance", "x_amz_object_lock_retain_until_date": "2140-01-01T00:00:00Z"},
        {"x_amz_object_lock_mode": "COMPLIANCE", "x_amz_object_lock_retain_until_date": "tomorrow"},
        {"x_amz_object_lock_mode": "COMPLIANCE", "x_amz_object_lock_retain_until_date": "2001-01-01T00:00:00Z"},
        {"x_amz_object_lock_legal_hold": "on"},
    ],
)
def test_headers_that_cannot_be_obeyed(wire: Wire, locked: str, headers: dict[str, str]) -> None:
    answer = wire.request("PUT", f"/{locked}/k", b"x", **headers)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("<RetainUntilDate>2140-01-01T00:00:00Z</RetainUntilDate>", "MalformedXML"),
        ("<Mode>abc</Mode><RetainUntilDate>2140-01-01T00:00:00Z</RetainUntilDate>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><RetainUntilDate>soon</RetainUntilDate>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><RetainUntilDate>2001-01-01T00:00:00Z</RetainUntilDate>", "InvalidArgument"),
    ],
)
def test_retentions_that_cannot_be(wire: Wire, locked: str, body: str, code: str) -> None:
    assert wire.request("PUT", f"/{locked}/k", b"x").status == 200
    answer = wire.request("PUT", f"/{locked}/k?retention", f"<Retention>{body}</Retention>".encode())
    assert (answer.status, answer.code) == (400, code)


def test_a_lock_that_came_first_wins_where_no_version_would_be_left() -> None:
    """In a bucket that a gateway still takes for unversioned: deleting or overwriting would destroy what is held."""

    async def run() -> None:
        engine = MemoryEngine()
        await engine.create_bucket("b")
        await engine.put_object("b", "k", once(b"kept"), 4, {})
        await engine.amend_object(
            "b", "k", None, lambda version: msgspec.structs.replace(version, lock=Lock(hold=True))
        )
        with pytest.raises(ObjectLocked):
            await engine.delete_object("b", "k", bypass=True)
        with pytest.raises(ObjectLocked):
            await engine.put_object("b", "k", once(b"other"), 5, {})
        assert (await engine.head_object("b", "k")).data == b"kept"

    asyncio.run(run())


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data
