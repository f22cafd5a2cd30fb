"""Buckets, and the configuration questions that clients ask about them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.s3.errors import error_code, status_of


def test_a_bucket_is_created_listed_headed_and_deleted(s3: Any) -> None:
    name = f"made-{uuid.uuid4().hex[:12]}"
    created = s3.create_bucket(Bucket=name)
    assert created["Location"] == f"/{name}"
    assert name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert status_of(s3.head_bucket(Bucket=name)) == 200
    assert status_of(s3.delete_bucket(Bucket=name)) == 204
    assert error_code(s3.head_bucket, Bucket=name) == "404"


def test_creating_an_own_bucket_again_says_so(s3: Any, bucket: str) -> None:
    assert error_code(s3.create_bucket, Bucket=bucket) == "BucketAlreadyOwnedByYou"


def test_a_bucket_with_objects_is_not_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert error_code(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty"


def test_a_location_constraint_must_be_the_region(s3: Any) -> None:
    constraint = {"LocationConstraint": "eu-west-3"}
    code = error_code(s3.create_bucket, Bucket="elsewhere", CreateBucketConfiguration=constraint)
    assert code == "IllegalLocationConstraintException"


@pytest.mark.parametrize("name", ["Upper", "a", "has_underscore", "192.168.1.1", "a..b"])
def test_bad_bucket_names_are_refused(s3: Any, name: str) -> None:
    assert error_code(s3.create_bucket, Bucket=name) == "InvalidBucketName"


def test_buckets_are_listed_in_pages(s3: Any) -> None:
    stem = f"page-{uuid.uuid4().hex[:10]}"
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = list(s3.get_paginator("list_buckets").paginate(Prefix=stem, PaginationConfig={"PageSize": 2}))
    assert [entry["Name"] for page in pages for entry in page["Buckets"]] == names
    assert len(pages) == 3
    for name in names:
        s3.delete_bucket(Bucket=name)


def test_every_operation_on_a_missing_bucket_says_no_such_bucket(s3: Any) -> None:
    where = {"Bucket": "missing-bucket"}
    assert error_code(s3.list_objects_v2, **where) == "NoSuchBucket"
    assert error_code(s3.put_object, **where, Key="a", Body=b"x") == "NoSuchBucket"
    assert error_code(s3.get_object, **where, Key="a") == "NoSuchBucket"
    assert error_code(s3.delete_object, **where, Key="a") == "NoSuchBucket"
    assert error_code(s3.delete_bucket, **where) == "NoSuchBucket"
    assert error_code(s3.get_bucket_location, **where) == "NoSuchBucket"
    assert error_code(s3.create_multipart_upload, **where, Key="a") == "NoSuchBucket"
    assert error_code(s3.delete_objects, **where, Delete={"Objects": [{"Key": "a"}]}) == "NoSuchBucket"


def test_configuration_questions_get_true_answers(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    grants = s3.get_bucket_acl(Bucket=bucket)["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]
    s3.put_object(Bucket=bucket, Key="a", Body=b"")
    assert s3.get_object_acl(Bucket=bucket, Key="a")["Grants"] == grants
    assert error_code(s3.get_object_acl, Bucket=bucket, Key="missing") == "NoSuchKey"
    assert error_code(s3.get_bucket_policy, Bucket=bucket) == "NoSuchBucketPolicy"


def test_where_acls_do_not_count_that_of_everything_may_be_set_and_no_other(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"")
    assert status_of(s3.put_bucket_acl(Bucket=bucket, ACL="private")) == 200
    assert status_of(s3.put_object_acl(Bucket=bucket, Key="a", ACL="bucket-owner-full-control")) == 200
    assert error_code(s3.put_object_acl, Bucket=bucket, Key="missing", ACL="private") == "NoSuchKey"
    assert error_code(s3.put_bucket_acl, Bucket="no-such-bucket", ACL="private") == "NoSuchBucket"
    assert error_code(s3.put_bucket_acl, Bucket=bucket, ACL="public-read") == "AccessControlListNotSupported"
    assert error_code(s3.put_object_acl, Bucket=bucket, Key="a", GrantRead="id=1") == "AccessControlListNotSupported"
    assert error_code(s3.put_object, Bucket=bucket, Key="b", ACL="public-read") == "AccessControlListNotSupported"
    assert error_code(s3.put_object, Bucket=bucket, Key="b", ACL="nobody") == "InvalidArgument"
    both = {"ACL": "public-read", "ObjectOwnership": "BucketOwnerEnforced"}
    assert error_code(s3.create_bucket, Bucket=f"{bucket}-2", **both) == "InvalidBucketAclWithObjectOwnership"
    assert error_code(s3.create_bucket, Bucket=f"{bucket}-2", ObjectOwnership="Nobody") == "InvalidArgument"
    assert error_code(s3.put_object, Bucket=bucket, Key="b", StorageClass="OF_THE_FUTURE") == "InvalidStorageClass"
    assert error_code(s3.put_object, Bucket=bucket, Key="b", StorageClass="GLACIER") == "NotImplemented"
    shown = s3.get_bucket_acl(Bucket=bucket)
    policy = {"Owner": shown["Owner"], "Grants": shown["Grants"]}
    for setting in ({}, {"Key": "a"}):
        put = s3.put_object_acl if setting else s3.put_bucket_acl
        assert status_of(put(Bucket=bucket, **setting, AccessControlPolicy=policy)) == 200  # s3cmd sets what it read
        for more in (
            {"Grantee": {"Type": "CanonicalUser", "ID": "somebody"}, "Permission": "READ"},
            {**shown["Grants"][0], "Permission": "READ"},
            {
                "Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"},
                "Permission": "READ",
            },
        ):
            wider = {**policy, "Grants": [*shown["Grants"], more]}
            found = error_code(put, Bucket=bucket, **setting, AccessControlPolicy=wider)
            assert found == "AccessControlListNotSupported"
        stranger = {**policy, "Owner": {"ID": "somebody"}}
        found = error_code(put, Bucket=bucket, **setting, AccessControlPolicy=stranger)
        assert found == "AccessControlListNotSupported"
    assert error_code(s3.put_bucket_acl, Bucket=bucket) == "MissingSecurityHeader"


def test_configuration_that_is_not_there_may_be_deleted(s3: Any, bucket: str) -> None:
    deletes = (
        s3.delete_bucket_cors,
        s3.delete_bucket_encryption,
        s3.delete_bucket_lifecycle,
        s3.delete_bucket_policy,
        s3.delete_bucket_tagging,
        s3.delete_public_access_block,
    )
    for delete in deletes:
        assert status_of(delete(Bucket=bucket)) == 204
        assert error_code(delete, Bucket="no-such-bucket") == "NoSuchBucket"
    assert error_code(s3.delete_bucket_metrics_configuration, Bucket=bucket, Id="a") == "NoSuchConfiguration"
    assert error_code(s3.delete_object_tagging, Bucket=bucket, Key="a") == "NoSuchKey"
    s3.put_object(Bucket=bucket, Key="a", Body=b"")
    assert status_of(s3.delete_object_tagging(Bucket=bucket, Key="a")) == 204


def test_what_is_not_implemented_is_refused_and_not_ignored(s3: Any, bucket: str) -> None:
    code = error_code(
        s3.put_bucket_accelerate_configuration, Bucket=bucket, AccelerateConfiguration={"Status": "Enabled"}
    )
    assert code == "NotImplemented"
    code = error_code(s3.put_object, Bucket=bucket, Key="a", Body=b"x", WebsiteRedirectLocation="/elsewhere")
    assert code == "NotImplemented"
    assert error_code(s3.head_object, Bucket=bucket, Key="a") == "404"


def test_a_bucket_that_should_be_of_somebody_else_is_not_touched(s3: Any, bucket: str) -> None:
    owner = s3.list_buckets()["Owner"]["ID"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner=owner)
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "k"}}
    other = "123456789012"
    assert error_code(s3.put_object, Bucket=bucket, Key="k", Body=b"y", ExpectedBucketOwner=other) == "AccessDenied"
    assert error_code(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner=other) == "AccessDenied"
    assert error_code(s3.copy_object, **copy, ExpectedSourceBucketOwner=other) == "AccessDenied"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    s3.copy_object(**copy, ExpectedBucketOwner=owner, ExpectedSourceBucketOwner=owner)
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["copy", "k"]


def test_buckets_can_be_listed_by_region(s3: Any, bucket: str) -> None:
    here = s3.list_buckets(BucketRegion="us-east-1")["Buckets"]
    assert bucket in [entry["Name"] for entry in here]
    assert s3.list_buckets(BucketRegion="mars-north-7")["Buckets"] == []
