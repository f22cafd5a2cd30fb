"""The notification configuration of a bucket, and events from S3 requests to a webhook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError

from objstore.adapters.clock import SystemClock
from objstore.notify.courier import Courier
from objstore.notify.sender import Sender, Target
from tests.s3.conftest import Endpoint, make_client
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine
from tests.s3.webhook import Webhook, webhook

ARN = "arn:objstore:webhook::hook"
DEAD = "arn:objstore:webhook::dead"
CREATED = ["s3:ObjectCreated:*"]


class Hooked:
    """A gateway whose engine tells a webhook."""

    def __init__(self, s3: Any, hook: Webhook, loop: asyncio.AbstractEventLoop) -> None:
        self.s3 = s3
        self.hook = hook
        self._loop = loop

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        return asyncio.run_coroutine_threadsafe(self.hook.wait_for(count), self._loop).result(30)


@pytest.fixture(scope="module")
def hooked() -> Iterator[Hooked]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="webhook", daemon=True)
    thread.start()
    opened: Future[Webhook] = Future()
    done = asyncio.Event()

    async def serve() -> None:
        async with webhook() as hook:
            opened.set_result(hook)
            await done.wait()

    serving = asyncio.run_coroutine_threadsafe(serve(), loop)
    hook = opened.result(10)
    engine = MemoryEngine()
    targets = {"hook": Target(hook.url), "dead": Target("http://127.0.0.1:1/")}
    sender = Sender(targets, REGION, SystemClock())
    courier = Courier(engine.registers, sender)
    engine.on_event(courier.hear)
    try:
        with local_gateway(engine, settings(notify=sender)) as gateway:
            client = make_client(Endpoint(gateway.url, ACCESS_KEY, SECRET_KEY))
            yield Hooked(client, hook, loop)
            client.close()
            for closing in (courier.close(), sender.close()):
                asyncio.run_coroutine_threadsafe(closing, gateway.loop).result(10)
    finally:
        loop.call_soon_threadsafe(done.set)
        serving.result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def fresh(hooked: Hooked, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket without anything."""
    name = request.node.name.replace("_", "-").split("[")[0][:60].strip("-")
    hooked.s3.create_bucket(Bucket=name)
    hooked.hook.taken.clear()
    yield name


def put(hooked: Hooked, bucket: str, *rules: dict[str, Any], kind: str = "Queue", **options: Any) -> None:
    configuration = {f"{'LambdaFunction' if kind == 'Lambda' else kind}Configurations": list(rules)}
    hooked.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration, **options)


def rule(arn: str = ARN, events: list[str] = CREATED, id: str = "", **filters: str) -> dict[str, Any]:
    found: dict[str, Any] = {"QueueArn": arn, "Events": events}
    if id:
        found["Id"] = id
    if filters:
        found["Filter"] = {"Key": {"FilterRules": [{"Name": n, "Value": v} for n, v in filters.items()]}}
    return found


def refusal(hooked: Hooked, bucket: str, *rules: dict[str, Any], **options: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        put(hooked, bucket, *rules, **options)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_configuration_is_kept_shown_replaced_and_taken_away(hooked: Hooked, fresh: str) -> None:
    def shown() -> dict[str, Any]:
        found = hooked.s3.get_bucket_notification_configuration(Bucket=fresh)
        del found["ResponseMetadata"]
        return dict(found)

    assert shown() == {}
    put(hooked, fresh, rule(id="one", prefix="in/", suffix=".jpg"), rule(events=["s3:ObjectRemoved:Delete"]))
    one, two = shown()["QueueConfigurations"]
    assert (one["Id"], one["QueueArn"], one["Events"]) == ("one", ARN, CREATED)
    assert one["Filter"]["Key"]["FilterRules"] == [
        {"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".jpg"},
    ]  # fmt: skip
    assert two["Id"] and "Filter" not in two
    topic = {"TopicArn": ARN, "Events": ["s3:ObjectCreated:Put"], "Id": "t"}
    put(hooked, fresh, topic, kind="Topic")
    assert shown() == {"TopicConfigurations": [topic]}
    function = {"LambdaFunctionArn": ARN, "Events": ["s3:ObjectTagging:*"], "Id": "f"}
    put(hooked, fresh, function, kind="Lambda")
    assert shown() == {"LambdaFunctionConfigurations": [function]}
    hooked.s3.put_bucket_notification_configuration(Bucket=fresh, NotificationConfiguration={})
    assert shown() == {}
    assert error_code(hooked.s3.get_bucket_notification_configuration, Bucket="none-of-that-name") == "NoSuchBucket"


def test_a_target_is_tried_before_it_is_taken(hooked: Hooked, fresh: str) -> None:
    put(hooked, fresh, rule(), rule(events=["s3:ObjectRemoved:*"]))
    (test,) = hooked.hook.taken
    assert (test["Service"], test["Event"], test["Bucket"]) == ("Amazon S3", "s3:TestEvent", fresh)
    assert test["RequestId"]
    code, text = refusal(hooked, fresh, rule(DEAD))
    assert code == "InvalidArgument" and text.startswith("Unable to validate")
    assert refusal(hooked, fresh, rule("arn:objstore:webhook::unknown")) == (code, text)
    with pytest.raises(ClientError) as caught:
        put(hooked, fresh, rule("arn:objstore:webhook::unknown"))
    error = caught.value.response["Error"]
    assert error["ArgumentName1"] == "arn:objstore:webhook::unknown"
    assert error["ArgumentValue1"] == "The destination queue does not exist"
    assert hooked.s3.get_bucket_notification_configuration(Bucket=fresh)["QueueConfigurations"][0]["QueueArn"] == ARN
    put(hooked, fresh, rule(DEAD), SkipDestinationValidation=True)
    assert hooked.s3.get_bucket_notification_configuration(Bucket=fresh)["QueueConfigurations"][0]["QueueArn"] == DEAD


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([rule("arn:aws:sqs:us-east-1:1:q")], "could not be parsed"),
        ([rule("hook")], "could not be parsed"),
        ([rule(events=["s3:ObjectEaten:*"])], "not supported"),
        ([rule(events=["ObjectCreated:Put"])], "not supported"),
        ([rule(id="a"), rule(id="a", events=["s3:ObjectRemoved:*"])], "unique"),
        ([rule(), rule(events=["s3:ObjectCreated:Put"])], "share a common event"),
        ([rule(prefix="a"), rule(prefix="ab", suffix="z")], "ambiguously"),
        ([rule(suffix="jpg"), rule(suffix=".jpg")], "ambiguously"),
        ([rule(infix="x")], "prefix or suffix"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    hooked: Hooked, fresh: str, rules: list[dict[str, Any]], words: str
) -> None:
    code, text = refusal(hooked, fresh, *rules)
    assert code == "InvalidArgument" and words in text
    hooked.s3.delete_bucket(Bucket=fresh)


def test_rules_that_do_not_meet_are_taken(hooked: Hooked, fresh: str) -> None:
    put(hooked, fresh, rule(prefix="a/"), rule(prefix="b/"), rule(events=["s3:ObjectRemoved:*"], prefix="a/"))
    put(hooked, fresh, rule(prefix="a", suffix=".png"), rule(prefix="a", suffix=".jpg"))


def test_every_way_to_write_is_told_as_what_it_was(hooked: Hooked, fresh: str) -> None:
    s3 = hooked.s3
    put(hooked, fresh, rule(events=[*CREATED, "s3:ObjectRemoved:*", "s3:ObjectTagging:*"], id="all"))
    hooked.hook.taken.clear()
    answer = s3.put_object(Bucket=fresh, Key="k", Body=b"12")
    s3.put_object_tagging(Bucket=fresh, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_object_tagging(Bucket=fresh, Key="k")
    s3.copy_object(Bucket=fresh, Key="k", CopySource={"Bucket": fresh, "Key": "k"}, MetadataDirective="REPLACE")
    upload = s3.create_multipart_upload(Bucket=fresh, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=fresh, Key="k", UploadId=upload, PartNumber=1, Body=b"345")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    for _ in range(2):
        s3.complete_multipart_upload(Bucket=fresh, Key="k", UploadId=upload, MultipartUpload=parts)
    s3.delete_objects(Bucket=fresh, Delete={"Objects": [{"Key": "k"}]})
    found = hooked.wait_for(6)
    assert [record["eventName"] for record in found] == [
        "ObjectCreated:Put",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectRemoved:Delete",
    ]
    assert [record["eventVersion"] for record in found] == ["2.1", "2.3", "2.3", "2.1", "2.1", "2.1"]
    assert set(found[1]["s3"]["object"]) == {"key", "eTag", "sequencer"}
    first = found[0]
    assert first["s3"]["configurationId"] == "all"
    assert first["s3"]["object"]["eTag"] == answer["ETag"].strip('"')
    assert first["requestParameters"] == {"sourceIPAddress": "127.0.0.1"}
    assert first["userIdentity"] == {"principalId": ACCESS_KEY}
    assert first["responseElements"]["x-amz-request-id"] == answer["ResponseMetadata"]["RequestId"]


def test_a_form_is_told_of_as_a_post_by_whom_has_signed_it(hooked: Hooked, fresh: str) -> None:
    put(hooked, fresh, rule())
    hooked.hook.taken.clear()
    endpoint = Endpoint(hooked.s3.meta.endpoint_url, ACCESS_KEY, SECRET_KEY)
    form = make_client(endpoint, signature_version="s3v4").generate_presigned_post(fresh, "posted")
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", form["url"], fields={**form["fields"], "file": ("f", b"123")})
    assert answer.status == 204, answer.data
    (record,) = hooked.wait_for(1)
    assert (record["eventName"], record["userIdentity"]["principalId"]) == ("ObjectCreated:Post", ACCESS_KEY)
