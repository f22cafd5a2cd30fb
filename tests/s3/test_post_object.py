"""Uploads by the forms of browsers: as boto3 presigns them, and as those who did not sign them would like them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config

from gateway.handlers.post_object import HELD_BYTES_MAX
from gateway.s3.canonical import signing_key
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, LocalGateway, local_gateway
from tests.s3.memory_engine import MemoryEngine

BOUNDARY = "----a boundary 7"
FORM_TYPE = f'multipart/form-data; boundary="{BOUNDARY}"'


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return ElementTree.fromstring(self.body).findtext("Code", "") if self.status >= 400 else ""

    @property
    def message(self) -> str:
        return ElementTree.fromstring(self.body).findtext("Message", "")


class World(NamedTuple):
    gateway: LocalGateway
    s3: Any
    engine: MemoryEngine

    def send(
        self, body: bytes, content_type: str = f'multipart/form-data; boundary="{BOUNDARY}"', **more: Any
    ) -> Answer:
        connection = http.client.HTTPConnection(self.gateway.host, self.gateway.port, timeout=10)
        connection.request("POST", "/photos", body, {"Content-Type": content_type, **more.pop("headers", {})}, **more)
        answer = connection.getresponse()
        found = Answer(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return found

    def post(self, fields: Mapping[str, str], data: bytes | None = b"body", **more: str) -> Answer:
        return self.send(form(fields, data, **more))

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket="photos", Key=key)["Body"].read())


@pytest.fixture
def world() -> Iterator[World]:
    engine = MemoryEngine()
    with local_gateway(engine) as gateway:
        s3 = boto3.client(
            "s3", endpoint_url=gateway.url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            region_name=REGION, config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )  # fmt: skip
        s3.create_bucket(Bucket="photos")
        yield World(gateway, s3, engine)


def form(fields: Mapping[str, str], data: bytes | None, *, filename: str = "cat.jpg", after: str = "") -> bytes:
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    raw = "".join(parts).encode()
    if data is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: image/jpeg'
        raw += f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    if after:
        raw += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{after}"\r\n\r\nx\r\n'.encode()
    return raw + f"--{BOUNDARY}--\r\n".encode()


def signed(conditions: Any, fields: Mapping[str, str], *, lives_s: float = 600.0, raw: Any = None) -> dict[str, str]:
    """With a policy of these conditions and of those that a signature needs."""
    now = datetime.now(UTC)
    date = now.strftime("%Y%m%dT%H%M%SZ")
    credential = f"{ACCESS_KEY}/{date[:8]}/{REGION}/s3/aws4_request"
    own = {"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": credential, "x-amz-date": date}
    expiration = (now + timedelta(seconds=lives_s)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    document = {"expiration": expiration, "conditions": [*conditions, *({n: v} for n, v in own.items())]}
    policy = base64.b64encode(json.dumps(document if raw is None else raw).encode()).decode()
    return {**fields, **own, "policy": policy, "x-amz-signature": sign(policy, date)}


def sign(policy: str, date: str) -> str:
    return hmac.digest(signing_key(SECRET_KEY, date[:8], REGION), policy.encode(), "sha256").hex()


USUAL = [{"bucket": "photos"}, ["starts-with", "$key", ""]]


@pytest.mark.parametrize("size", [0, 1, 4, 70_000, HELD_BYTES_MAX - 500, HELD_BYTES_MAX, 3 * HELD_BYTES_MAX + 11])
def test_what_boto3_presigns_is_stored(world: World, size: int) -> None:
    made = world.s3.generate_presigned_post(
        "photos", "a/${filename}", Fields={"x-amz-meta-by": "me", "acl": "private"},
        Conditions=[{"x-amz-meta-by": "me"}, {"acl": "private"}, ["content-length-range", 0, 10**9]],
    )  # fmt: skip
    data = bytes(range(256)) * (size // 256) + b"\r\n--" + b"-" * 300
    data = data[:size]
    found = world.post(made["fields"], data)
    assert (found.status, found.body) == (204, b""), found
    head = world.s3.head_object(Bucket="photos", Key="a/cat.jpg")
    assert (head["ContentType"], head["Metadata"], head["ETag"]) == ("image/jpeg", {"by": "me"}, found.headers["ETag"])
    assert world.get("a/cat.jpg") == data


@pytest.mark.parametrize(("asked", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)])
def test_the_status_that_was_asked_for(world: World, asked: str, status: int) -> None:
    fields = {"key": "k ä", **({"success_action_status": asked} if asked else {})}
    found = world.post(signed([*USUAL, ["eq", "$success_action_status", asked]], fields))
    assert found.status == status and found.headers["Location"].endswith("/photos/k%20%C3%A4")
    if status == 201:
        root = ElementTree.fromstring(found.body)
        assert root.tag == "PostResponse"
        assert [child.tag for child in root] == ["Location", "Bucket", "Key", "ETag"]
        assert (root.findtext("Key"), root.findtext("ETag")) == ("k ä", found.headers["ETag"])
    else:
        assert found.body == b""


def test_a_page_to_go_to(world: World) -> None:
    fields = {"key": "k&1", "success_action_redirect": "http://here/page?a=b"}
    found = world.post(signed([*USUAL, ["starts-with", "$success_action_redirect", "http://here"]], fields))
    where = urlsplit(found.headers["Location"])
    assert found.status == 303 and (where.netloc, where.path) == ("here", "/page")
    assert parse_qs(where.query) == {"a": ["b"], "bucket": ["photos"], "key": ["k&1"], "etag": [found.headers["ETag"]]}


@pytest.mark.parametrize(
    ("conditions", "fields", "code", "said"),
    [
        ([["starts-with", "$key", ""]], {}, "AccessDenied", "Extra input fields: bucket"),
        ([{"bucket": "other"}, ["starts-with", "$key", ""]], {}, "AccessDenied", "Policy Condition failed"),
        (USUAL, {"x-amz-meta-more": "1"}, "AccessDenied", "Extra input fields: x-amz-meta-more"),
        ([*USUAL, {"x-amz-meta-must": "1"}], {}, "AccessDenied", "x-amz-meta-must"),
        ([{"bucket": "photos"}, ["starts-with", "$key", "mine/"]], {"key": "yours/k"}, "AccessDenied", "$key"),
        ([*USUAL, ["content-length-range", 5, 10]], {}, "EntityTooSmall", "smaller"),
        ([*USUAL, ["content-length-range", 0, 3]], {}, "EntityTooLarge", "exceeds"),
        ([*USUAL, ["content-length-range", 0]], {}, "InvalidPolicyDocument", "two numbers"),
        ([*USUAL, ["content-length-range", -1, 0]], {}, "InvalidPolicyDocument", "in order"),
        ([*USUAL, {}], {}, "InvalidPolicyDocument", "exactly one property"),
        ([*USUAL, ["matches", "$key", ""]], {}, "InvalidPolicyDocument", "Invalid condition"),
        ([*USUAL, {"x-amz-frob": "1"}], {"x-amz-frob": "1"}, "NotImplemented", "x-amz-frob"),
        *(
            ([*USUAL, ["starts-with", f"${name}", ""]], {name: value}, code, said)
            for name, value, code, said in (
                ("x-amz-write-offset-bytes", "4", "NotImplemented", "x-amz-write-offset-bytes"),
                ("x-amz-content-sha256", "0" * 64, "NotImplemented", "x-amz-content-sha256"),
                ("x-amz-copy-source", "photos/k", "NotImplemented", "x-amz-copy-source"),
                ("x-amz-expected-bucket-owner", "somebody", "AccessDenied", "not owned"),
                ("if-match", '"abc"', "NoSuchKey", ""),
                ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest", ""),
            )
        ),
    ],
)  # fmt: skip
def test_what_the_policy_does_not_allow(world: World, conditions: Any, fields: Any, code: str, said: str) -> None:
    found = world.post(signed(conditions, {"key": "k", **fields}))
    assert (found.code, said in found.message) == (code, True), found
    assert "Contents" not in world.s3.list_objects_v2(Bucket="photos") and not world.engine.stored


def test_what_a_policy_allows_whatever_its_case(world: World) -> None:
    conditions = [{"BUCKET": "photos"}, ["StArTs-WiTh", "$KeY", "\\$k"], ["eq", "$x-AMZ-meta-a", "1"]]
    fields = signed(conditions, {"kEy": "\\$k", "X-Amz-Meta-A": "1", "x-ignore-me": "?"})
    assert world.post(fields).status == 204
    for second, status in (("image/b", 204), ("text/b", 403)):
        fields = {"key": "k", "Content-Type": f"image/a, {second}"}
        assert world.post(signed([*USUAL, ["starts-with", "$Content-Type", "image/"]], fields)).status == status


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"conditions": USUAL}, "missing expiration"),
        ({"EXPIRATION": "2100-01-01T00:00:00Z", "conditions": USUAL}, "missing expiration"),
        ({"expiration": "2100-01-01T00:00:00Z"}, "missing conditions"),
        ({"expiration": "next year", "conditions": USUAL}, "next year"),
        ({"expiration": "2100-01-01T00:00:00", "conditions": USUAL}, "2100"),
        ({"expiration": "2100-01-01 00:00:00+00:00", "conditions": USUAL}, "2100"),
        ({"expiration": "2100-13-01T00:00:00Z", "conditions": USUAL}, "2100"),
        ({"expiration": 4102444800, "conditions": USUAL}, "4102444800"),
        ([], "Invalid JSON"),
    ],
)
def test_policies_that_are_none(world: World, raw: Any, said: str) -> None:
    found = world.post(signed([], {"key": "k"}, raw=raw))
    assert (found.status, found.code) == (400, "InvalidPolicyDocument") and said in found.message


def test_a_policy_that_has_expired(world: World) -> None:
    found = world.post(signed(USUAL, {"key": "k"}, lives_s=-1))
    assert (found.status, found.message) == (403, "Invalid according to Policy: Policy expired.")


def test_who_signs_and_who_does_not(world: World) -> None:
    good = signed(USUAL, {"key": "k"})
    changed = {**good, "policy": good["policy"][:-4] + "AAAA"}
    assert world.post(changed).code == "SignatureDoesNotMatch"
    assert world.post({**good, "x-amz-signature": "0" * 64}).code == "SignatureDoesNotMatch"
    stranger = good["x-amz-credential"].replace(ACCESS_KEY, "AKIANOBODY")
    assert world.post({**good, "x-amz-credential": stranger}).code == "InvalidAccessKeyId"
    for name in ("policy", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "key"):
        left = {other: value for other, value in good.items() if other != name}
        assert world.post(left).code == "InvalidArgument", name
    other = {**good, "x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}
    assert "AWS4-HMAC-SHA256" in world.post(other).message
    assert world.post({**good, "x-amz-security-token": "t"}).code == "InvalidToken"
    assert world.post({"key": "k"}).code == "AccessDenied"  # nobody, and the bucket lets nobody in
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/open/*"}
    world.s3.put_bucket_policy(Bucket="photos", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    assert world.post({"key": "open/k"}).status == 204
    assert world.post({"key": "shut/k"}).code == "AccessDenied"
    deny = {**allow, "Effect": "Deny", "Resource": "arn:aws:s3:::photos/open/*"}
    world.s3.put_bucket_policy(Bucket="photos", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    assert world.post(signed(USUAL, {"key": "open/k"})).code == "AccessDenied"  # the one who signed may not either


def test_the_older_signature_of_a_form(world: World) -> None:
    document = {"expiration": "2100-01-01T00:00:00.000Z", "conditions": [*USUAL, {"acl": "private"}]}
    policy = base64.b64encode(json.dumps(document).encode()).decode()
    signature = base64.b64encode(hmac.digest(SECRET_KEY.encode(), policy.encode(), "sha1")).decode()
    good = {"key": "k", "AWSAccessKeyId": ACCESS_KEY, "acl": "private", "signature": signature, "policy": policy}
    assert world.post(good).status == 204 and world.get("k") == b"body"
    assert world.post({**good, "signature": signature[::-1]}).code == "SignatureDoesNotMatch"
    assert world.post({**good, "AWSAccessKeyId": "AKIANOBODY"}).code == "InvalidAccessKeyId"
    assert world.post({**good, "x-amz-meta-more": "1"}).code == "AccessDenied"
    fresh = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos/*",
             "Condition": {"NumericGreaterThan": {"s3:signatureAge": "60000"}}}  # fmt: skip
    world.s3.put_bucket_policy(Bucket="photos", Policy=json.dumps({"Version": "2012-10-17", "Statement": [fresh]}))
    assert world.post(good).status == 204, "it does not say how old it is"
    for name in ("signature", "AWSAccessKeyId", "policy"):
        left = {other: value for other, value in good.items() if other != name}
        assert world.post(left).code == "InvalidArgument", name


def test_an_object_that_is_there_is_not_overwritten_if_the_form_says_so(world: World) -> None:
    fields = {"key": "k", "if-none-match": "*"}
    once = signed([*USUAL, {"if-none-match": "*"}], fields)
    assert world.post(once).status == 204
    assert world.post(once, b"other").code == "PreconditionFailed" and world.get("k") == b"body"


def test_tags_checksums_and_encryption_are_those_of_a_put(world: World) -> None:
    tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>c+d</Value></Tag></TagSet></Tagging>"
    fields = {"key": "k", "tagging": tagging, "x-amz-checksum-crc32": "ELeG6A==", "cache-control": "no-store"}
    found = world.post(signed([*USUAL, *({name: value} for name, value in fields.items() if name != "key")], fields))
    assert found.code == "BadDigest"
    del fields["x-amz-checksum-crc32"]
    fields["x-amz-checksum-sha1"] = base64.b64encode(hashlib.sha1(b"body").digest()).decode()
    found = world.post(signed([*USUAL, *({name: value} for name, value in fields.items() if name != "key")], fields))
    assert found.status == 204 and found.headers["x-amz-checksum-sha1"] == fields["x-amz-checksum-sha1"]
    assert world.s3.get_object_tagging(Bucket="photos", Key="k")["TagSet"] == [{"Key": "a b", "Value": "c+d"}]
    assert world.s3.head_object(Bucket="photos", Key="k")["CacheControl"] == "no-store"


def test_forms_that_are_none(world: World) -> None:
    good = signed(USUAL, {"key": "k"})
    assert world.send(b"x", "text/plain").status == 412
    assert world.send(b"x", "multipart/form-data").status == 412
    assert world.post(good, None).code == "InvalidArgument"
    assert world.send(b"").code == "InvalidArgument"
    whole = form(good, b"body")
    for cut in (30, len(whole) // 2, whole.index(b"body") + 2, len(whole) - len(BOUNDARY) - 6):
        assert world.send(whole[:cut]).status == 400, cut
    assert world.send(whole.replace(b'name="key"', b'id="key"')).code == "MalformedPOSTRequest"
    assert (
        world.send(whole.replace(b"Content-Disposition: form-data", b"Content-Disposition: attachment")).status == 400
    )
    assert world.post({**good, "x-ignore-big": "x" * 21_000}).code == "MaxPostPreDataLengthExceededError"
    assert world.post({**good, "KEY": "again"}).code == "InvalidArgument"
    signed_head = {"Authorization": "AWS4-HMAC-SHA256 x"}
    assert world.send(whole, headers=signed_head).status in (400, 403)
    assert "Contents" not in world.s3.list_objects_v2(Bucket="photos") and not world.engine.stored


def test_fields_behind_the_file_are_not_looked_at_if_its_length_can_be_known(world: World) -> None:
    assert world.post(signed(USUAL, {"key": "k"}), b"small", after="submit").status == 204
    assert world.get("k") == b"small"
    big = b"x" * (HELD_BYTES_MAX + 5)
    refused = world.post(signed(USUAL, {"key": "big"}), big, after="submit")
    assert refused.code == "MalformedPOSTRequest" and "last field" in refused.message
    assert not world.engine.stored
    assert world.send(form(signed(USUAL, {"key": "big"}), big)[:-2]).code == "MalformedPOSTRequest"


def test_a_body_in_chunks_without_a_length(world: World) -> None:
    raw = form(signed(USUAL, {"key": "k"}), b"z" * 5000)
    pieces = [raw[at : at + 700] for at in range(0, len(raw), 700)]
    found = world.send(pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})  # type: ignore[arg-type]
    assert found.status == 204 and world.get("k") == b"z" * 5000
    raw = form(signed(USUAL, {"key": "k"}), b"z" * (HELD_BYTES_MAX + 1))
    found = world.send([raw], encode_chunked=True, headers={"Transfer-Encoding": "chunked"})  # type: ignore[arg-type]
    assert (found.status, found.code) == (411, "MissingContentLength")


def test_the_name_of_a_file_without_its_folders(world: World) -> None:
    for filename in (r"C:\pictures\cat.jpg", "/home/me/cat.jpg", "cat.jpg"):
        assert world.post(signed(USUAL, {"key": "by/${filename}"}), filename=filename).status == 204
    assert [one["Key"] for one in world.s3.list_objects_v2(Bucket="photos")["Contents"]] == ["by/cat.jpg"]
