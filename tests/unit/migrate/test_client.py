"""Requests to an origin, with botocore as the other side of the signature; and what its answers mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.sigv4 import SigningKeys, verify
from gateway.s3.target import parse_target
from objstore.cli.migrate import continued
from objstore.migrate import answers, signing
from objstore.model.errors import Conflict, OriginUnavailable
from objstore.model.origin import Origin

NOW_MS = 1369353600000
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(TEXT.filter(bool), st.dictionaries(TEXT.filter(bool), TEXT, max_size=3))
def test_what_is_signed_is_what_a_gateway_verifies(key: str, query: dict[str, str]) -> None:
    path, arguments = signing.encoded_path("bucket", key), signing.encoded_query(query)
    headers = signing.signed(
        "GET",
        path,
        arguments,
        {"host": "h:1", "range": "bytes=0-9"},
        access_key="AK",
        secret="s/+",
        region="eu-west-1",
        now_ms=NOW_MS,
    )
    target = parse_target(f"{path}?{arguments}", "h:1", None)
    assert target.key == key
    secrets = {"AK": "s/+"}
    if not any(name.lower().startswith("x-amz-") or name == "AWSAccessKeyId" for name in query):
        verify("GET", target, headers, secret_of=secrets.get, keys=SigningKeys(), now=NOW_MS / 1000)


HEAD = {"content-length": "3", "last-modified": "Fri, 24 May 2013 00:00:00 GMT", "etag": '"' + "a" * 32 + '"'}


def test_what_is_kept_of_an_object() -> None:
    more = {"content-type": "a/b", "x-amz-meta-a": "ü", "server": "x", "x-amz-tagging-count": "2"}
    found = answers.found_of({**HEAD, **more})
    assert found.headers == {"content-type": "a/b", "x-amz-meta-a": "ü"}
    assert (found.size, found.modified_ms, found.tagged, found.md5) == (3, NOW_MS, True, "a" * 32)


@pytest.mark.parametrize(
    ("headers", "md5", "parts", "checksum"),
    [
        ({"x-amz-checksum-crc32": "AAAAAA=="}, True, 0, True),
        ({"etag": '"' + "a" * 32 + '-3"', "x-amz-checksum-crc32": "AAAAAA==-3"}, False, 3, False),
        (
            {
                "etag": '"' + "a" * 32 + '-3"',
                "x-amz-checksum-crc64nvme": "A",
                "x-amz-checksum-type": "FULL_OBJECT",
            },
            False,
            3,
            True,
        ),
        ({"x-amz-server-side-encryption": "aws:kms"}, False, 0, False),
        ({"etag": '"something else"'}, False, 0, False),
    ],
)
def test_what_an_etag_says(headers: dict[str, str], md5: bool, parts: int, checksum: bool) -> None:
    found = answers.found_of({**HEAD, **headers})
    assert (bool(found.md5), found.part_count) == (md5, parts)
    assert any(name.startswith("x-amz-checksum-") for name in found.headers) is checksum


@pytest.mark.parametrize("missing", sorted(HEAD))
def test_an_answer_that_lacks_something_is_no_object(missing: str) -> None:
    with pytest.raises(OriginUnavailable):
        answers.found_of({name: value for name, value in HEAD.items() if name != missing})


def test_a_page() -> None:
    entry = "<Contents><Key>a%2Bb+c</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified>"
    entry += "<ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>"
    document = f"<ListBucketResult xmlns='x'><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>{entry}"
    page = answers.page_of(f"{document}</ListBucketResult>".encode())
    at_ms = round(datetime(2013, 5, 24, tzinfo=UTC).timestamp() * 1000)
    assert page == answers.Page([answers.Entry("a+b c", 7, "e", at_ms)], True)


@pytest.mark.parametrize("document", [b"", b"<html/>", b"<Error><Code>X</Code></Error>", b"no"])
def test_something_else_is_no_page(document: bytes) -> None:
    with pytest.raises(OriginUnavailable):
        answers.page_of(document)


OLD = Origin(b"old", "http://a", "b", "", "r", "k", b"sealed", 1, paused=True)


def test_a_second_start_goes_on_with_other_keys_and_refuses_another_place() -> None:
    new = Origin(b"new", "http://a", "b", "", "r", "k2", b"other", 2, bytes_per_s=5)
    assert continued(None, new) == new
    assert continued(OLD, new) == Origin(b"old", "http://a", "b", "", "r", "k2", b"other", 1, True, 5)
    with pytest.raises(Conflict):
        continued(OLD, Origin(b"new", "http://c", "b", "", "r", "k", b"", 2))
