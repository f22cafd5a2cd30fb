"""Users, access keys, policies: who may do what, seen by boto3 through a gateway."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.engine.identities import Identities
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine

ARN = "arn:aws:s3:::"


class World(NamedTuple):
    url: str
    root: Any
    identities: Identities

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def client(self, access_key: str, secret: str) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=access_key, aws_secret_access_key=secret, region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )  # fmt: skip

    def user(self, name: str, *policies: str) -> Any:
        self.run(self.identities.create_user(name))
        for policy in policies:
            self.run(self.identities.attach(name, policy))
        key, secret = self.run(self.identities.create_key(name))
        return self.client(key.id, secret)

    def anonymous(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        connection.request(method, quote(path, safe="/?=&"), body)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found


@pytest.fixture
def world() -> Iterator[World]:
    engine = MemoryEngine()
    identities = Identities(engine.registers, SystemClock(), SystemRandom(), b"the secret of a cluster")
    with local_gateway(engine, settings(identities=identities)) as gateway:
        made = World(gateway.url, None, identities)
        made = made._replace(root=made.client(ACCESS_KEY, SECRET_KEY))
        made.root.create_bucket(Bucket="mine")
        made.root.put_object(Bucket="mine", Key="a/x", Body=b"x", Tagging="kind=open")
        made.root.put_object(Bucket="mine", Key="b/y", Body=b"y")
        yield made


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def test_a_user_may_do_nothing_until_a_policy_allows_it(world: World) -> None:
    user = world.user("eve")
    for call, arguments in (
        (user.list_buckets, {}),
        (user.list_objects_v2, {"Bucket": "mine"}),
        (user.get_object, {"Bucket": "mine", "Key": "a/x"}),
        (user.put_object, {"Bucket": "mine", "Key": "new", "Body": b""}),
        (user.delete_object, {"Bucket": "mine", "Key": "a/x"}),
        (user.create_bucket, {"Bucket": "hers"}),
        (user.get_bucket_policy, {"Bucket": "mine"}),
    ):
        assert error_code(call, **arguments) == "AccessDenied"
    with pytest.raises(ClientError, match=r"user/eve is not authorized to perform: s3:GetObject on resource: .*:mine/"):
        user.get_object(Bucket="mine", Key="a/x")


def test_built_in_policies(world: World) -> None:
    reader, writer, both = (world.user(name, name) for name in ("readonly", "writeonly", "readwrite"))
    admin = world.user("boss", "admin")
    assert reader.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"
    assert reader.list_objects_v2(Bucket="mine")["KeyCount"] == 2
    assert error_code(reader.put_object, Bucket="mine", Key="n", Body=b"") == "AccessDenied"
    writer.put_object(Bucket="mine", Key="n", Body=b"n")
    assert error_code(writer.get_object, Bucket="mine", Key="n") == "AccessDenied"
    both.delete_object(Bucket="mine", Key="n")
    assert error_code(both.get_object, Bucket="mine", Key="n") == "NoSuchKey"
    assert error_code(both.put_bucket_policy, Bucket="mine", Policy=policy(
        allow("s3:*", ARN + "mine", Principal="*"))) == "AccessDenied"  # fmt: skip
    admin.create_bucket(Bucket="bosses")


def test_what_is_taken_away_is_gone(world: World) -> None:
    user = world.user("dora", "readonly")
    assert user.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"
    world.run(world.identities.detach("dora", "readonly"))
    world.identities._known.clear()  # as 2 seconds later
    assert error_code(user.get_object, Bucket="mine", Key="a/x") == "AccessDenied"
    (key,) = world.run(world.identities.keys("dora"))
    world.run(world.identities.set_key_disabled(key.id, True))
    world.identities._known.clear()
    assert error_code(user.get_object, Bucket="mine", Key="a/x") == "InvalidAccessKeyId"
    world.run(world.identities.set_key_disabled(key.id, False))
    world.run(world.identities.delete_user("dora"))
    world.identities._known.clear()
    assert error_code(user.get_object, Bucket="mine", Key="a/x") == "InvalidAccessKeyId"
    assert world.run(world.identities.keys("dora")) == []


def test_conditions_variables_and_copies(world: World) -> None:
    document = policy(
        allow("s3:*Object", f"{ARN}mine/home/${{aws:username}}/*"),
        allow("s3:ListBucket", f"{ARN}mine", Condition={"StringLike": {"s3:prefix": "home/${aws:username}/*"}}),
        allow("s3:GetObject", f"{ARN}mine/*", Condition={"StringEquals": {"s3:ExistingObjectTag/kind": "open"}}),
    )
    world.run(world.identities.put_policy("home", document.encode()))
    user = world.user("carl", "home")
    user.put_object(Bucket="mine", Key="home/carl/1", Body=b"1")
    assert error_code(user.put_object, Bucket="mine", Key="home/anna/1", Body=b"1") == "AccessDenied"
    assert user.list_objects_v2(Bucket="mine", Prefix="home/carl/")["KeyCount"] == 1
    assert error_code(user.list_objects_v2, Bucket="mine") == "AccessDenied"
    assert user.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"
    assert error_code(user.get_object, Bucket="mine", Key="b/y") == "AccessDenied"
    user.copy_object(Bucket="mine", Key="home/carl/2", CopySource="mine/home/carl/1")
    copy = {"Bucket": "mine", "Key": "home/carl/3", "CopySource": "mine/b/y"}
    assert error_code(user.copy_object, **copy) == "AccessDenied"


def test_tags_and_versions_that_decide_are_those_of_the_version_that_is_asked_for(world: World) -> None:
    """Also where it is the source of a copy, and where a tag stands in a variable."""
    world.root.put_bucket_versioning(Bucket="mine", VersioningConfiguration={"Status": "Enabled"})
    secret = world.root.put_object(Bucket="mine", Key="home/v", Body=b"1", Tagging="kind=secret&of=erik")["VersionId"]
    newest = world.root.put_object(Bucket="mine", Key="home/v", Body=b"2", Tagging="kind=open&of=v")["VersionId"]
    denied = allow("s3:Get*", f"{ARN}*", "Deny", Condition={"StringEquals": {"s3:ExistingObjectTag/kind": "secret"}})
    world.run(world.identities.put_policy("open", policy(allow("s3:*Object*", f"{ARN}mine/*"), denied).encode()))
    user = world.user("erik", "open")
    for version, allowed in ((newest, True), (secret, False)):
        source = {"Bucket": "mine", "Key": "home/v", "VersionId": version}
        for call, asked in (
            (user.get_object, source),
            (user.copy_object, {"Bucket": "mine", "Key": "home/copy", "CopySource": source}),
        ):
            if allowed:
                call(**asked)
            else:
                assert error_code(call, **asked) == "AccessDenied"
    by_version = allow("s3:*Object*", f"{ARN}mine/*", Condition={"StringEquals": {"s3:VersionId": newest}})
    by_name = allow("s3:Get*", f"{ARN}mine/home/${{s3:ExistingObjectTag/of}}")
    write = allow("s3:PutObject", f"{ARN}mine/*")
    world.run(world.identities.put_policy("narrow", policy(by_version, by_name, write).encode()))
    user = world.user("fritz", "narrow")
    user.get_object(Bucket="mine", Key="home/v", VersionId=newest)
    user.get_object(Bucket="mine", Key="home/v")
    assert error_code(user.get_object, Bucket="mine", Key="home/v", VersionId=secret) == "AccessDenied"
    copy = {"Bucket": "mine", "Key": "home/copy"}
    user.copy_object(**copy, CopySource={"Bucket": "mine", "Key": "home/v", "VersionId": newest})
    source = {"Bucket": "mine", "Key": "home/v", "VersionId": secret}
    assert error_code(user.copy_object, **copy, CopySource=source) == "AccessDenied"


def test_tags_that_differ_in_case_only_do_not_hide_each_other(world: World) -> None:
    for name, tagging in (("gerd", "kind=secret&Kind=open"), ("gina", "Kind=open&kind=secret")):
        world.root.put_object(Bucket="mine", Key="two", Body=b"1", Tagging=tagging)
        denied = allow(
            "s3:Get*", f"{ARN}*", "Deny", Condition={"StringEquals": {"s3:ExistingObjectTag/kind": "secret"}}
        )
        world.run(world.identities.put_policy("both", policy(allow("s3:*", f"{ARN}mine/*"), denied).encode()))
        assert error_code(world.user(name, "both").get_object, Bucket="mine", Key="two") == "AccessDenied"


def test_attributes_need_leave_to_read_too(world: World) -> None:
    world.root.put_object(Bucket="mine", Key="home/a", Body=b"1")
    one = allow("s3:GetObjectAttributes", f"{ARN}mine/*")
    world.run(world.identities.put_policy("attributes", policy(one).encode()))
    user = world.user("hanna", "attributes")
    asked = {"Bucket": "mine", "Key": "home/a", "ObjectAttributes": ["ObjectSize"]}
    assert error_code(user.get_object_attributes, **asked) == "AccessDenied"
    both = allow("s3:GetObject", f"{ARN}mine/*")
    world.run(world.identities.put_policy("attributes2", policy(one, both).encode()))
    assert world.user("ida", "attributes2").get_object_attributes(**asked)["ObjectSize"] == 1


def test_a_deletion_of_many_is_decided_key_by_key(world: World) -> None:
    world.root.put_bucket_policy(Bucket="mine", Policy=policy(
        allow("s3:DeleteObject", ARN + "mine/b/*", "Deny", Principal="*")))  # fmt: skip
    world.run(asyncio.sleep(0))
    user = world.user("max", "readwrite")
    keys = [{"Key": "a/x"}, {"Key": "b/y"}]
    did = world.root.delete_objects(Bucket="mine", Delete={"Objects": keys[1:]})
    assert [one["Code"] for one in did["Errors"]] == ["AccessDenied"]  # of the root as well
    did = user.delete_objects(Bucket="mine", Delete={"Objects": keys})
    assert [one["Key"] for one in did["Deleted"]] == ["a/x"]
    assert [(one["Key"], one["Code"]) for one in did["Errors"]] == [("b/y", "AccessDenied")]


def test_the_root_can_always_undo_the_policy_of_a_bucket(world: World) -> None:
    document = policy(allow("s3:*", [ARN + "mine", ARN + "mine/*"], "Deny", Principal="*"))
    world.root.put_bucket_policy(Bucket="mine", Policy=document)
    assert error_code(world.root.get_object, Bucket="mine", Key="a/x") == "AccessDenied"
    assert world.root.get_bucket_policy(Bucket="mine")["Policy"] == document
    world.root.delete_bucket_policy(Bucket="mine")
    assert error_code(world.root.get_bucket_policy, Bucket="mine") == "NoSuchBucketPolicy"
    assert world.root.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"


def test_who_does_not_sign_gets_what_the_bucket_gives_to_all(world: World) -> None:
    assert world.anonymous("GET", "/mine/a/x")[0] == 403
    assert world.anonymous("GET", "/none/a/x")[0] == 404
    assert b"AccessDenied" in world.anonymous("GET", "/")[1]
    document = policy(allow("s3:GetObject", ARN + "mine/a/*", Principal="*"))
    world.root.put_bucket_policy(Bucket="mine", Policy=document)
    assert world.root.get_bucket_policy_status(Bucket="mine")["PolicyStatus"] == {"IsPublic": True}
    assert world.anonymous("GET", "/mine/a/x") == (200, b"x")
    assert world.anonymous("GET", "/mine/a/none")[0] == 403  # whether it is there is for those who may list
    assert world.anonymous("GET", "/mine/b/y")[0] == 403
    assert world.anonymous("PUT", "/mine/a/x", b"new")[0] == 403
    block = {"RestrictPublicBuckets": True, "BlockPublicPolicy": True}
    world.root.put_public_access_block(Bucket="mine", PublicAccessBlockConfiguration=block)
    shown = world.root.get_public_access_block(Bucket="mine")["PublicAccessBlockConfiguration"]
    assert shown == {"BlockPublicAcls": False, "IgnorePublicAcls": False, **block}
    assert world.anonymous("GET", "/mine/a/x")[0] == 403
    assert error_code(world.root.put_bucket_policy, Bucket="mine", Policy=document) == "AccessDenied"
    world.root.delete_public_access_block(Bucket="mine")
    assert world.anonymous("GET", "/mine/a/x") == (200, b"x")


def test_policies_that_would_be_misunderstood_are_refused(world: World) -> None:
    for broken in (
        "",
        "[]",
        policy(),
        policy(allow("s3:GetObjct", ARN + "mine/*", Principal="*")),
        policy(allow("s3:GetObject", ARN + "other/*", Principal="*")),
        policy(allow("s3:GetObject", ARN + "mine/*")),
        policy(allow("s3:GetObject", ARN + "mine/*", "Permit", Principal="*")),
        policy(allow("s3:GetObject", ARN + "mine/*", Principal="*", Condition={"StringIs": {"s3:prefix": "a"}})),
        policy(allow("s3:GetObject", ARN + "mine/*", Principal="*", Condition={"Bool": {"aws:Unheard": "true"}})),
        policy(allow("s3:GetObject", ARN + "mine/*", Principal="*", Condition={"IpAddress": {"aws:SourceIp": "x"}})),
    ):
        if broken:
            assert error_code(world.root.put_bucket_policy, Bucket="mine", Policy=broken) == "MalformedPolicy", broken
    assert error_code(world.root.get_bucket_policy, Bucket="mine") == "NoSuchBucketPolicy"


def test_ownership_controls(world: World) -> None:
    controls = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert world.root.get_bucket_ownership_controls(Bucket="mine")["OwnershipControls"] == controls  # of a new bucket
    for _ in range(2):
        world.root.delete_bucket_ownership_controls(Bucket="mine")
        gone = error_code(world.root.get_bucket_ownership_controls, Bucket="mine")
        assert gone == "OwnershipControlsNotFoundError"
    missing = error_code(world.root.get_bucket_ownership_controls, Bucket="no-such-bucket")
    assert missing == "NoSuchBucket"
    world.root.put_bucket_ownership_controls(Bucket="mine", OwnershipControls=controls)
    assert world.root.get_bucket_ownership_controls(Bucket="mine")["OwnershipControls"] == controls
    other = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    put = {"Bucket": "mine", "OwnershipControls": other}
    world.root.put_bucket_ownership_controls(**put)
    assert world.root.get_bucket_ownership_controls(Bucket="mine")["OwnershipControls"] == other


def test_secrets_are_not_in_registers(world: World) -> None:
    world.run(world.identities.create_user("zoe"))
    _, secret = world.run(world.identities.create_key("zoe"))
    values = world.identities._registers._values  # type: ignore[attr-defined]
    assert any(b"zoe" in value.state for value in values.values())
    assert not any(secret.encode() in value.state + value.listing + value.data for value in values.values())


def test_reports_are_wanted_only_where_one_may_write(world: World) -> None:
    """The cluster writes inventory reports with its own rights."""
    user = world.user("ines")
    mine = [allow("s3:PutInventoryConfiguration", ARN + "mine"), allow("s3:PutObject", ARN + "reports/hers/*")]
    world.run(world.identities.put_policy("ines", policy(*mine).encode()))
    world.run(world.identities.attach("ines", "ines"))
    world.root.create_bucket(Bucket="reports")

    def wanted(prefix: str) -> dict[str, Any]:
        destination = {"Bucket": ARN + "reports", "Format": "CSV", "Prefix": prefix}
        about = {
            "Destination": {"S3BucketDestination": destination},
            "IsEnabled": True,
            "Id": "i",
            "IncludedObjectVersions": "All",
            "Schedule": {"Frequency": "Weekly"},
        }
        return {"Bucket": "mine", "Id": "i", "InventoryConfiguration": about}

    assert error_code(user.put_bucket_inventory_configuration, **wanted("others")) == "AccessDenied"
    user.put_bucket_inventory_configuration(**wanted("hers"))


def test_nobody_may_choose_the_headers_of_a_public_object(world: World) -> None:
    allow_all = {**allow("s3:GetObject", f"{ARN}mine/*"), "Principal": "*"}
    world.root.put_bucket_policy(Bucket="mine", Policy=policy(allow_all))
    assert world.anonymous("GET", "/mine/a/x")[0] == 200
    status, body = world.anonymous("GET", "/mine/a/x?response-content-type=text/html")
    assert status == 400 and b"anonymous GET" in body
    signed = world.root.get_object(Bucket="mine", Key="a/x", ResponseContentType="text/html")
    assert signed["ContentType"] == "text/html"
