"""List parameters and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import listing
from gateway.s3.errors import S3Error
from gateway.s3.target import Query
from objstore.engine.types import BucketInfo
from objstore.model.ids import BucketId


def refused(parse: object, raw: str) -> str:
    assert callable(parse)
    with pytest.raises(S3Error) as caught:
        parse(Query.parse(raw))
    return caught.value.code


def test_the_defaults_of_both_versions() -> None:
    first = listing.objects_params(Query.parse(""))
    assert (first.version, first.limit, first.after, first.prefix, first.delimiter) == (1, 1000, "", "", "")
    second = listing.objects_params(Query.parse("list-type=2"))
    assert (second.version, second.token, second.fetch_owner, second.url_encoding) == (2, None, False, False)


def test_version_1_goes_on_after_its_marker() -> None:
    params = listing.objects_params(Query.parse("marker=a%2Fb&prefix=a&delimiter=%2F&max-keys=5&encoding-type=url"))
    assert (params.after, params.marker, params.prefix, params.delimiter) == ("a/b", "a/b", "a", "/")
    assert (params.limit, params.url_encoding) == (5, True)


def test_version_2_goes_on_after_its_token_and_before_that_after_start_after() -> None:
    assert listing.objects_params(Query.parse("list-type=2&start-after=k")).after == "k"
    assert listing.objects_params(Query.parse("list-type=2&start-after=k&continuation-token=")).after == "k"
    token = listing.encode_token("m")
    params = listing.objects_params(
        Query.parse(f"list-type=2&start-after=k&continuation-token={token}&fetch-owner=true")
    )
    assert (params.after, params.start_after, params.token, params.fetch_owner) == ("m", "k", token, True)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_tokens_carry_any_key_and_need_no_escaping(key: str) -> None:
    token = listing.encode_token(key)
    assert listing.decode_token(token) == key
    assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("token", ["x", "2YQ", "1*", "1ÿ", "1_w", "1A"])
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(S3Error) as caught:
        listing.decode_token(token)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(("raw", "limit"), [("5000", 1000), ("1000", 1000), ("1", 1), ("0", 0), ("", 1000)])
def test_page_sizes_are_clamped(raw: str, limit: int) -> None:
    assert listing.objects_params(Query.parse("max-keys=" + raw)).limit == limit
    assert listing.parts_params(Query.parse("uploadId=u&max-parts=" + raw)).limit == limit
    assert listing.uploads_params(Query.parse("uploads&max-uploads=" + raw)).limit == limit


@pytest.mark.parametrize("raw", ["-1", "x", "1_0", "2147483648", "٣", "1.0", " 1", "9" * 5000])
def test_page_sizes_that_are_none_are_refused(raw: str) -> None:
    assert refused(listing.objects_params, "max-keys=" + raw) == "InvalidArgument"
    assert refused(listing.parts_params, "max-parts=" + raw) == "InvalidArgument"
    assert refused(listing.uploads_params, "max-uploads=" + raw) == "InvalidArgument"
    assert refused(listing.buckets_params, "max-buckets=" + raw) == "InvalidArgument"


def test_other_arguments_are_checked() -> None:
    assert refused(listing.objects_params, "encoding-type=base64") == "InvalidArgument"
    assert refused(listing.objects_params, "list-type=3") == "InvalidArgument"
    assert refused(listing.parts_params, "part-number-marker=-1") == "InvalidArgument"
    assert refused(listing.buckets_params, "max-buckets=0") == "InvalidArgument"


def test_uploads_go_on_after_a_key_and_an_upload_of_it() -> None:
    params = listing.uploads_params(Query.parse("key-marker=k&upload-id-marker=u&prefix=p&delimiter=d"))
    assert (params.after_key, params.after_upload, params.prefix, params.delimiter) == ("k", "u", "p", "d")
    assert listing.uploads_params(Query.parse("upload-id-marker=u")).after_upload == ""


@pytest.mark.parametrize(("raw", "number"), [("1", 1), ("10000", 10000)])
def test_part_numbers(raw: str, number: int) -> None:
    assert listing.part_number(Query.parse("partNumber=" + raw)) == number


@pytest.mark.parametrize("raw", ["0", "10001", "-1", "", "x"])
def test_bad_part_numbers_are_refused(raw: str) -> None:
    assert refused(listing.part_number, "partNumber=" + raw) == "InvalidArgument"


@settings(deadline=None)
@given(names=st.sets(st.text("abc", min_size=1, max_size=4)), limit=st.integers(1, 5), prefix=st.text("ab", max_size=1))
def test_pages_of_buckets_give_every_bucket_of_the_prefix_once(names: set[str], limit: int, prefix: str) -> None:
    buckets = [BucketInfo(name, BucketId(bytes(16)), 0) for name in sorted(names)]
    seen: list[str] = []
    token = ""
    for _ in range(len(names) + 1):
        params = listing.buckets_params(
            Query([("max-buckets", str(limit)), ("prefix", prefix), ("continuation-token", token)])
        )
        page, token = listing.buckets_page(params, buckets)
        assert len(page) <= limit
        seen += [bucket.name for bucket in page]
        if not token:
            break
    assert seen == [name for name in sorted(names) if name.startswith(prefix)]
