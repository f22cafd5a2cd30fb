"""The upload pipeline: lengths, contradictions, checksums of every kind, and the bodies that boto3 really sends."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import checksums
from gateway.s3.errors import S3Error
from gateway.s3.payload import Payload, read_small_body
from gateway.s3.sigv4 import Auth, PayloadMode
from objstore.model.limits import PUT_SIZE_MAX, XML_BODY_BYTES_MAX
from tests.unit.gateway_s3 import boto
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, DATE, Signer, unsigned_body

BODY = b"the quick brown fox" * 100
UNSIGNED = PayloadMode.UNSIGNED
TRAILER = PayloadMode.UNSIGNED_TRAILER


def auth(mode: PayloadMode = UNSIGNED, sha256: str = "", seed: str = "0" * 64) -> Auth:
    return Auth(ACCESS_KEY, mode, sha256, DATE, Signer().scope, seed, Signer().key)


def b64(algorithm: str, data: bytes = BODY) -> str:
    hasher = checksums.hasher(algorithm)
    hasher.update(data)
    return hasher.value()


def run(payload: Payload, body: bytes = BODY, step: int = 7) -> tuple[bytes, dict[str, str]]:
    data = b"".join(bytes(piece) for at in range(0, len(body), step) for piece in payload.feed(body[at : at + step]))
    return data, payload.finish()


def plain(extra: dict[str, str] | None = None, *, mode: Auth | None = None, size: int = len(BODY)) -> Payload:
    return Payload({"content-length": str(size), **(extra or {})}, mode or auth())


def refused(headers: dict[str, str], mode: Auth | None = None, body: bytes = BODY) -> S3Error:
    with pytest.raises(S3Error) as caught:
        run(Payload(headers, mode or auth()), body)
    return caught.value


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
def test_a_checksum_header_is_verified_and_returned(algorithm: str) -> None:
    name = "x-amz-checksum-" + algorithm
    data, headers = run(plain({name: b64(algorithm)}))
    assert data == BODY
    assert headers == {name: b64(algorithm), "x-amz-checksum-type": "FULL_OBJECT"}
    wrong = refused({"content-length": str(len(BODY)), name: b64(algorithm, b"other")})
    assert wrong.code == "BadDigest" and algorithm.upper() in wrong.message


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
def test_a_checksum_trailer_is_verified_and_returned(algorithm: str) -> None:
    name = "x-amz-checksum-" + algorithm
    headers = {"x-amz-decoded-content-length": str(len(BODY)), "x-amz-trailer": name, "content-encoding": "aws-chunked"}
    good = unsigned_body([BODY[:1000], BODY[1000:]], {name: b64(algorithm)})
    data, stored = run(Payload(headers, auth(TRAILER)), good)
    assert (data, stored[name]) == (BODY, b64(algorithm))
    bad = unsigned_body([BODY[:1000], BODY[1000:]], {name: b64(algorithm, b"other")})
    assert refused(headers, auth(TRAILER), bad).code == "BadDigest"
    ill = unsigned_body([BODY], {name: "not base64!"})
    assert refused(headers, auth(TRAILER), ill).code == "InvalidRequest"


def test_a_signed_body_with_a_signed_trailer_goes_through() -> None:
    name = "x-amz-checksum-crc64nvme"
    headers = {"x-amz-decoded-content-length": str(len(BODY)), "x-amz-trailer": name}
    body = Signer().signed_body("0" * 64, [BODY], {name: b64("crc64nvme")})
    assert run(Payload(headers, auth(PayloadMode.SIGNED_CHUNKS_TRAILER)), body)[0] == BODY


def test_the_signed_sha256_is_verified() -> None:
    good = hashlib.sha256(BODY).hexdigest()
    assert run(plain(mode=auth(PayloadMode.HASHED, good)))[0] == BODY
    bad = refused({"content-length": str(len(BODY))}, auth(PayloadMode.HASHED, "0" * 64))
    assert (bad.code, bad.extra["S3ComputedContentSHA256"]) == ("XAmzContentSHA256Mismatch", good)


def test_content_md5_is_left_to_the_engine_except_for_small_bodies() -> None:
    digest = hashlib.md5(BODY).digest()
    headers = {"content-length": str(len(BODY)), "content-md5": base64.b64encode(digest).decode()}
    assert Payload(headers, auth()).content_md5 == digest
    small = read_small_body(headers, auth())
    assert small.content_md5 is None
    run(small)
    with pytest.raises(S3Error) as caught:
        run(read_small_body(headers, auth()), BODY[::-1])
    assert caught.value.code == "BadDigest"


@pytest.mark.parametrize("value", ["", "abc", "AAAA", "ÄÖ==", base64.b64encode(bytes(17)).decode()])
def test_a_malformed_content_md5_is_an_invalid_digest(value: str) -> None:
    assert refused({"content-length": "1", "content-md5": value}).code == "InvalidDigest"


def test_without_a_checksum_nothing_is_stored_unless_a_default_is_wanted() -> None:
    assert run(plain())[1] == {}
    payload = Payload({"content-length": str(len(BODY))}, auth(), default_algorithm="crc64nvme")
    assert run(payload)[1]["x-amz-checksum-crc64nvme"] == b64("crc64nvme")


@pytest.mark.parametrize("delta", [-1, 1])
def test_a_body_shorter_or_longer_than_its_length_is_incomplete(delta: int) -> None:
    assert refused({"content-length": str(len(BODY) + delta)}).code == "IncompleteBody"


@pytest.mark.parametrize(
    ("headers", "mode", "code"),
    [
        ({}, UNSIGNED, "MissingContentLength"),
        ({"content-length": "5"}, TRAILER, "MissingContentLength"),
        ({"content-length": "-5"}, UNSIGNED, "MissingContentLength"),
        ({"content-length": "5_0"}, UNSIGNED, "MissingContentLength"),
        ({"content-length": str(PUT_SIZE_MAX + 1)}, UNSIGNED, "EntityTooLarge"),
        ({"content-length": "5", "content-encoding": "gzip, aws-chunked"}, UNSIGNED, "InvalidArgument"),
        ({"content-length": "5", "x-amz-decoded-content-length": "5"}, UNSIGNED, "InvalidRequest"),
        ({"content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"}, UNSIGNED, "MalformedTrailerError"),
        (
            {"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"},
            PayloadMode.SIGNED_CHUNKS,
            "MalformedTrailerError",
        ),
        ({"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-meta-a"}, TRAILER, "InvalidRequest"),
        (
            {"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"},
            TRAILER,
            "InvalidRequest",
        ),
        (
            {
                "x-amz-decoded-content-length": "5",
                "x-amz-trailer": "x-amz-checksum-crc32",
                "x-amz-checksum-crc32": "AAAAAA==",
            },
            TRAILER,
            "InvalidRequest",
        ),
        (
            {"content-length": "5", "x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
            UNSIGNED,
            "InvalidRequest",
        ),
        ({"content-length": "5", "x-amz-checksum-crc32": "AAAA"}, UNSIGNED, "InvalidRequest"),
        ({"content-length": "5", "x-amz-sdk-checksum-algorithm": "CRC32"}, UNSIGNED, "InvalidRequest"),
        (
            {"content-length": "5", "x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": "AAAAAA=="},
            UNSIGNED,
            "InvalidRequest",
        ),
        (
            {"content-length": "5", "x-amz-sdk-checksum-algorithm": "MD4", "x-amz-checksum-crc32": "AAAAAA=="},
            UNSIGNED,
            "InvalidRequest",
        ),
    ],
)
def test_contradictions_are_refused_before_a_byte_is_read(
    headers: dict[str, str], mode: PayloadMode, code: str
) -> None:
    with pytest.raises(S3Error) as caught:
        Payload(headers, auth(mode))
    assert caught.value.code == code


def test_a_body_that_grows_too_long_is_refused_at_once_not_at_its_end() -> None:
    payload = plain(size=5)
    payload.feed(b"12345")
    with pytest.raises(S3Error) as caught:
        payload.feed(b"6")
    assert caught.value.code == "IncompleteBody"


def test_a_document_without_any_length_is_empty_but_one_of_unknown_length_is_refused() -> None:
    assert read_small_body({}, auth()).length == 0
    with pytest.raises(S3Error) as caught:
        read_small_body({"transfer-encoding": "chunked"}, auth())
    assert caught.value.code == "MissingContentLength"


def test_an_xml_body_is_bounded() -> None:
    with pytest.raises(S3Error) as caught:
        read_small_body({"content-length": str(XML_BODY_BYTES_MAX + 1)}, auth())
    assert caught.value.code == "EntityTooLarge"


@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=3000), tls=st.booleans(), step=st.integers(1, 900))
def test_what_boto3_sends_for_put_object_is_stored_as_its_body(body: bytes, tls: bool, step: int) -> None:
    s3 = boto.client("https://s3.example.test" if tls else "http://s3.example.test")
    sent = boto.send(s3, lambda c: c.put_object(Bucket="bucket", Key="k", Body=body))
    verified = sent.verify()
    assert verified.mode is (TRAILER if tls else PayloadMode.HASHED)
    data, stored = run(Payload(sent.headers, verified), sent.body, step)
    assert (data, stored["x-amz-checksum-crc32"]) == (body, b64("crc32", body))


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
def test_every_checksum_of_boto3_verifies_in_the_trailer(algorithm: str) -> None:
    s3 = boto.client("https://s3.example.test")
    sent = boto.send(
        s3, lambda c: c.put_object(Bucket="bucket", Key="k", Body=BODY, ChecksumAlgorithm=algorithm.upper())
    )
    data, stored = run(Payload(sent.headers, sent.verify()), sent.body)
    assert (data, stored["x-amz-checksum-" + algorithm]) == (BODY, b64(algorithm))


def test_a_body_with_a_changed_byte_is_refused_although_boto3_signed_it() -> None:
    s3 = boto.client("https://s3.example.test")
    sent = boto.send(s3, lambda c: c.put_object(Bucket="bucket", Key="k", Body=BODY))
    body = sent.body.replace(b"quick", b"quack", 1)
    with pytest.raises(S3Error) as caught:
        run(Payload(sent.headers, sent.verify()), body)
    assert caught.value.code == "BadDigest"


def test_the_delete_request_of_boto3_carries_no_md5_and_is_verified_all_the_same() -> None:
    sent = boto.send(boto.client(), lambda c: c.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a"}]}))
    assert "content-md5" not in sent.headers
    data, stored = run(read_small_body(sent.headers, sent.verify()), sent.body)
    assert b"<Key>a</Key>" in data and "x-amz-checksum-crc32" in stored
