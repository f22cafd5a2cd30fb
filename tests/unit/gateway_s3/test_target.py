"""Targets: both styles, exact decoding, and headers as they came."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.target import Query, collect_headers, effective_headers, parse_target, percent_decode, percent_encode

DOMAIN = "s3.example.test"
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        ("/", None, None),
        ("/?x", None, None),
        ("/b", "b", None),
        ("/b/", "b", None),
        ("/b/k", "b", "k"),
        ("/b//k", "b", "/k"),
        ("/b/a//b/", "b", "a//b/"),
        ("/b/./../k", "b", "./../k"),
        ("/b/a+b%20c%2B", "b", "a+b c+"),
        ("/b/a%2Fb", "b", "a/b"),
        ("/b/%25", "b", "%"),
        ("/b/%e2%82%AC", "b", "€"),
        ("/b/a?b=c?d", "b", "a"),
        ("/b/a%3Fb", "b", "a?b"),
        ("//k", "", "k"),
        ("http://s3.example.test/b/k", "b", "k"),
        ("http://s3.example.test", None, None),
    ],
)
def test_path_style(target: str, bucket: str | None, key: str | None) -> None:
    found = parse_target(target, DOMAIN + ":9000", DOMAIN)
    assert (found.bucket, found.key, found.virtual_host) == (bucket, key, False)


@pytest.mark.parametrize("host", ["my.bucket.s3.example.test", "MY.BUCKET.S3.example.TEST:9000"])
def test_virtual_host_style(host: str) -> None:
    found = parse_target("/a//b?acl", host, DOMAIN)
    assert (found.bucket, found.key, found.virtual_host) == ("my.bucket", "a//b", True)
    assert parse_target("/", host, DOMAIN).key is None
    assert parse_target("//k", host, DOMAIN).key == "/k"
    assert parse_target("/b/k", host, None).bucket == "b"


@pytest.mark.parametrize("host", ["xs3.example.test", "example.test", "", "[::1]:9000", "s3.example.test.evil"])
def test_other_hosts_are_path_style(host: str) -> None:
    assert parse_target("/b/k", host, DOMAIN).bucket == "b"


@pytest.mark.parametrize("target", ["", "*", "b/k", "ftp://h/b", "/b/%zz", "/b/%f", "/b/%ff", "/b?x=%ff", "/b/%C0%80"])
def test_targets_that_cannot_be_decoded_are_refused(target: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_target(target, DOMAIN, DOMAIN)
    assert caught.value.code == "InvalidURI"


@settings(deadline=None)
@given(bucket=TEXT, key=TEXT, name=TEXT, value=TEXT)
def test_what_is_encoded_decodes_to_itself(bucket: str, key: str, name: str, value: str) -> None:
    path = f"/{percent_encode(bucket)}/{percent_encode(key, keep='/')}"
    found = parse_target(f"{path}?{percent_encode(name)}={percent_encode(value)}", "h", None)
    assert (found.bucket, found.key, found.query.get(name)) == (bucket, key, value)
    assert found.path == path
    assert percent_decode(percent_encode(value)) == value


def test_queries_keep_order_and_give_the_first_of_a_name() -> None:
    query = Query.parse("a=1&b&a=2&c=x+y%2B&&=")
    assert query.pairs == (("a", "1"), ("b", ""), ("a", "2"), ("c", "x y+"), ("", ""))
    assert (query.get("a"), query.get("b"), query.get("z")) == ("1", "", None)
    assert "b" in query and "z" not in query


def test_headers_are_lower_case_joined_and_keep_their_bytes() -> None:
    headers = collect_headers([(b"X-A", b" 1 "), (b"x-a", b"2"), (b"B", b"\xe9"), (b"c", "é".encode())])
    assert headers == {"x-a": "1,2", "b": "\udce9", "c": "é"}
    assert headers["b"].encode("utf-8", "surrogateescape") == b"\xe9"


def test_a_presigned_url_carries_headers_as_parameters_but_no_checksum() -> None:
    query = Query.parse(
        "X-Amz-Signature=0&X-Amz-Date=1&x-amz-acl=public-read&X-Amz-Meta-A=b&x-amz-checksum-crc32=AAAAAA%3D%3D"
        "&x-amz-sdk-checksum-algorithm=CRC32&x-amz-meta-c=query"
    )
    headers = effective_headers({"host": "h", "x-amz-meta-c": "header"}, query)
    assert headers == {"host": "h", "x-amz-meta-c": "header", "x-amz-acl": "public-read", "x-amz-meta-a": "b"}


@pytest.mark.parametrize("field", ["x-amz-meta-a=b%0D%0Ac:d", "x-amz-meta-a=%00", "x-amz-meta-a%0A=b", "x-amz-a%20b=c"])
def test_a_parameter_that_no_header_could_be_is_refused(field: str) -> None:
    with pytest.raises(S3Error) as caught:
        effective_headers({}, Query.parse(field))
    assert caught.value.code == "InvalidArgument"
