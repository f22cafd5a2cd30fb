"""Whatever comes over a socket: an answer of S3 or a closed connection, never a 5xx, never a hang; and then service.

One gateway takes it all, so that what one input leaves behind would break the next. A hang shows as a time-out of the
socket. What the pure parsers make of anything is in tests/unit/gateway_s3/test_fuzz.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.s3.operations import TABLE, Operation, Scope, Support
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, LocalGateway, local_gateway
from tests.s3.local_gateway import settings as gateway_settings
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Answer, Wire

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
HEAD_PIECES = [
    *(b"GET", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"CONNECT", b"PRI", b" ", b"/", b"/bucket/k", b"*", b"?", b"&"),
    *(b"http://h/b", b"//", b"%", b"%00", b"%ff", b"?uploads", b"?versionId=", b"?X-Amz-Signature=", b"?partNumber=-1"),
    *(b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/9", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b"\xff", b"\t"),
    *(b"host: x\r\n", b"content-length: 5\r\n", b"content-length: 99999999999999999999\r\n", b"content-length: +1\r\n"),
    *(
        b"transfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"5\r\nabcde\r\n0\r\n\r\n",
        b"-1\r\n",
    ),
    *(b"expect: 100-continue\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b"connection: close\r\n", b": \r\n"),
    *(
        b"authorization: AWS4-HMAC-SHA256 ",
        b"Credential=a/b/c/s3/aws4_request, ",
        b"SignedHeaders=host, ",
        b"Signature=0",
    ),
    *(b"x-amz-date: 20130524T000000Z\r\n", b"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n", b"range: bytes=-\r\n"),
    *(b"origin: http://a\r\n", b"access-control-request-method: PUT\r\n", b"fffffffffffffffff\r\n", b"0\r\n\r\n"),
]
VALUES = st.text([chr(code) for code in range(0x20, 0x7F)], max_size=30).map(str.strip)
COMMON_HEADERS = (
    *("cache-control", "content-encoding", "content-md5", "content-type", "expires", "origin", "range", "x-amz-acl"),
    *("x-amz-checksum-algorithm", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-mode"),
    *("x-amz-checksum-sha256", "x-amz-checksum-type", "x-amz-decoded-content-length", "x-amz-meta-a", "x-amz-trailer"),
    *("x-amz-metadata-directive", "x-amz-mp-object-size", "x-amz-sdk-checksum-algorithm", "x-amz-storage-class"),
)
COPY_HEADERS = (
    *("x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match", "x-amz-copy-source-if-modified-since"),
    *("x-amz-copy-source-if-unmodified-since", "x-amz-copy-source-range"),
)
ROWS = [row for row in TABLE if row.support is not Support.NO and row.operation is not Operation.DELETE_BUCKET]
# Values that mean something somewhere, so that more than the first check of each is reached.
TELLING = st.sampled_from(
    (
        *("", "*", "0", "-1", "1", "10001", "99999999999999999999", "2147483648", "url", "null", "2", "bytes=0-0"),
        *("bytes=5-2", "bytes=-0", "bytes=0-99999999999999999999", '"etag"', "AAAAAA==", "====", "AES256", "ENABLED"),
        *("GOVERNANCE", "2030-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "COMPOSITE", "CRC32"),
        *("/bucket/k", "bucket/k?versionId=null", "bucket", "%", "%00", "%ff", "a=1&a=2", "COPY", "REPLACE", "ETag"),
        *("Fri, 24 May 2013 00:00:00 GMT", "Fri, 24 May 99999 00:00:00 GMT", "Thu, 01 Jan 0001 00:00:00 -2359"),
        *("x-amz-checksum-crc32", "aws-chunked", "aws-chunked,gzip", "private", "STANDARD", "0" * 32, "a" * 1100),
    )
)

DOCUMENTS = (
    *(b"<Delete><Object><Key>x</Key></Object></Delete>", b"<Delete/>", b"<Tagging><TagSet/></Tagging>", b"<a><b/></a>"),
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
    b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>9999-12-31T23:59:59-01:00</RetainUntilDate></Retention>",
    b"<LegalHold><Status>ON</Status></LegalHold>",
    b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[LocalGateway]:
    with local_gateway(MemoryEngine(), gateway_settings(body_idle_s=0.3)) as running:
        with connect(running) as wire:
            assert wire.request("PUT", "/bucket", x_amz_bucket_object_lock_enabled="true").status == 200
            assert wire.request("PUT", "/bucket/k", b"0123456789").status == 200
        yield running


def connect(gateway: LocalGateway) -> Wire:
    return Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY)


def check_serves(gateway: LocalGateway) -> None:
    with connect(gateway) as wire:
        assert wire.request("PUT", "/bucket/alive", b"0123456789").status == 200
        assert wire.request("GET", "/bucket/alive").body == b"0123456789"


def everything_said(gateway: LocalGateway, data: bytes) -> bytes:
    """All that comes back for `data` from a client that then ends its side."""
    with socket.create_connection((gateway.host, gateway.port), timeout=20) as connection:
        said = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # as it may end what it does not understand
        return said


def check_no_fault(answer: Answer) -> None:
    assert answer.status < 500 or (answer.status, answer.code) in ((501, "NotImplemented"), (501, "")), answer
    assert answer.complete


@FEW
@given(data=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(HEAD_PIECES), max_size=14).map(b"".join)))
def test_any_bytes_at_all_are_answered_or_dropped(gateway: LocalGateway, data: bytes) -> None:
    said = everything_said(gateway, data)
    assert said == b"" or said.startswith(b"HTTP/1."), said
    assert b" 500 " not in said.partition(b"\r\n")[0] and b"<Code>InternalError" not in said
    check_serves(gateway)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers of an operation that is served, with any values of what it understands."""
    row = draw(st.sampled_from(ROWS))
    path = {
        Scope.SERVICE: "/",
        Scope.BUCKET: "/bucket",
        Scope.OBJECT: draw(st.sampled_from(("/bucket/k", "/bucket/x"))),
    }
    values = st.one_of(TELLING, VALUES)
    optional = [name for name in sorted(row.parameters) if draw(st.integers(0, 3)) == 0]
    query = {name: draw(values) for name in (*row.markers, *optional)}
    if "list-type" in query:
        query["list-type"] = "2"
    names = (*COMMON_HEADERS, *sorted(row.headers | row.conditions), *(COPY_HEADERS if row.header else ()))
    chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    headers = {name: draw(values) for name in chosen}
    if row.header:
        headers[row.header] = draw(st.one_of(st.just("/bucket/k"), values))
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return row.method, path[row.scope] + ("?" + text if text else ""), headers


@settings(FEW, max_examples=300)
@given(request=requests(), body=st.one_of(st.just(b""), st.binary(max_size=30), st.sampled_from(DOCUMENTS)))
@example(("PUT", "/bucket/x", {"x-amz-meta-a": "\x7f"}), b"")
def test_any_well_signed_request_has_an_answer(
    gateway: LocalGateway, request: tuple[str, str, dict[str, str]], body: bytes
) -> None:
    method, path, headers = request
    if method in ("GET", "HEAD", "DELETE"):
        body = b""
    else:
        headers = headers | {"content-length": str(len(body))}
    with connect(gateway) as wire:
        head, _ = wire.head(method, path, headers, hashlib.sha256(body).hexdigest())
        wire.send(head + body)
        answer = wire.answer(method)
        check_no_fault(answer)
        assert answer.headers["x-amz-request-id"]


@FEW
@given(
    mode=st.sampled_from((SIGNED, SIGNED + "-TRAILER", UNSIGNED_TRAILER)),
    announced=st.integers(0, 40),
    frames=st.lists(
        st.one_of(
            st.sampled_from((b"5\r\nabcde\r\n", b"0\r\n", b"\r\n", b"\n", b"fffffffff\r\n", b"-1\r\n", b"5;a=b\r\n")),
            st.sampled_from((b"x-amz-checksum-crc32:AAAAAA==\r\n", b"x-amz-trailer-signature:0\r\n", b":\r\n")),
            st.binary(max_size=8),
        ),
        max_size=8,
    ),
    chunked=st.booleans(),
)
def test_any_framing_of_a_body_has_an_answer(
    gateway: LocalGateway, mode: str, announced: int, frames: list[bytes], chunked: bool
) -> None:
    body = b"".join(frames)
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(announced)}
    if mode != SIGNED:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    if chunked:
        headers["transfer-encoding"] = "chunked"
        outer = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    else:
        headers["content-length"] = str(len(body))
        outer = body
    with connect(gateway) as wire:
        head, _ = wire.head("PUT", "/bucket/framed", headers, mode)
        wire.send(head + outer)
        answer = wire.answer()
        check_no_fault(answer)
        assert answer.status == 400 or b"".join(frames).count(b"abcde") * 5 >= announced


def test_every_cut_of_a_request_is_dropped_and_leaves_nothing(gateway: LocalGateway) -> None:
    with connect(gateway) as wire:
        body = b"0123456789"
        head, _ = wire.head("PUT", "/bucket/cut", {"content-length": "10"}, hashlib.sha256(body).hexdigest())
        whole = head + body
        for end in (*range(0, len(head), 23), *range(len(head), len(whole))):
            said = everything_said(gateway, whole[:end])
            assert said == b"" or b" 400 " in said.partition(b"\r\n")[0], (end, said)
        assert wire.request("HEAD", "/bucket/cut").status == 404
