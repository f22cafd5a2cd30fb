"""Checksums as SDKs send them: headers, trailers, none; over HTTP and TLS."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import ssl
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3.conftest import Endpoint, make_client
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine

DATA = os.urandom(300_000)
CRC32 = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()


class Unseekable(io.RawIOBase):
    """A stream that a client can neither rewind nor measure."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._inner.readinto(buffer)


@pytest.fixture(scope="module")
def tls_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with local_gateway(MemoryEngine(), ssl_context=context) as gateway:
        yield Endpoint(gateway.url.replace("http:", "https:"), ACCESS_KEY, SECRET_KEY), certificate


@pytest.mark.parametrize("calculation", ["when_supported", "when_required"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("transport", ["http", "tls"])
def test_every_way_of_an_sdk_to_send_a_body_stores_the_same_bytes(
    s3_endpoint: Endpoint,
    tls_endpoint: tuple[Endpoint, Path],
    bucket: str,
    calculation: str,
    signed: bool,
    transport: str,
) -> None:
    endpoint, verify = tls_endpoint if transport == "tls" else (s3_endpoint, True)
    style = {"addressing_style": "path", "payload_signing_enabled": signed}
    client = make_client(endpoint, verify=str(verify), request_checksum_calculation=calculation, s3=style)
    if transport == "tls" and bucket not in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    try:
        client.put_object(Bucket=bucket, Key="k", Body=DATA)
        got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert got["Body"].read() == DATA
        assert got.get("ContentEncoding", "") == ""
        assert got.get("ChecksumCRC32") == (CRC32 if calculation == "when_supported" else None)
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
        assert [entry["Key"] for entry in answer["Deleted"]] == ["k"]
    finally:
        client.close()


def test_a_stream_of_unknown_length_is_sent_in_chunks_with_a_trailer(tls_endpoint: tuple[Endpoint, Path]) -> None:
    endpoint, certificate = tls_endpoint
    client = make_client(endpoint, verify=str(certificate))
    client.create_bucket(Bucket="streams")
    client.upload_fileobj(Unseekable(DATA), "streams", "k")
    assert client.get_object(Bucket="streams", Key="k")["Body"].read() == DATA
    client.close()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_checksum_is_stored_and_shown_when_asked_for(s3: Any, bucket: str, algorithm: str) -> None:
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=DATA, ChecksumAlgorithm=algorithm)
    shown = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert shown[name] == put[name]
    assert shown["ChecksumType"] == "FULL_OBJECT"
    assert name not in s3.head_object(Bucket=bucket, Key="k")
    partial = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", Range="bytes=0-9")
    assert name not in partial and partial["Body"].read() == DATA[:10]


def test_a_copy_has_a_checksum_of_the_same_kind(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=DATA, ChecksumAlgorithm="CRC32")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    assert s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")["ChecksumCRC32"] == CRC32
    result = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k", ChecksumAlgorithm="SHA256")
    expected = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert result["CopyObjectResult"]["ChecksumSHA256"] == expected


def test_a_wrong_checksum_leaves_nothing_visible(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "Body": DATA}
    assert error_code(s3.put_object, **where, ChecksumCRC32="AAAAAA==") == "BadDigest"
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert error_code(s3.put_object, **where, ContentMD5=wrong) == "BadDigest"
    assert error_code(s3.put_object, **where, ContentMD5="not base64!") == "InvalidDigest"
    assert error_code(s3.head_object, Bucket=bucket, Key="k") == "404"
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    s3.put_object(**where, ContentMD5=right)
