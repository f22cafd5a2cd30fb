"""Headers of objects: kept, copied, shown."""

from __future__ import annotations

import pytest

from gateway.s3.errors import S3Error
from gateway.s3.metadata import copied_headers, shown_headers, stored_headers
from gateway.s3.target import Query, collect_headers


def test_only_what_belongs_to_the_object_is_kept() -> None:
    request = {
        "host": "h",
        "content-type": "text/plain",
        "cache-control": "no-cache",
        "expires": "never",
        "x-amz-meta-a": "1",
        "x-amz-date": "d",
        "authorization": "secret",
    }
    assert stored_headers(request) == {
        "content-type": "text/plain",
        "cache-control": "no-cache",
        "expires": "never",
        "x-amz-meta-a": "1",
    }
    assert stored_headers({}) == {"content-type": "binary/octet-stream"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("aws-chunked", None),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, br,aws-chunked", "gzip,br"),
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate, gzip"),
        (" , ", None),
        ("", None),
    ],
)
def test_aws_chunked_is_never_stored_as_an_encoding(sent: str, kept: str | None) -> None:
    assert stored_headers({"content-encoding": sent}).get("content-encoding") == kept


def test_user_metadata_is_bounded_in_bytes() -> None:
    stored_headers({"x-amz-meta-abc": "é" * 1022 + "a"})
    with pytest.raises(S3Error) as caught:
        stored_headers({"x-amz-meta-abc": "é" * 1022 + "ab"})
    assert caught.value.code == "MetadataTooLarge"


def test_a_value_that_is_not_utf8_is_kept_as_latin_1() -> None:
    headers = collect_headers([(b"x-amz-meta-a", b"\xe9"), (b"x-amz-meta-b", "é".encode())])
    stored = stored_headers(headers)
    assert (stored["x-amz-meta-a"], stored["x-amz-meta-b"]) == ("é", "é")


def test_a_copy_keeps_the_headers_of_its_source_or_replaces_all_of_them() -> None:
    source = {"content-type": "a/b", "x-amz-meta-a": "1", "x-amz-checksum-crc32": "c", "x-amz-checksum-type": "t"}
    request = {"content-type": "c/d", "x-amz-meta-b": "2"}
    assert copied_headers(request, source) == {"content-type": "a/b", "x-amz-meta-a": "1"}
    assert copied_headers({**request, "x-amz-metadata-directive": "REPLACE"}, source) == request
    with pytest.raises(S3Error) as caught:
        copied_headers({"x-amz-metadata-directive": "MERGE"}, source)
    assert caught.value.code == "InvalidArgument"


def test_checksums_are_shown_on_request_and_responses_can_be_overridden() -> None:
    stored = {"content-type": "a/b", "x-amz-checksum-crc32": "c", "x-amz-checksum-type": "FULL_OBJECT"}
    assert shown_headers(stored, {}, Query()) == {"content-type": "a/b"}
    assert shown_headers(stored, {"x-amz-checksum-mode": "ENABLED"}, Query()) == stored
    overrides = Query.parse("response-content-type=c%2Fd&response-cache-control=no-store")
    assert shown_headers(stored, {}, overrides) == {"content-type": "c/d", "cache-control": "no-store"}


@pytest.mark.parametrize("value", ["a%0D%0ASet-Cookie: b", "a%00", "a%7F"])
def test_an_override_cannot_split_the_response(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        shown_headers({}, {}, Query.parse("response-content-type=" + value))
    assert caught.value.code == "InvalidArgument"
