"""A bucket that is full, as clients see it: 403 QuotaExceeded for what adds, and deletes that work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from objstore.cluster.usage import Measured
from objstore.model import bucketconfig
from objstore.model.ids import BucketId
from objstore.model.quota import BucketQuota
from objstore.model.usage import Use
from tests.s3.conftest import Endpoint, make_client
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Wire

MIB = 1 << 20


class Board:
    async def measured(self, bucket: BucketId) -> Measured:
        return Measured(Use(), 1)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """With a bucket "full" that holds 9 of 10 MiB, and 2 of 4 objects."""
    engine = MemoryEngine(Board())
    with local_gateway(engine) as gateway:
        endpoint = Endpoint(gateway.url, ACCESS_KEY, SECRET_KEY)
        client = make_client(endpoint)
        client.create_bucket(Bucket="full")
        setting = engine.configure_bucket("full", lambda it: bucketconfig.with_(it, BucketQuota(10 * MIB, 4)))
        asyncio.run_coroutine_threadsafe(setting, gateway.loop).result(10)
        client.put_object(Bucket="full", Key="a", Body=bytes(6 * MIB))
        client.put_object(Bucket="full", Key="c", Body=bytes(3 * MIB))
        client.close()
        yield endpoint


@pytest.fixture
def s3(endpoint: Endpoint) -> Iterator[Any]:
    client = make_client(endpoint)
    yield client
    client.close()


def test_all_that_adds_is_refused(s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket="full", Key="m")["UploadId"]
    part = {"Bucket": "full", "Key": "m", "UploadId": upload, "PartNumber": 1}
    attempts = {
        "put": lambda: s3.put_object(Bucket="full", Key="d", Body=bytes(2 * MIB)),
        "copy": lambda: s3.copy_object(Bucket="full", Key="d", CopySource="full/c"),
        "part": lambda: s3.upload_part(Body=bytes(2 * MIB), **part),
        "part copy": lambda: s3.upload_part_copy(CopySource="full/c", **part),
    }
    for name, attempt in attempts.items():
        assert error_code(attempt) == "QuotaExceeded", name
    s3.upload_part(Body=bytes(MIB), **part)
    assert error_code(s3.put_object, Bucket="full", Key="d", Body=b"x") == "QuotaExceeded"
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="full")["Contents"]] == ["a", "c"]


def test_the_message_says_how_much_of_what_and_what_to_do(s3: Any) -> None:
    with pytest.raises(s3.exceptions.ClientError) as caught:
        s3.put_object(Bucket="full", Key="d", Body=bytes(2 * MIB))
    text = caught.value.response["Error"]["Message"]
    assert f"{9 * MIB} of the {10 * MIB} bytes" in text and f"would add {2 * MIB}" in text
    assert "objstore bucket quota full" in text


def test_what_takes_no_room_goes_on(s3: Any) -> None:
    s3.put_object(Bucket="full", Key="a", Body=bytes(7 * MIB))
    s3.put_object_tagging(Bucket="full", Key="a", Tagging={"TagSet": [{"Key": "x", "Value": "y"}]})
    s3.get_object(Bucket="full", Key="a")["Body"].read()
    assert not s3.delete_objects(Bucket="full", Delete={"Objects": [{"Key": "a"}, {"Key": "nothing"}]}).get("Errors")
    s3.put_object(Bucket="full", Key="d", Body=bytes(2 * MIB))
    s3.delete_object(Bucket="full", Key="c")


def test_the_body_of_what_is_refused_is_not_waited_for(endpoint: Endpoint) -> None:
    with Wire.to(endpoint.url, endpoint.access_key, endpoint.secret_key) as wire:
        announced = {"content-length": str(2 * MIB), "expect": "100-continue"}
        head, _ = wire.head("PUT", "/full/d", announced, "UNSIGNED-PAYLOAD")
        wire.send(head)
        answer = wire.answer("PUT")
        assert (answer.status, answer.code) == (403, "QuotaExceeded")
