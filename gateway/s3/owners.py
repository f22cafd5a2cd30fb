"""x-amz-expected-bucket-owner: a request that means a bucket of somebody else must not reach this one."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.s3.errors import S3Error

EXPECTED = "x-amz-expected-bucket-owner"
EXPECTED_SOURCE = "x-amz-source-expected-bucket-owner"  # of the bucket that is copied from


def check_expected_owner(headers: Mapping[str, str], owner_id: str) -> None:
    """S3Error AccessDenied unless every owner that the headers name is `owner_id`, as lists show it."""
    for name in (EXPECTED, EXPECTED_SOURCE):
        if headers.get(name, owner_id) != owner_id:
            raise S3Error("AccessDenied", f"The bucket is not owned by the one whom {name} names.")
