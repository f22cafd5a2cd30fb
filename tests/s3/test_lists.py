"""ListObjects: byte order, pages, groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.s3.errors import error_code

# Byte order of UTF-8; the last two are in the other order as UTF-16, and "a" sorts before "a/b" before "a0".
KEYS = ["A", "a", "a b", "a+b", "a/", "a/b", "a/b/c", "a/d", "a0", "b/&<x>", "b/é", "\uffee", "\U0001f600"]


def fill(s3: Any, bucket: str, keys: Iterable[str]) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page_size", [1, 3, 1000])
def test_keys_come_once_each_in_byte_order(s3: Any, bucket: str, operation: str, page_size: int) -> None:
    fill(s3, bucket, reversed(KEYS))
    pages = s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": page_size})
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    assert [entry["Key"] for entry in entries] == KEYS
    assert [entry["Size"] for entry in entries] == [len(key.encode()) for key in KEYS]
    assert entries[0]["ETag"] == s3.head_object(Bucket=bucket, Key="A")["ETag"]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_a_delimiter_groups_keys(s3: Any, bucket: str, operation: str, page_size: int) -> None:
    fill(s3, bucket, KEYS)
    pages = list(
        s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": page_size})
    )
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    groups = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
    assert keys == [key for key in KEYS if "/" not in key]
    assert groups == ["a/", "b/"]


def test_a_prefix_and_a_delimiter_show_one_level(s3: Any, bucket: str) -> None:
    fill(s3, bucket, KEYS)
    page = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")
    assert [entry["Key"] for entry in page["Contents"]] == ["a/", "a/b", "a/d"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/b/"]
    assert page["KeyCount"] == 4


def test_a_listing_can_start_after_any_key(s3: Any, bucket: str) -> None:
    fill(s3, bucket, KEYS)
    page = s3.list_objects_v2(Bucket=bucket, StartAfter="a/b")
    assert [entry["Key"] for entry in page["Contents"]] == KEYS[KEYS.index("a/b") + 1 :]
    page = s3.list_objects(Bucket=bucket, Marker="a/b0")
    assert page["Contents"][0]["Key"] == "a/d"


def test_no_keys_wanted_is_an_empty_page(s3: Any, bucket: str) -> None:
    fill(s3, bucket, ["a"])
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)


def test_a_foreign_continuation_token_is_refused(s3: Any, bucket: str) -> None:
    assert error_code(s3.list_objects_v2, Bucket=bucket, ContinuationToken="@@@") == "InvalidArgument"


def test_a_write_is_in_the_next_list_and_a_delete_is_not(s3: Any, bucket: str) -> None:
    fill(s3, bucket, ["k"])
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    s3.delete_object(Bucket=bucket, Key="k")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
