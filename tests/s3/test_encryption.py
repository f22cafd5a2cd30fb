"""Server-side encryption as clients see it: keys of the client, keys of the cluster, defaults of a bucket."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.wire import Wire

KEY = bytes(range(100, 132))
OTHER = bytes(range(200, 232))
CHUNK = 64 * 1024
MIB = 1024 * 1024
SIZES = [0, 1, 13, 4096, 32 * 1024 - 16, 32 * 1024 - 15, CHUNK - 1, CHUNK, CHUNK + 1, 3 * MIB + 7]


def customer(key: bytes = KEY, prefix: str = "SSE") -> dict[str, Any]:
    return {f"{prefix}CustomerAlgorithm": "AES256", f"{prefix}CustomerKey": key}


SOURCE = customer(prefix="CopySourceSSE")


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def body_of(s3: Any, bucket: str, key: str, **more: Any) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", SIZES)
def test_a_body_comes_back_with_the_key_of_the_client(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **customer())
    assert put["SSECustomerAlgorithm"] == "AES256"
    assert put["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(KEY).digest()).decode()
    got = s3.get_object(Bucket=bucket, Key="k", **customer())
    assert got["Body"].read() == data
    assert (got["ContentLength"], got["SSECustomerAlgorithm"]) == (size, "AES256")
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == size


@pytest.mark.parametrize("size", SIZES)
def test_a_body_comes_back_that_the_cluster_encrypted(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, ServerSideEncryption="AES256")
    assert put["ServerSideEncryption"] == "AES256"
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data
    assert (got["ContentLength"], got["ServerSideEncryption"]) == (size, "AES256")
    assert got["ETag"].strip('"') == hashlib.md5(data).hexdigest()
    assert "ChecksumCRC32" in got
    assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize("size", [20_000, 3 * CHUNK + 5])
def test_ranges_of_an_encrypted_body(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=data, **customer())
    for first, last in ((0, 0), (1, 5), (CHUNK - 1, CHUNK), (CHUNK, 2 * CHUNK - 1), (size - 1, size - 1), (7, size)):
        if first < size:
            got = body_of(s3, bucket, "k", Range=f"bytes={first}-{last}", **customer())
            assert got == data[first : last + 1]
    assert body_of(s3, bucket, "k", Range="bytes=-10", **customer()) == data[-10:]


def test_the_etag_under_a_key_of_the_client_tells_nothing_of_the_body(s3: Any, bucket: str) -> None:
    tags = {s3.put_object(Bucket=bucket, Key="k", Body=b"same", **customer())["ETag"] for _ in range(3)}
    assert len(tags) == 3 and f'"{hashlib.md5(b"same").hexdigest()}"' not in tags


@pytest.mark.parametrize("call", ["get_object", "head_object"])
def test_who_lacks_the_key_gets_nothing(s3: Any, bucket: str, call: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"secret", **customer())
    for args, status in (({}, 400), (customer(OTHER), 403)):
        with pytest.raises(ClientError) as error:
            getattr(s3, call)(Bucket=bucket, Key="k", **args)
        assert code_of(error)[0] == status


def test_a_key_for_what_is_not_encrypted_with_one_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="plain", Body=b"x")
    s3.put_object(Bucket=bucket, Key="ours", Body=b"x", ServerSideEncryption="AES256")
    for key in ("plain", "ours"):
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=bucket, Key=key, **customer())
        assert code_of(error) == (400, "InvalidRequest")


_P = "x-amz-server-side-encryption"
_C = _P + "-customer-"
_K = base64.b64encode(KEY).decode()
_MD5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({_C + "algorithm": "AES256"}, 400, "InvalidArgument"),
        ({_C + "algorithm": "AES256", _C + "key": _K}, 400, "InvalidArgument"),
        ({_C + "key": _K, _C + "key-md5": _MD5}, 400, "InvalidArgument"),
        ({_C + "key-md5": _MD5}, 400, "InvalidArgument"),
        ({_C + "algorithm": "AES256", _C + "key": _K, _C + "key-md5": "A" * 22 + "=="}, 400, "InvalidArgument"),
        ({_C + "algorithm": "AES256", _C + "key": "c2hvcnQ=", _C + "key-md5": _MD5}, 400, "InvalidArgument"),
        ({_C + "algorithm": "AES256", _C + "key": "%%", _C + "key-md5": "%%"}, 400, "InvalidArgument"),
        (
            {_C + "algorithm": "AES128", _C + "key": _K, _C + "key-md5": _MD5},
            400,
            "InvalidEncryptionAlgorithmError",
        ),
        (
            {_P: "AES256", _C + "algorithm": "AES256", _C + "key": _K, _C + "key-md5": _MD5},
            400,
            "InvalidArgument",
        ),
        ({_P: "aes-256"}, 400, "InvalidArgument"),
        ({_P: "aws:kms"}, 501, "NotImplemented"),
        ({_P + "-aws-kms-key-id": "testkey-2"}, 400, "InvalidArgument"),
        ({_P: "AES256", _P + "-aws-kms-key-id": "testkey-2"}, 400, "InvalidArgument"),
    ],
)
def test_what_is_not_well_formed_is_refused(
    wire: Wire, bucket: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = wire.request("PUT", f"/{bucket}/k", b"data", **headers)
    assert (answer.status, answer.code) == (status, code), answer.body


def test_reads_may_not_name_a_method(wire: Wire, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256")
    assert wire.request("GET", f"/{bucket}/k", b"", **{_P: "AES256"}).status == 400


def upload(s3: Any, bucket: str, parts: list[bytes], part_args: dict[str, Any], **create: Any) -> Any:
    created = s3.create_multipart_upload(Bucket=bucket, Key="m", **create)
    target = {"Bucket": bucket, "Key": "m", "UploadId": created["UploadId"]}
    done = [
        {"PartNumber": n, "ETag": s3.upload_part(**target, PartNumber=n, Body=part, **part_args)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]
    return s3.complete_multipart_upload(**target, MultipartUpload={"Parts": done})


@pytest.mark.parametrize("mine", [True, False])
def test_multipart(s3: Any, bucket: str, mine: bool) -> None:
    parts = [os.urandom(5 * MIB + 3), os.urandom(5 * MIB), os.urandom(70_000)]
    args: dict[str, Any] = customer() if mine else {}
    done = upload(s3, bucket, parts, args, **(args or {"ServerSideEncryption": "AES256"}))
    whole = b"".join(parts)
    assert done["ETag"].endswith('-3"') and done.get("ServerSideEncryption") == (None if mine else "AES256")
    assert body_of(s3, bucket, "m", **args) == whole
    start = 5 * MIB - 100
    assert body_of(s3, bucket, "m", Range=f"bytes={start}-{10 * MIB + 50}", **args) == whole[start : 10 * MIB + 51]
    for number, part in enumerate(parts, 1):
        got = s3.get_object(Bucket=bucket, Key="m", PartNumber=number, **args)
        assert got["Body"].read() == part and got["PartsCount"] == 3
    if not mine:
        joint = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        assert done["ETag"] == f'"{joint}-3"'


@pytest.mark.parametrize("args", [{}, customer(OTHER)])
def test_a_part_without_the_key_of_its_upload_is_refused(s3: Any, bucket: str, args: dict[str, Any]) -> None:
    created = s3.create_multipart_upload(Bucket=bucket, Key="m", **customer())
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="m", UploadId=created["UploadId"], PartNumber=1, Body=b"x", **args)
    assert code_of(error) == (400, "InvalidRequest")


def test_a_part_with_a_key_for_an_upload_without_is_refused(s3: Any, bucket: str) -> None:
    created = s3.create_multipart_upload(Bucket=bucket, Key="m")
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="m", UploadId=created["UploadId"], PartNumber=1, Body=b"x", **customer())
    assert code_of(error) == (400, "InvalidRequest")


_MODES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # to write, to read, as a source
    "plain": ({}, {}, {}),
    "S3": ({"ServerSideEncryption": "AES256"}, {}, {}),
    "C": (customer(), customer(), SOURCE),
}


@pytest.mark.parametrize("source", _MODES)
@pytest.mark.parametrize("target", _MODES)
@pytest.mark.parametrize("size", [1000, 2 * MIB])
def test_copies_from_any_to_any(s3: Any, bucket: str, source: str, target: str, size: int) -> None:
    data = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="from", Body=data, **_MODES[source][0])
    copied = s3.copy_object(
        Bucket=bucket, Key="to", CopySource=f"{bucket}/from", **_MODES[source][2], **_MODES[target][0]
    )
    assert copied.get("ServerSideEncryption") == ("AES256" if target == "S3" else None)
    assert body_of(s3, bucket, "to", **_MODES[target][1]) == data
    if source == "C":
        with pytest.raises(ClientError) as error:
            s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from")
        assert code_of(error)[0] == 400


def test_a_part_is_copied_from_encrypted_to_encrypted(s3: Any, bucket: str) -> None:
    data = os.urandom(MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=data, **customer())
    created = s3.create_multipart_upload(Bucket=bucket, Key="m", **customer(OTHER))
    target = {"Bucket": bucket, "Key": "m", "UploadId": created["UploadId"]}
    part = s3.upload_part_copy(
        **target,
        PartNumber=1,
        CopySource=f"{bucket}/from",
        CopySourceRange="bytes=70000-900000",
        **SOURCE,
        **customer(OTHER),
    )
    assert part["SSECustomerAlgorithm"] == "AES256"
    parts = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **customer(OTHER))
    assert body_of(s3, bucket, "m", **customer(OTHER)) == data[70_000:900_001]


def test_an_object_is_encrypted_in_place_by_a_copy_to_itself(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/k", ServerSideEncryption="AES256")
    assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


def default(algorithm: str = "AES256", **more: Any) -> dict[str, Any]:
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}, **more}]}


def test_the_default_of_a_bucket(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_bucket_encryption(Bucket=bucket)
    assert code_of(error) == (404, "ServerSideEncryptionConfigurationNotFoundError")
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=default(BucketKeyEnabled=False))
    found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert found == default(BucketKeyEnabled=False)
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)["ServerSideEncryption"] == "AES256"
    assert body_of(s3, bucket, "k") == b"x" * 100_000
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="c", Body=b"x", **customer())
    upload(s3, bucket, [b"part"], {})
    assert s3.head_object(Bucket=bucket, Key="m")["ServerSideEncryption"] == "AES256"
    s3.delete_bucket_encryption(Bucket=bucket)
    with pytest.raises(ClientError):
        s3.get_bucket_encryption(Bucket=bucket)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="p", Body=b"x")
    assert body_of(s3, bucket, "k") == b"x" * 100_000


def test_a_bucket_can_refuse_keys_of_clients(s3: Any, bucket: str, wire: Wire) -> None:
    rule = "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>"
    body = f"<ServerSideEncryptionConfiguration><Rule>{rule}</Rule></ServerSideEncryptionConfiguration>"
    assert wire.request("PUT", f"/{bucket}?encryption", body=body.encode()).status == 200
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="c", Body=b"x", **customer())
    assert code_of(error) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("inner", "status"),
    [
        ("", 400),
        ("<Rule></Rule>", 400),
        ("<Rule><Other/></Rule>", 400),
        ("<Rule><ApplyServerSideEncryptionByDefault/></Rule>", 400),
        (
            "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>"
            "</ApplyServerSideEncryptionByDefault></Rule>",
            501,
        ),
    ],
)
def test_a_default_that_cannot_be_is_refused(wire: Wire, bucket: str, inner: str, status: int) -> None:
    body = f"<ServerSideEncryptionConfiguration>{inner}</ServerSideEncryptionConfiguration>".encode()
    assert wire.request("PUT", f"/{bucket}?encryption", body=body).status == status
