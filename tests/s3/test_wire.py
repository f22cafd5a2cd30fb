"""What goes over the wire: framing of bodies, `Expect`, signatures, malformed requests. Raw sockets, no library."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from typing import Any

import pytest

from tests.s3.conftest import Endpoint
from tests.s3.wire import EMPTY_SHA256, Wire

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
DATA = os.urandom(150_000)
PIECES = (DATA[:65_536], DATA[65_536:131_072], DATA[131_072:], b"")


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def framed_headers(frames: int, **more: str) -> dict[str, str]:
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(DATA))}
    return headers | {"content-length": str(frames)} | {name.replace("_", "-"): value for name, value in more.items()}


def send_signed(wire: Wire, path: str, pieces: tuple[bytes, ...] = PIECES, damage: int | None = None) -> None:
    """DATA in signed chunks; the byte at `damage` of the framed body is changed."""
    sizes = sum(len(f"{len(piece):x};chunk-signature=\r\n\r\n") + 64 + len(piece) for piece in pieces)
    head, signature = wire.head("PUT", path, framed_headers(sizes), SIGNED)
    body = bytearray(b"".join(signature.chunk(piece) for piece in pieces))
    if damage is not None:
        body[damage] = ord("2" if body[damage] == ord("1") else "1")  # a hexadecimal digit stays one
    wire.send(head + body)


def send_trailer(wire: Wire, path: str, value: str, frames: bytes | None = None) -> None:
    """DATA in unsigned chunks with a CRC32 trailer, as AWS SDKs do over TLS."""
    if frames is None:
        frames = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in PIECES[:-1]) + b"0\r\n"
    body = frames + f"x-amz-checksum-crc32:{value}\r\n\r\n".encode()
    headers = framed_headers(len(body), x_amz_trailer="x-amz-checksum-crc32")
    head, _ = wire.head("PUT", path, headers, UNSIGNED_TRAILER)
    wire.send(head + body)


def is_absent(wire: Wire, path: str) -> bool:
    return wire.request("HEAD", path).status == 404


# --- framing


def test_signed_chunks_are_decoded(wire: Wire, bucket: str) -> None:
    send_signed(wire, f"/{bucket}/k")
    assert wire.answer().status == 200
    got = wire.request("GET", f"/{bucket}/k")
    assert got.body == DATA
    assert "content-encoding" not in got.headers


@pytest.mark.parametrize(
    "where", [40, 90, 70_000, -30], ids=["signature", "first data", "second data", "last signature"]
)
def test_a_changed_byte_in_signed_chunks_leaves_nothing_visible(wire: Wire, bucket: str, where: int) -> None:
    send_signed(wire, f"/{bucket}/k", damage=where)
    assert wire.answer().code == "SignatureDoesNotMatch"
    assert is_absent(wire, f"/{bucket}/k")


def test_signed_chunks_without_the_final_one_leave_nothing_visible(wire: Wire, bucket: str) -> None:
    send_signed(wire, f"/{bucket}/k", pieces=PIECES[:-1])
    assert wire.answer().status == 400
    assert is_absent(wire, f"/{bucket}/k")


def test_an_unsigned_trailer_is_verified_stored_and_shown(wire: Wire, bucket: str) -> None:
    send_trailer(wire, f"/{bucket}/k", crc32(DATA))
    assert wire.answer().headers["x-amz-checksum-crc32"] == crc32(DATA)
    got = wire.request("GET", f"/{bucket}/k", x_amz_checksum_mode="ENABLED")
    assert (got.body, got.headers["x-amz-checksum-crc32"]) == (DATA, crc32(DATA))


def test_a_wrong_trailer_leaves_nothing_visible(wire: Wire, bucket: str) -> None:
    send_trailer(wire, f"/{bucket}/k", crc32(b"other"))
    assert wire.answer().code == "BadDigest"
    assert is_absent(wire, f"/{bucket}/k")


@pytest.mark.parametrize(
    "frames", [b"zz\r\n", b"-5\r\nabc\r\n0\r\n", b"5\r\nabcdefgh\r\n0\r\n", b"fffffffffffffffffff\r\n"]
)
def test_broken_framing_is_refused_and_stored_nowhere(wire: Wire, bucket: str, frames: bytes) -> None:
    send_trailer(wire, f"/{bucket}/k", crc32(DATA), frames)
    assert wire.answer().status == 400


def test_a_signed_trailer_is_verified(wire: Wire, bucket: str, s3_endpoint: Endpoint) -> None:
    for value, status in ((crc32(DATA), 200), (crc32(b"other"), 400)):
        with Wire.to(*s3_endpoint) as connection:
            frames = sum(len(f"{len(piece):x};chunk-signature=\r\n") + 64 + len(piece) for piece in PIECES) + 2 * 3
            trailer = len(f"x-amz-checksum-crc32:{value}\r\nx-amz-trailer-signature:\r\n\r\n") + 64
            headers = framed_headers(frames + trailer, x_amz_trailer="x-amz-checksum-crc32")
            head, signature = connection.head("PUT", f"/{bucket}/k{status}", headers, SIGNED_TRAILER)
            chunks = [signature.chunk(piece) for piece in PIECES]
            body = b"".join(chunks)[:-2]  # the last chunk has no line of data: its trailer follows at once
            connection.send(head + body + signature.trailer("x-amz-checksum-crc32", value))
            assert connection.answer().status == status
    assert wire.request("GET", f"/{bucket}/k200").body == DATA
    assert is_absent(wire, f"/{bucket}/k400")


def test_chunks_may_come_in_the_chunked_transfer_encoding(wire: Wire, bucket: str) -> None:
    inner = b"%x\r\n" % len(DATA) + DATA + b"\r\n0\r\nx-amz-checksum-crc32:" + crc32(DATA).encode() + b"\r\n\r\n"
    headers = framed_headers(0, x_amz_trailer="x-amz-checksum-crc32", transfer_encoding="chunked")
    del headers["content-length"]
    head, _ = wire.head("PUT", f"/{bucket}/k", headers, UNSIGNED_TRAILER)
    outer = b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in (inner[:70_001], inner[70_001:]))
    wire.send(head + outer + b"0\r\n\r\n")
    assert wire.answer().status == 200
    assert wire.request("GET", f"/{bucket}/k").body == DATA


# --- lengths


def test_a_body_that_breaks_off_leaves_nothing_visible(wire: Wire, bucket: str, s3_endpoint: Endpoint) -> None:
    with Wire.to(*s3_endpoint) as other:
        head, _ = other.head("PUT", f"/{bucket}/k", {"content-length": "1000"}, "UNSIGNED-PAYLOAD")
        other.send(head + b"x" * 999)
    assert is_absent(wire, f"/{bucket}/k")


def test_a_body_without_length_is_refused(wire: Wire, bucket: str) -> None:
    head, _ = wire.head("PUT", f"/{bucket}/k", {"transfer-encoding": "chunked"}, "UNSIGNED-PAYLOAD")
    wire.send(head + b"1\r\nx\r\n0\r\n\r\n")
    answer = wire.answer()
    assert (answer.status, answer.code) == (411, "MissingContentLength")


@pytest.mark.parametrize("length", ["-1", "abc", "1, 2", "1e3"])
def test_a_length_that_is_no_number_is_refused(wire: Wire, bucket: str, length: str) -> None:
    head, _ = wire.head("PUT", f"/{bucket}/k", {"content-length": length}, "UNSIGNED-PAYLOAD")
    wire.send(head)
    answer = wire.answer()
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.headers["x-amz-request-id"] in answer.body.decode()
    assert wire.is_closed()


def test_more_than_five_gibibytes_are_refused_before_a_byte_is_read(wire: Wire, bucket: str) -> None:
    headers = {"content-length": str((5 << 30) + 1), "expect": "100-continue"}
    head, _ = wire.head("PUT", f"/{bucket}/k", headers, "UNSIGNED-PAYLOAD")
    wire.send(head)
    assert wire.answer().code == "EntityTooLarge"


def test_a_payload_that_differs_from_its_signed_hash_is_refused(wire: Wire, bucket: str) -> None:
    head, _ = wire.head("PUT", f"/{bucket}/k", {"content-length": "3"}, hashlib.sha256(b"abc").hexdigest())
    wire.send(head + b"abd")
    assert wire.answer().code == "XAmzContentSHA256Mismatch"
    assert is_absent(wire, f"/{bucket}/k")


# --- Expect


def test_a_good_request_is_told_to_continue(wire: Wire, bucket: str) -> None:
    headers = {"content-length": "3", "expect": "100-continue"}
    head, _ = wire.head("PUT", f"/{bucket}/k", headers, hashlib.sha256(b"abc").hexdigest())
    wire.send(head)
    assert wire.answer().status == 100
    wire.send(b"abc")
    assert wire.answer().status == 200
    assert wire.request("GET", f"/{bucket}/k").body == b"abc"


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/{bucket}/k", {"authorization": "AWS4-HMAC-SHA256 nonsense"}, "AuthorizationHeaderMalformed"),
        ("/no-such-bucket/k", {}, "NoSuchBucket"),
        ("/{bucket}/k?annotation", {}, "NotImplemented"),
    ],
)
def test_a_refused_request_is_not_told_to_continue(
    wire: Wire, bucket: str, path: str, headers: dict[str, str], code: str
) -> None:
    expect = {"content-length": "3", "expect": "100-continue"}
    head, _ = wire.head("PUT", path.format(bucket=bucket), expect, EMPTY_SHA256)
    lines = [line for line in head.decode().split("\r\n") if line.partition(":")[0] not in headers]
    extra = [f"{name}: {value}" for name, value in headers.items()]
    wire.send("\r\n".join([*lines[:-2], *extra, "", ""]).encode())
    answer = wire.answer()
    assert answer.code == code
    assert answer.headers["connection"] == "close"  # nobody can know whether the body still follows


# --- signatures


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("Signature=", "Signature=0"), "SignatureDoesNotMatch"),
        (("Credential=", "Credential=X"), "InvalidAccessKeyId"),
        (("x-amz-date: 2", "x-amz-date: 1"), ""),
        (("authorization: ", "x-nothing: "), "AccessDenied"),
        (("GET /", "GET /x"), "SignatureDoesNotMatch"),
    ],
)
def test_a_request_that_is_not_rightly_signed_is_refused(
    wire: Wire, bucket: str, change: tuple[str, str], code: str
) -> None:
    head, _ = wire.head("GET", f"/{bucket}", {})
    wire.send(head.decode().replace(*change, 1).encode())
    answer = wire.answer()
    assert answer.status in (400, 403)
    assert code in ("", answer.code)


def test_an_unsigned_amz_header_is_refused(wire: Wire, bucket: str) -> None:
    head, _ = wire.head("PUT", f"/{bucket}/k", {"content-length": "0"})
    wire.send(head[:-2] + f"x-amz-copy-source: /{bucket}/secret\r\n\r\n".encode())
    assert wire.answer().status in (400, 403)
    assert is_absent(wire, f"/{bucket}/k")


# --- connections


def test_pipelined_requests_are_answered_in_order(wire: Wire, bucket: str) -> None:
    heads = []
    for number in range(20):
        body = f"body {number}".encode()
        digest = hashlib.sha256(body).hexdigest()
        heads.append(wire.head("PUT", f"/{bucket}/k", {"content-length": str(len(body))}, digest)[0] + body)
        heads.append(wire.head("GET", f"/{bucket}/k", {})[0])
    wire.send(b"".join(heads))
    for number in range(20):
        assert wire.answer().status == 200
        assert wire.answer().body == f"body {number}".encode()


def test_a_refused_body_does_not_become_the_next_request(wire: Wire, bucket: str) -> None:
    body = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 50
    head, _ = wire.head("PUT", f"/{bucket}/k?annotation", {"content-length": str(len(body))}, "UNSIGNED-PAYLOAD")
    wire.send(head + body)
    assert wire.answer().status == 501
    assert wire.request("HEAD", f"/{bucket}").status == 200


def test_a_large_refused_body_closes_the_connection(wire: Wire) -> None:
    head, _ = wire.head("PUT", "/no-such-bucket/k", {"content-length": str(64 << 20)}, "UNSIGNED-PAYLOAD")
    wire.send(head + bytes(1 << 20))
    answer = wire.answer()
    assert (answer.code, answer.headers["connection"]) == ("NoSuchBucket", "close")


def test_head_answers_have_headers_and_no_body(wire: Wire, bucket: str) -> None:
    wire.request("PUT", f"/{bucket}/k", b"12345")
    head = wire.request("HEAD", f"/{bucket}/k")
    assert (head.status, head.headers["content-length"]) == (200, "5")
    assert wire.request("HEAD", f"/{bucket}/missing").status == 404
    assert wire.request("HEAD", f"/{bucket}/k", range="bytes=7-").status == 416
    assert wire.request("GET", f"/{bucket}/k").body == b"12345"


def test_every_answer_names_its_request(wire: Wire, bucket: str) -> None:
    seen = set()
    for method, path in (
        ("GET", "/"),
        ("HEAD", f"/{bucket}"),
        ("GET", f"/{bucket}/missing"),
        ("PATCH", f"/{bucket}/k"),
    ):
        answer = wire.request(method, path)
        request_id = answer.headers["x-amz-request-id"]
        assert len(request_id) == 16 and request_id == request_id.upper()
        assert answer.status < 400 or request_id in answer.body.decode()
        seen.add(request_id)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"]
)
def test_bytes_that_are_not_http_are_refused_as_s3_does(wire: Wire, garbage: bytes) -> None:
    wire.send(garbage)
    answer = wire.answer()
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert wire.is_closed()


@pytest.mark.parametrize(
    "head", [b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: " + b"a" * 40_000 + b"\r\n\r\n"]
)
def test_a_line_without_end_is_refused_and_not_repeated(wire: Wire, head: bytes) -> None:
    wire.send(head)
    answer = wire.answer()
    assert (answer.status, answer.code) == (400, "RequestHeaderSectionTooLarge")
    assert b"aaa" not in answer.body.partition(b"<Resource>")[0]
    assert wire.is_closed()


# --- several things wrong at once


def test_a_wrong_hash_is_told_before_a_wrong_md5(wire: Wire, bucket: str) -> None:
    md5 = base64.b64encode(hashlib.md5(b"").digest()).decode()
    head, _ = wire.head("PUT", f"/{bucket}/k", {"content-length": "1", "content-md5": md5}, "0" * 64)
    wire.send(head + b"x")
    assert wire.answer().code == "XAmzContentSHA256Mismatch"
    found = wire.request("PUT", f"/{bucket}/k", b"x", content_md5=md5)
    assert found.code == "BadDigest"
    assert f"<ExpectedDigest>{hashlib.md5(b'').hexdigest()}</ExpectedDigest>".encode() in found.body


# --- DeleteObjects


def test_delete_objects_needs_something_that_vouches_for_its_body(wire: Wire, bucket: str) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"

    def send(**headers: str) -> Any:
        chosen = {"content-length": str(len(body))} | {n.replace("_", "-"): v for n, v in headers.items()}
        head, _ = wire.head("POST", f"/{bucket}?delete", chosen, "UNSIGNED-PAYLOAD")
        wire.send(head + body)
        return wire.answer()

    assert send().code == "InvalidRequest"
    assert wire.request("POST", f"/{bucket}?delete", body).code == "InvalidRequest", "a signed hash does not, as in AWS"
    assert send(x_amz_checksum_algorithm="CRC32").code == "InvalidRequest"
    assert send(content_md5=base64.b64encode(hashlib.md5(body).digest()).decode()).status == 200
    assert send(content_md5=base64.b64encode(hashlib.md5(b"").digest()).decode()).code == "BadDigest"
    assert send(x_amz_checksum_crc32=crc32(body)).status == 200
    assert send(x_amz_checksum_crc32=crc32(b"")).code == "BadDigest"


def test_xml_that_is_not_understood_is_refused(wire: Wire, bucket: str) -> None:
    keys = b"".join(b"<Object><Key>k%d</Key></Object>" % number for number in range(1001))
    many = b"<Delete>" + keys + b"</Delete>"
    for body in (b"", b"<Delete>", b"<!DOCTYPE x [<!ENTITY e 'x'>]><Delete/>", b"<Other/>", many):
        found = wire.request("POST", f"/{bucket}?delete", body, x_amz_checksum_crc32=crc32(body))
        assert found.code == "MalformedXML", body


@pytest.mark.parametrize("value", ["caf\u00e9\u00a0", "\u00a0first", "\u0085next\u0085", "two\u2003spaces\u2003"])
def test_only_what_is_space_to_http_is_cut_off_a_header(wire: Wire, bucket: str, value: str) -> None:
    assert wire.request("PUT", f"/{bucket}/k", b"x", x_amz_meta_a=value).status == 200
    found = wire.request("HEAD", f"/{bucket}/k").headers
    raw = found["x-amz-meta-a"].encode("latin-1")
    assert raw.decode() == value


@pytest.mark.parametrize(
    ("sent", "kept"), [("aws-chunked", None), ("gzip, aws-chunked", "gzip"), ("aws-chunked,aws-chunked,br", "br")]
)
def test_a_body_with_its_hash_is_not_framed_whatever_its_encoding_is_called(
    wire: Wire, bucket: str, sent: str, kept: str | None
) -> None:
    body = b"4\r\nbody\r\n0\r\n\r\n"
    assert wire.request("PUT", f"/{bucket}/k", body, content_encoding=sent).status == 200
    found = wire.request("GET", f"/{bucket}/k")
    assert (found.body, found.headers.get("content-encoding")) == (body, kept)
    head, _ = wire.head(
        "PUT", f"/{bucket}/k", {"content-length": str(len(body)), "content-encoding": sent}, "UNSIGNED-PAYLOAD"
    )
    wire.send(head + body)
    assert wire.answer().code == "InvalidArgument"
