"""The pure parsers under any input: a value or an S3Error, nothing else; and nothing is held that was not bounded."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.s3 import bodies, checksums, conditions, listing, metadata, ranges, router, sigv4, target, xml
from gateway.s3.chunked import ChunkDecoder
from gateway.s3.errors import S3Error, render_error
from gateway.s3.payload import Payload
from gateway.s3.sigv4 import Auth, PayloadMode, SigningKeys
from gateway.s3.target import Query
from objstore.model.limits import XML_BODY_BYTES_MAX

MANY = settings(max_examples=200, deadline=None)
TEXT = st.text(max_size=30)
# As headers come from a socket: bytes, those that are not UTF-8 escaped.
RAW = st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
NUMBERS = st.sampled_from(("0", "-0", "1", "01", "٣", "1_0", " 1", "1e3", "1.5", "-1", "10001", "9" * 30, "9" * 5000))
DATES = st.sampled_from(
    (
        *("Fri, 24 May 2013 00:00:00 GMT", "Fri, 24 May 99999 00:00:00 GMT", "Thu, 01 Jan 0001 00:00:00 -2359"),
        *("Fri, 31 Dec 9999 23:59:59 -0100", "24 May", "20130524T000000Z", "2013-05-24T00:00:00Z", "0", "-1"),
    )
)
VALUES = st.one_of(TEXT, RAW, NUMBERS, DATES)
ELEMENTS = st.sampled_from(
    (
        *("Delete", "Object", "Key", "Quiet", "VersionId", "ETag", "Size", "LastModifiedTime", "Part", "PartNumber"),
        *("CompleteMultipartUpload", "ChecksumCRC32", "CreateBucketConfiguration", "LocationConstraint", "Tags", "Tag"),
        *("VersioningConfiguration", "Status", "MfaDelete", "Value", "x", ""),
    )
)


def _markup(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("<{0}>{1}</{0}>".format, ELEMENTS, st.lists(children, max_size=4).map("".join))


DOCUMENTS = st.recursive(st.one_of(NUMBERS, TEXT.map(xml.escape)), _markup, max_leaves=12)
AUTH = Auth("a", PayloadMode.UNSIGNED, "", "20130524T000000Z", "20130524/r/s3/aws4_request", "0" * 64, b"k" * 32)


_SIGNED = "AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=host,Signature=0"


def only_refuses(call: Any, *arguments: Any) -> None:
    """S3Error is the only exception, one of the client's, and can be shown."""
    try:
        call(*arguments)
    except S3Error as error:
        assert error.status < 500 or error.code == "NotImplemented", error
        xml.parse(render_error(error, resource="/", request_id="0"), "Error", size_max=1 << 20)


# --- request line and headers


@MANY
@given(line=st.one_of(RAW, RAW.map("/{}".format), RAW.map("http://{}".format)), host=RAW)
def test_any_target(line: str, host: str) -> None:
    only_refuses(target.parse_target, line, host, None)
    only_refuses(target.parse_target, line, host, "s3.example.test")


@MANY
@given(
    method=st.sampled_from(("GET", "PUT", "POST", "DELETE", "HEAD", "X")),
    pairs=st.lists(st.tuples(st.one_of(TEXT, st.sampled_from(sorted(router.ACCEPTED_HEADERS))), VALUES), max_size=4),
    headers=st.dictionaries(st.sampled_from(sorted(router.ACCEPTED_HEADERS)), VALUES, max_size=4),
    bucket=st.one_of(st.none(), TEXT),
    key=st.one_of(st.none(), TEXT),
)
def test_any_route(
    method: str, pairs: list[tuple[str, str]], headers: dict[str, str], bucket: str | None, key: str | None
) -> None:
    only_refuses(router.route, method, bucket, None if bucket is None else key, Query(pairs), headers)
    only_refuses(target.effective_headers, headers, Query(pairs))


@MANY
@given(
    header=st.one_of(
        VALUES,
        st.builds(
            "AWS4-HMAC-SHA256 Credential={},SignedHeaders={},Signature={}".format,
            st.one_of(VALUES, st.builds("a/{}/{}/s3/aws4_request".format, st.sampled_from(("20130524", "x")), VALUES)),
            st.one_of(VALUES, st.just("host;x-amz-date;x-amz-content-sha256")),
            VALUES,
        ),
    ),
    date=st.one_of(DATES, VALUES, st.sampled_from(("20130524T000000Z", "20131324T000000Z", "00000000T000000Z"))),
    payload=st.one_of(VALUES, st.sampled_from([mode.value for mode in PayloadMode]), st.just("0" * 64)),
)
@example(_SIGNED, "Fri, 31 Dec 9999 23:59:59 -0100", "0" * 64)  # in UTC a year that does not exist
def test_any_authorization(header: str, date: str, payload: str) -> None:
    for name in ("x-amz-date", "date"):
        headers = {"host": "h", "authorization": header, name: date, "x-amz-content-sha256": payload}
        only_refuses(_verify, Query(), headers)
    parameters = {"Algorithm": "AWS4-HMAC-SHA256", "Credential": header, "Signature": "0", "Date": date}
    parameters |= {"SignedHeaders": "host", "Expires": payload}
    only_refuses(_verify, Query((f"X-Amz-{name}", value) for name, value in parameters.items()), {"host": "h"})


def _verify(query: Query, headers: dict[str, str]) -> None:
    asked = target.Target("/b/k", query, "b", "k")
    sigv4.verify("GET", asked, headers, secret_of={"a": "secret"}.get, keys=SigningKeys(), now=1369353600.0)


@MANY
@given(name=st.sampled_from(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")), value=VALUES)
def test_any_condition(name: str, value: str) -> None:
    only_refuses(conditions.check_read, {name: value}, "0" * 32, 1369353600000)
    only_refuses(conditions.range_applies, {"if-range": value}, "0" * 32, 1369353600000)
    only_refuses(conditions.write_condition, {name: value})
    only_refuses(conditions.delete_condition, {"x-amz-if-match-size": value})
    only_refuses(conditions.delete_condition, {"x-amz-if-match-last-modified-time": value})
    only_refuses(conditions.entry_condition, value, value, value)


@MANY
@given(value=st.one_of(VALUES, st.builds("bytes={}-{}".format, NUMBERS, NUMBERS)), size=st.integers(0, 1 << 45))
def test_any_range(value: str, size: int) -> None:
    only_refuses(ranges.parse_range, value, size)
    only_refuses(ranges.part_slice, value, size, [])
    only_refuses(router.copy_source, value)


@MANY
@given(value=VALUES, algorithm=st.sampled_from(sorted(checksums.ALGORITHMS)))
def test_any_header_of_an_upload(value: str, algorithm: str) -> None:
    headers = {"content-length": "1", "x-amz-meta-a": value, checksums.header_name(algorithm): value}
    only_refuses(Payload, headers, AUTH)
    only_refuses(Payload, {"content-length": "1", "x-amz-sdk-checksum-algorithm": value}, AUTH)
    only_refuses(Payload, {"content-length": value, "content-md5": value}, AUTH)
    only_refuses(metadata.stored_headers, {"x-amz-meta-a": value, "content-type": value, "content-encoding": value})


# --- lists


@MANY
@given(
    query=st.dictionaries(
        st.sampled_from(
            (
                *("max-keys", "max-parts", "max-uploads", "max-buckets", "partNumber", "part-number-marker"),
                *("continuation-token", "key-marker", "version-id-marker", "encoding-type", "list-type"),
            )
        ),
        VALUES,
        max_size=5,
    )
)
def test_any_parameter_of_a_list(query: dict[str, str]) -> None:
    asked = Query(query.items())
    for parse in (
        *(listing.objects_params, listing.parts_params, listing.uploads_params, listing.versions_params),
        *(listing.buckets_params, listing.part_number),
    ):
        only_refuses(parse, asked)


@MANY
@given(after=TEXT)
def test_a_token_leads_back_to_its_key(after: str) -> None:
    assert listing.decode_token(listing.encode_token(after)) == after


# --- bodies


@MANY
@given(body=st.one_of(st.binary(max_size=60), DOCUMENTS.map(str.encode), _markup(DOCUMENTS).map(str.encode)))
def test_any_document(body: bytes) -> None:
    for parse in (bodies.parse_delete, bodies.parse_complete, bodies.parse_create_bucket, bodies.parse_versioning):
        only_refuses(parse, body)


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE Delete SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE Delete [<!ENTITY a SYSTEM "http://elsewhere.test/">]>',
        '<!DOCTYPE Delete [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        "<!DOCTYPE Delete>",
    ],
)
def test_a_document_type_is_refused_whatever_it_says(prolog: str) -> None:
    body = f"{prolog}<Delete><Object><Key>k</Key></Object></Delete>"
    with pytest.raises(S3Error) as caught:
        bodies.parse_delete(body.encode())
    assert caught.value.code == "MalformedXML" and "document type" in caught.value.message


def test_documents_are_bounded_in_size_and_depth() -> None:
    long = b"<Delete>" + b" " * XML_BODY_BYTES_MAX + b"</Delete>"
    deep = b"<Delete>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</Delete>"
    for body in (long, deep):
        with pytest.raises(S3Error) as caught:
            bodies.parse_delete(body)
        assert caught.value.code == "MalformedXML"


@MANY
@given(
    mode=st.sampled_from([mode for mode in PayloadMode if mode.chunked]),
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from((b"3\r\nabc\r\n", b"0\r\n", b"\r\n", b"x-amz-checksum-crc32:AAAAAA==\r\n", b"f" * 30)),
            st.just(b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n"),
        ),
        max_size=12,
    ),
    length=st.integers(0, 30),
)
def test_any_framing(mode: PayloadMode, pieces: list[bytes], length: int) -> None:
    """What is released is never more than was announced, in whatever pieces the input comes."""

    def decode(parts: list[bytes]) -> tuple[bytes, bool]:
        decoder = ChunkDecoder(
            mode, AUTH, length, frozenset(("x-amz-checksum-crc32",)) if mode.trailer else frozenset()
        )
        released = b""
        try:
            for part in parts:
                released += b"".join(map(bytes, decoder.feed(part)))
            decoder.finish()
        except S3Error as error:
            assert error.status < 500
            return released, False
        return released, True

    released, ended = decode(pieces)
    assert len(released) <= length and (not ended or len(released) == length)
    whole = b"".join(pieces)
    single, ended_too = decode([whole[at : at + 1] for at in range(len(whole))])
    assert (ended_too, single if ended else b"") == (ended, released if ended else b"")
    assert not ended or hashlib.sha256(single).digest() == hashlib.sha256(released).digest()
