"""Checksums: known values, combination of parts, and what a client may ask for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import checksums
from gateway.s3.errors import S3Error

CHECK = b"123456789"
# The check values of the catalogue of parametrised CRC algorithms, and of FIPS 180.
KNOWN = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}


def value(algorithm: str, data: bytes) -> str:
    hasher = checksums.hasher(algorithm)
    hasher.update(data)
    return hasher.value()


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
def test_known_values(algorithm: str) -> None:
    hasher = checksums.hasher(algorithm)
    for piece in (memoryview(CHECK)[:4], bytearray(CHECK[4:5]), CHECK[5:]):
        hasher.update(piece)
    assert hasher.digest().hex() == KNOWN[algorithm]
    assert checksums.decode(algorithm, hasher.value()) == hasher.digest()


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme"])
@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_the_full_object_checksum_of_parts_is_that_of_the_whole(algorithm: str, parts: list[bytes]) -> None:
    upload = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": "FULL_OBJECT"}
    name = checksums.header_name(algorithm)
    given_parts = [({name: value(algorithm, part)}, len(part)) for part in parts]
    assert checksums.combined(upload, given_parts) == {
        name: value(algorithm, b"".join(parts)),
        "x-amz-checksum-type": "FULL_OBJECT",
    }


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "sha1", "sha256"])
def test_the_composite_checksum_is_that_of_the_digests_and_counts_the_parts(algorithm: str) -> None:
    name = checksums.header_name(algorithm)
    values = [value(algorithm, b"a"), value(algorithm, b"bc")]
    whole = checksums.combined(
        {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": "COMPOSITE"},
        [({name: each}, 1) for each in values],
    )
    digests = b"".join(map(base64.b64decode, values))
    assert whole == {name: value(algorithm, digests) + "-2", "x-amz-checksum-type": "COMPOSITE"}


def test_parts_without_the_checksum_give_none() -> None:
    part = {"x-amz-checksum-crc64nvme": value("crc64nvme", b"a")}
    assert checksums.combined({}, [(part, 1), ({}, 1)]) == {}
    assert checksums.combined({}, []) == {}
    assert checksums.combined({"x-amz-checksum-algorithm": "SHA1"}, [(part, 1)]) == {}
    assert checksums.combined({}, [(part, 1)]) == {**part, "x-amz-checksum-type": "FULL_OBJECT"}


@pytest.mark.parametrize(
    ("algorithm", "kind", "result"),
    [
        ("CRC32", None, "COMPOSITE"),
        ("crc32c", "FULL_OBJECT", "FULL_OBJECT"),
        ("CRC64NVME", None, "FULL_OBJECT"),
        ("SHA256", None, "COMPOSITE"),
    ],
)
def test_the_type_of_a_multipart_checksum(algorithm: str, kind: str | None, result: str) -> None:
    headers = {"x-amz-checksum-algorithm": algorithm} | ({"x-amz-checksum-type": kind} if kind else {})
    expected = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": result}
    assert checksums.requested_multipart(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-algorithm": "SHA1", "x-amz-checksum-type": "FULL_OBJECT"},
        {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "HALF"},
        {"x-amz-checksum-algorithm": "MD5"},
        {"x-amz-checksum-type": "COMPOSITE"},
    ],
)
def test_impossible_multipart_checksums_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        checksums.requested_multipart(headers)
    assert caught.value.code == "InvalidRequest"


def test_a_checksum_of_the_whole_object_at_completion_must_be_the_computed_one() -> None:
    computed = {"x-amz-checksum-crc32": "AAAAAA==-2", "x-amz-checksum-type": "COMPOSITE"}
    upload = {"x-amz-checksum-algorithm": "CRC32"}
    checksums.check_complete(upload, {}, computed)
    checksums.check_complete(upload, {"x-amz-checksum-crc32": "AAAAAA==-2"}, computed)
    checksums.check_complete(upload, {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "COMPOSITE"}, computed)
    checksums.check_complete({}, {"x-amz-checksum-sha1": "BBBBBB=="}, computed)
    for headers, code in (
        ({"x-amz-checksum-crc32": "BBBBBB=="}, "BadDigest"),
        ({"x-amz-checksum-sha1": "BBBBBB=="}, "InvalidRequest"),
        ({"x-amz-checksum-type": "FULL_OBJECT"}, "InvalidRequest"),
    ):
        with pytest.raises(S3Error) as caught:
            checksums.check_complete(upload, headers, computed)
        assert caught.value.code == code


@pytest.mark.parametrize("value", ["y/Q5Jh==", "AAAAAB==", "AAAA", "AAAAAA", "AAAAAA==AAAA", " AAAAAA==", ""])
def test_a_checksum_has_one_form(value: str) -> None:
    """Base64 whose last bits are not zero is another text of the same bytes."""
    with pytest.raises(S3Error) as caught:
        checksums.decode("crc32", value)
    assert caught.value.code == "InvalidRequest" and "x-amz-checksum-crc32" in caught.value.message
