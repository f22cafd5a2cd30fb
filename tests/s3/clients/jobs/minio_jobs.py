"""What programs do with minio-py: run as `minio_jobs.py JOB`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta

import urllib3
from minio import Minio
from minio.commonconfig import COMPLIANCE, ENABLED, GOVERNANCE, ComposeSource, CopySource, Filter, Tags
from minio.credentials import AssumeRoleProvider
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, LifecycleConfig, Rule
from minio.objectlockconfig import DAYS, ObjectLockConfig
from minio.retention import Retention
from minio.versioningconfig import VersioningConfig

BUCKET = os.environ["BUCKET"]
BODY = hashlib.shake_128(b"body").digest((11 << 20) + 5)
PART = 5 << 20
WEB = urllib3.PoolManager()


def client() -> Minio:
    return Minio(
        os.environ["AWS_ENDPOINT_URL"].partition("://")[2],
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )


def read(minio: Minio, key: str, **more: object) -> bytes:
    answer = minio.get_object(BUCKET, key, **more)  # type: ignore[arg-type]
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def transfer() -> None:
    minio = client()
    minio.put_object(BUCKET, "ä/k", io.BytesIO(b"small"), 5, metadata={"who": "me"}, content_type="text/x")
    stat = minio.stat_object(BUCKET, "ä/k")
    assert stat.size == 5 and stat.metadata["x-amz-meta-who"] == "me" and stat.content_type == "text/x"
    minio.put_object(BUCKET, "stream", io.BytesIO(BODY), -1, part_size=PART)  # of a length that it does not know
    assert (
        read(minio, "stream") == BODY and read(minio, "stream", offset=PART - 1, length=2) == BODY[PART - 1 : PART + 1]
    )
    with open("up", "wb") as file:
        file.write(BODY)
    minio.fput_object(BUCKET, "file", "up", part_size=PART)
    minio.fget_object(BUCKET, "file", "down")
    with open("down", "rb") as file:
        assert file.read() == BODY
    minio.copy_object(BUCKET, "copy", CopySource(BUCKET, "file"))
    assert read(minio, "copy") == BODY
    minio.compose_object(BUCKET, "composed", [ComposeSource(BUCKET, "file"), ComposeSource(BUCKET, "ä/k")])
    assert read(minio, "composed") == BODY + b"small"


def listing() -> None:
    minio = client()
    keys = [f"{letter}/{number}" for letter in "ab" for number in range(4)] + ["a b+ä"]
    for key in keys:
        minio.put_object(BUCKET, key, io.BytesIO(b""), 0)
    assert [entry.object_name for entry in minio.list_objects(BUCKET, recursive=True)] == sorted(keys)
    assert [entry.object_name for entry in minio.list_objects(BUCKET)] == ["a b+ä", "a/", "b/"]
    assert [entry.object_name for entry in minio.list_objects(BUCKET, "a/", start_after="a/1")] == ["a/2", "a/3"]
    assert not list(minio.remove_objects(BUCKET, [DeleteObject(key) for key in keys]))
    assert not list(minio.list_objects(BUCKET, recursive=True))
    minio.make_bucket(f"{BUCKET}-2")
    assert minio.bucket_exists(f"{BUCKET}-2") and f"{BUCKET}-2" in [bucket.name for bucket in minio.list_buckets()]
    minio.remove_bucket(f"{BUCKET}-2")
    assert not minio.bucket_exists(f"{BUCKET}-2")


def listing_with_metadata() -> None:
    """MinIO's own parameter `metadata`: the list comes, without what it asks for, as from AWS."""
    minio = client()
    minio.put_object(BUCKET, "k", io.BytesIO(b""), 0, metadata={"who": "me"})
    for versions in (False, True):
        entries = list(minio.list_objects(BUCKET, include_user_meta=True, include_version=versions))
        assert [entry.object_name for entry in entries] == ["k"] and not entries[0].metadata


def presign() -> None:
    minio = client()
    put = WEB.request("PUT", minio.presigned_put_object(BUCKET, "given ä", timedelta(minutes=1)), body=b"given")
    assert put.status == 200, put.data
    get = WEB.request("GET", minio.presigned_get_object(BUCKET, "given ä", timedelta(minutes=1)))
    assert get.data == b"given"


def post_form() -> None:
    minio = client()
    policy = PostPolicy(BUCKET, datetime.now(UTC) + timedelta(minutes=5))
    policy.add_starts_with_condition("key", "form/")
    policy.add_content_length_range_condition(1, 100)
    fields = {**minio.presigned_post_policy(policy), "key": "form/k", "file": ("k", b"from a form")}
    url = f"{os.environ['AWS_ENDPOINT_URL']}/{BUCKET}"
    assert WEB.request("POST", url, fields=fields).status == 204
    assert read(minio, "form/k") == b"from a form"
    elsewhere = {**fields, "key": "elsewhere"}
    elsewhere["file"] = elsewhere.pop("file")
    assert WEB.request("POST", url, fields=elsewhere).status == 403


def versions() -> None:
    minio = client()
    minio.set_bucket_versioning(BUCKET, VersioningConfig(ENABLED))
    assert minio.get_bucket_versioning(BUCKET).status == ENABLED
    first = minio.put_object(BUCKET, "k", io.BytesIO(b"first"), 5).version_id
    minio.put_object(BUCKET, "k", io.BytesIO(b"second"), 6)
    assert read(minio, "k", version_id=first) == b"first" and read(minio, "k") == b"second"
    minio.remove_object(BUCKET, "k")
    entries = list(minio.list_objects(BUCKET, include_version=True))
    assert len(entries) == 3 and [entry.is_delete_marker for entry in entries].count(True) == 1
    for entry in entries:
        minio.remove_object(BUCKET, "k", version_id=entry.version_id)
    assert not list(minio.list_objects(BUCKET, include_version=True))


def tags() -> None:
    minio = client()
    wanted = Tags.new_object_tags()
    wanted["project"] = "one + two"
    minio.put_object(BUCKET, "k", io.BytesIO(b""), 0, tags=wanted)
    assert minio.get_object_tags(BUCKET, "k") == wanted
    minio.delete_object_tags(BUCKET, "k")
    assert minio.get_object_tags(BUCKET, "k") is None
    assert minio.get_bucket_tags(BUCKET) is None
    minio.set_bucket_tags(BUCKET, wanted)
    assert minio.get_bucket_tags(BUCKET) == wanted


def retention() -> None:
    """Governance may be bypassed, compliance and a legal hold not."""
    minio, bucket = client(), f"{BUCKET}-lock"
    minio.make_bucket(bucket, object_lock=True)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    held = minio.put_object(bucket, "k", io.BytesIO(b""), 0, retention=Retention(GOVERNANCE, until), legal_hold=True)
    found = minio.get_object_retention(bucket, "k")
    assert found is not None and found.mode == GOVERNANCE and found.retain_until_date == until, found
    assert minio.is_object_legal_hold_enabled(bucket, "k")
    try:
        minio.remove_object(bucket, "k", version_id=held.version_id)
    except S3Error as error:
        assert error.code == "AccessDenied", error
    else:
        raise AssertionError("what is held was removed")
    minio.disable_object_legal_hold(bucket, "k")
    free = [DeleteObject("k", held.version_id)]
    assert len(list(minio.remove_objects(bucket, free))) == 1
    assert not list(minio.remove_objects(bucket, free, bypass_governance_mode=True))
    minio.set_object_lock_config(bucket, ObjectLockConfig(COMPLIANCE, 1, DAYS))
    minio.put_object(bucket, "k", io.BytesIO(b""), 0)
    found = minio.get_object_retention(bucket, "k")
    assert found is not None and found.mode == COMPLIANCE


def assume_role() -> None:
    """Without a role, as MinIO has it."""
    client().put_object(BUCKET, "a", io.BytesIO(b"a"), 1)
    arn = f"arn:aws:s3:::{BUCKET}"
    actions = ["s3:GetObject", "s3:GetBucketLocation"]  # it asks for the region first
    allowed = {"Effect": "Allow", "Action": actions, "Resource": [arn, f"{arn}/*"]}
    provider = AssumeRoleProvider(
        sts_endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    minio = Minio(os.environ["AWS_ENDPOINT_URL"].partition("://")[2], credentials=provider, secure=False)
    assert read(minio, "a") == b"a"
    assert provider.retrieve().session_token
    try:
        minio.put_object(BUCKET, "b", io.BytesIO(b"b"), 1)
    except S3Error as error:
        assert error.code == "AccessDenied"
    else:
        raise AssertionError("it may write")
    answer = WEB.request("GET", minio.presigned_get_object(BUCKET, "a"))
    assert (answer.status, answer.data) == (200, b"a")


def lifecycle() -> None:
    minio = client()
    assert minio.get_bucket_lifecycle(BUCKET) is None
    old = Rule(ENABLED, rule_filter=Filter(prefix="old/"), rule_id="old", expiration=Expiration(days=30))
    unfinished = Rule(
        ENABLED,
        rule_filter=Filter(prefix=""),
        rule_id="unfinished",
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=3),
    )
    minio.set_bucket_lifecycle(BUCKET, LifecycleConfig([old, unfinished]))
    found = minio.get_bucket_lifecycle(BUCKET)
    assert found is not None and [rule.rule_id for rule in found.rules] == ["old", "unfinished"]
    assert found.rules[0].expiration is not None and found.rules[0].expiration.days == 30
    minio.delete_bucket_lifecycle(BUCKET)
    assert minio.get_bucket_lifecycle(BUCKET) is None
    assert minio.get_bucket_encryption(BUCKET) is None


if __name__ == "__main__":
    globals()[sys.argv[1]]()
