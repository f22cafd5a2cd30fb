"""What programs do with boto3: run as `boto3_jobs.py JOB`, with the version that is in the path."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = os.environ["BUCKET"]
PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
BODY = hashlib.shake_128(b"body").digest((11 << 20) + 5)


def client(**config: Any) -> Any:
    return boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, **config))


def refused(code: str, call: Any, **arguments: Any) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
    else:
        raise AssertionError(f"{call} was not refused with {code}")


def version() -> None:
    print(boto3.__version__)


def transfer() -> None:
    """upload_file and download_file in parts and in threads; a managed copy in parts."""
    s3 = client()
    with open("up", "wb") as file:
        file.write(BODY)
    s3.upload_file("up", BUCKET, "a/b", Config=PARTS, ExtraArgs={"Metadata": {"who": "me"}, "ContentType": "x/y"})
    head = s3.head_object(Bucket=BUCKET, Key="a/b")
    assert head["ETag"].endswith('-3"') and head["Metadata"] == {"who": "me"} and head["ContentType"] == "x/y", head
    s3.download_file(BUCKET, "a/b", "down", Config=PARTS)
    with open("down", "rb") as file:
        assert file.read() == BODY
    s3.copy({"Bucket": BUCKET, "Key": "a/b"}, BUCKET, "a/c", Config=PARTS)
    into = io.BytesIO()
    s3.download_fileobj(BUCKET, "a/c", into, Config=PARTS)
    assert into.getvalue() == BODY
    assert s3.get_object(Bucket=BUCKET, Key="a/c", Range="bytes=-7")["Body"].read() == BODY[-7:]


def payload_modes() -> None:
    """Each checksum with and without a signed payload, in one request and in parts."""
    for signing in (True, False):
        for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", None):
            if algorithm == "CRC64NVME" and boto3.__version__ < "1.36":
                continue  # not known then
            more = {"ChecksumAlgorithm": algorithm} if algorithm else {}
            modern = boto3.__version__ >= "1.36"
            policy = {"request_checksum_calculation": "when_supported" if algorithm else "when_required"}
            s3 = client(s3={"payload_signing_enabled": signing}, **(policy if modern else {}))
            key, small = f"{signing}/{algorithm}", BODY[:700_000]
            s3.put_object(Bucket=BUCKET, Key=key, Body=small, **more)
            answer = s3.get_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
            assert answer["Body"].read() == small
            assert not algorithm or answer.get(f"Checksum{algorithm}"), answer
            s3.upload_fileobj(io.BytesIO(BODY), BUCKET, f"{key}/parts", ExtraArgs=more, Config=PARTS)
            assert s3.get_object(Bucket=BUCKET, Key=f"{key}/parts", ChecksumMode="ENABLED")["Body"].read() == BODY


def presign() -> None:
    """A stranger with a URL may put, get and ask, and nothing else."""
    s3 = client(signature_version="s3v4")
    arguments = {"Bucket": BUCKET, "Key": "with space/ä"}

    def fetch(operation: str, method: str, body: bytes | None = None, **more: str) -> bytes:
        url = s3.generate_presigned_url(operation, Params={**arguments, **more}, ExpiresIn=60)
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method)) as answer:
            content: bytes = answer.read()
        return content

    fetch("put_object", "PUT", b"given")
    assert fetch("get_object", "GET", ResponseContentDisposition="attachment") == b"given"
    assert fetch("head_object", "HEAD") == b""
    url = s3.generate_presigned_url("get_object", Params=arguments, ExpiresIn=60)
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"))
    except urllib.error.HTTPError as error:
        assert error.code == 403, error
        error.close()
    else:
        raise AssertionError("a URL for GET deleted")


def post_form() -> None:
    """What a web page uploads with a form."""
    s3 = client(signature_version="s3v4")
    limits = [["content-length-range", 1, 1000]]
    post = s3.generate_presigned_post(BUCKET, "form/${filename}", Conditions=limits, ExpiresIn=60)

    def send(body: bytes) -> int:
        line = uuid.uuid4().hex
        fields = "".join(
            f'--{line}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in post["fields"].items()
        )
        file = f'--{line}\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
        form = (fields + file).encode() + body + f"\r\n--{line}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={line}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(post["url"], data=form, headers=kind)) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return int(error.code)

    assert send(b"from a form") == 204
    assert s3.get_object(Bucket=BUCKET, Key="form/f.txt")["Body"].read() == b"from a form"
    assert send(b"x" * 1001) == 400


def versions() -> None:
    """Undoing a deletion and an overwriting."""
    s3 = client()
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=BUCKET, Key="k", Body=b"first")["VersionId"]
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"second")
    marker = s3.delete_object(Bucket=BUCKET, Key="k")
    assert marker["DeleteMarker"]
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="k")
    s3.delete_object(Bucket=BUCKET, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"second"
    s3.copy_object(Bucket=BUCKET, Key="k", CopySource={"Bucket": BUCKET, "Key": "k", "VersionId": first})
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"first"
    assert len(s3.list_object_versions(Bucket=BUCKET, Prefix="k")["Versions"]) == 3


def listing() -> None:
    """Pages, folders, deleting many at once."""
    s3 = client()
    keys = [f"{letter}/{number}" for letter in "abc" for number in range(7)]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    for name in ("list_objects_v2", "list_objects"):
        pages = list(s3.get_paginator(name).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 4}))
        assert len(pages) == 6 and [entry["Key"] for page in pages for entry in page["Contents"]] == keys
    answer = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert [entry["Prefix"] for entry in answer["CommonPrefixes"]] == ["a/", "b/", "c/"]
    gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(gone["Deleted"]) == len(keys) and "Errors" not in gone
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def configuration() -> None:
    """Tags, policy, CORS, encryption, lock: set, asked for, removed; what was never set is said to be so."""
    s3 = client()
    refused("NoSuchTagSet", s3.get_bucket_tagging, Bucket=BUCKET)
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": "team", "Value": "ä"}]})
    assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == [{"Key": "team", "Value": "ä"}]
    s3.delete_bucket_tagging(Bucket=BUCKET)
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.com"], "MaxAgeSeconds": 5}
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rule]})
    assert s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"] == [rule]
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    assert json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"]) == policy
    s3.delete_bucket_policy(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"", Tagging="a=b&c=d")
    assert len(s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"]) == 2
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
    locked = f"{BUCKET}-lock"
    s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    held = s3.put_object(Bucket=locked, Key="k", Body=b"", ObjectLockLegalHoldStatus="ON")["VersionId"]
    refused("AccessDenied", s3.delete_object, Bucket=locked, Key="k", VersionId=held)


def conditional() -> None:
    """Only one of two may create; who has seen an older state may not overwrite."""
    s3 = client()
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*")
    if boto3.__version__ >= "1.36":
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"3", IfMatch=etag)
        refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="k", Body=b"4", IfMatch=etag)
    refused("304", s3.get_object, Bucket=BUCKET, Key="k", IfNoneMatch=s3.head_object(Bucket=BUCKET, Key="k")["ETag"])


def customer_keys() -> None:
    """SSE-C: in parts, in ranges, copied to another key; nothing without the key."""
    s3 = client()
    old, new = ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes([n]) * 32} for n in (1, 2))
    s3.upload_fileobj(io.BytesIO(BODY), BUCKET, "k", ExtraArgs=old, Config=PARTS)
    into = io.BytesIO()
    s3.download_fileobj(BUCKET, "k", into, ExtraArgs=old, Config=PARTS)
    assert into.getvalue() == BODY
    refused("400", s3.head_object, Bucket=BUCKET, Key="k")
    refused("InvalidRequest", s3.get_object, Bucket=BUCKET, Key="k")
    source = {f"CopySource{name}": value for name, value in old.items()}
    s3.copy_object(Bucket=BUCKET, Key="k2", CopySource={"Bucket": BUCKET, "Key": "k"}, **source, **new)
    answer = s3.get_object(Bucket=BUCKET, Key="k2", Range="bytes=6000000-6000009", **new)
    assert answer["Body"].read() == BODY[6000000:6000010] and answer["SSECustomerAlgorithm"] == "AES256"


if __name__ == "__main__":
    globals()[sys.argv[1]]()
