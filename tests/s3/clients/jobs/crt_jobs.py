"""Transfers by the AWS Common Runtime, as aws-cli 2 makes them where that is its choice: run as `crt_jobs.py JOB`."""

from __future__ import annotations

import hashlib
import io
import os
import sys

import boto3
import botocore.session
from s3transfer import crt

BUCKET, URL = os.environ["BUCKET"], os.environ["AWS_ENDPOINT_URL"]
BODY = hashlib.shake_128(b"body").digest((21 << 20) + 5)


def transfer() -> None:
    """Many parts at once, each with a checksum in its trailer; many ranges at once."""
    session = botocore.session.get_session()
    credentials = crt.BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = crt.create_s3_crt_client(
        "us-east-1", crt_credentials_provider=credentials, use_ssl=URL.startswith("https"), part_size=5 << 20
    )
    requests = crt.BotocoreCRTRequestSerializer(session, {"region_name": "us-east-1", "endpoint_url": URL})
    s3 = boto3.client("s3")
    with crt.CRTTransferManager(client, requests) as manager:
        with open("up", "wb") as file:
            file.write(BODY)
        manager.upload("up", BUCKET, "ä/big").result()
        assert s3.head_object(Bucket=BUCKET, Key="ä/big")["ETag"].endswith('-5"')
        manager.download(BUCKET, "ä/big", "down").result()
        manager.upload(io.BytesIO(b"small"), BUCKET, "small").result()
        assert s3.get_object(Bucket=BUCKET, Key="small", ChecksumMode="ENABLED")["ChecksumCRC32"]
        manager.delete(BUCKET, "small").result()
    with open("down", "rb") as file:  # only the end of the manager waits until the file has its name
        assert file.read() == BODY
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    s3.close()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
