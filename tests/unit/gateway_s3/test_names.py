"""Names of buckets and keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.names import check_bucket_name, check_key


@pytest.mark.parametrize("name", ["abc", "a-b", "a.b", "123", "a" * 63, "1.2.3", "my-bucket.example"])
def test_good_bucket_names(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "a.-b",
        "a-.b",
        "192.168.5.4",
        "xn--abc",
        "sthree-abc",
        "amzn-s3-demo-abc",
        "abc-s3alias",
        "abc--ol-s3",
        "abc--x-s3",
        "abc.mrap",
        "abc\n",
        "äbc",
        "ab١",
    ],
)
def test_bad_bucket_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_bucket_name(name)
    assert caught.value.code == "InvalidBucketName"
    assert ": " in caught.value.message


@settings(deadline=None)
@given(st.text() | st.text(min_size=300).map(lambda text: text * 3))
def test_a_key_is_any_utf8_of_1_to_1024_bytes(key: str) -> None:
    try:
        check_key(key)
    except S3Error:
        assert not 1 <= len(key.encode()) <= 1024
    else:
        assert 1 <= len(key.encode()) <= 1024


def test_the_edges_of_a_key() -> None:
    check_key("é" * 512)
    for key, code in (("", "UserKeyMustBeSpecified"), ("é" * 512 + "a", "KeyTooLongError"), ("\ud800", "InvalidURI")):
        with pytest.raises(S3Error) as caught:
            check_key(key)
        assert caught.value.code == code
