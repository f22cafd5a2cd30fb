"""Access control lists: what they grant to whom, and where they count at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import pytest

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.engine.identities import Identities
from objstore.engine.types import ObjectInfo
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine
from tests.s3.test_access import ARN, World, allow, policy, world

__all__ = ["world"]

ALL = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
SIGNED = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"}
RULES = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")


@pytest.fixture
def shared(world: World) -> Iterator[World]:
    world.root.create_bucket(Bucket="open", ObjectOwnership="ObjectWriter")
    world.root.put_object(Bucket="open", Key="private", Body=b"secret")
    world.root.put_object(Bucket="open", Key="public", Body=b"known", ACL="public-read")
    world.root.put_object(Bucket="open", Key="signed", Body=b"known to users", ACL="authenticated-read")
    yield world


def ownership(rule: str) -> dict[str, Any]:
    return {"Bucket": "open", "OwnershipControls": {"Rules": [{"ObjectOwnership": rule}]}}


def grants(answer: dict[str, Any]) -> set[tuple[str, str]]:
    """(who, what)"""
    return {(one["Grantee"].get("URI", "").rpartition("/")[2], one["Permission"]) for one in answer["Grants"]}


@pytest.mark.parametrize(
    ("acl", "rule", "ignored", "allowed", "denied"), list(product((False, True), RULES, *[(False, True)] * 3))
)
def test_without_a_signature_an_object_is_read_by_policy_or_acl_only(
    shared: World, acl: bool, rule: str, ignored: bool, allowed: bool, denied: bool
) -> None:
    """Every cell of the table."""
    root, key = shared.root, "public" if acl else "private"
    root.put_bucket_ownership_controls(**ownership(rule))
    if ignored:
        block = {"BlockPublicAcls": False, "IgnorePublicAcls": True, "BlockPublicPolicy": False,
                 "RestrictPublicBuckets": False}  # fmt: skip
        root.put_public_access_block(Bucket="open", PublicAccessBlockConfiguration=block)
    statements = [allow("s3:GetObject", f"{ARN}open/*", Principal="*")] if allowed else []
    if denied:
        statements.append(allow("s3:GetObject", f"{ARN}open/*", "Deny", Principal="*"))
    if statements:
        root.put_bucket_policy(Bucket="open", Policy=policy(*statements))
    by_acl = acl and rule != "BucketOwnerEnforced" and not ignored
    status, body = shared.anonymous("GET", f"/open/{key}")
    assert status == (200 if (allowed or by_acl) and not denied else 403), body
    assert (b"known" in body) is (status == 200 and acl)


def test_who_signs_is_one_of_the_authenticated_users(shared: World) -> None:
    user = shared.user("ann")
    assert user.get_object(Bucket="open", Key="signed")["Body"].read() == b"known to users"
    assert user.get_object(Bucket="open", Key="public")["Body"].read() == b"known"
    assert error_code(user.get_object, Bucket="open", Key="private") == "AccessDenied"
    assert shared.anonymous("GET", "/open/signed")[0] == 403


def test_a_deny_of_the_user_wins(shared: World) -> None:
    user = shared.user("bob")
    deny = allow("s3:GetObject", f"{ARN}open/*", "Deny")
    shared.run(shared.identities.put_policy("nothing", policy(deny).encode()))
    shared.run(shared.identities.attach("bob", "nothing"))
    assert error_code(user.get_object, Bucket="open", Key="public") == "AccessDenied"


def test_the_acl_of_a_bucket_is_for_lists_and_new_objects(shared: World) -> None:
    user, root = shared.user("eve"), shared.root
    assert error_code(user.list_objects_v2, Bucket="open") == "AccessDenied"
    assert shared.anonymous("PUT", "/open/mine", b"x")[0] == 403
    root.put_bucket_acl(Bucket="open", ACL="public-read-write")
    assert user.list_objects_v2(Bucket="open")["KeyCount"] == 3
    assert shared.anonymous("GET", "/open?list-type=2")[0] == 200
    assert shared.anonymous("PUT", "/open/mine", b"x")[0] == 200
    assert shared.anonymous("GET", "/open/mine")[0] == 403, "what was written is private"
    assert shared.anonymous("DELETE", "/open/mine")[0] == 403
    assert shared.anonymous("GET", "/open?acl")[0] == 403
    root.put_bucket_acl(Bucket="open", ACL="private")
    assert shared.anonymous("GET", "/open?list-type=2")[0] == 403


def test_that_an_object_is_missing_is_told_to_those_who_may_list(shared: World) -> None:
    assert shared.anonymous("GET", "/open/missing")[0] == 403
    shared.root.put_bucket_acl(Bucket="open", ACL="public-read")
    assert shared.anonymous("GET", "/open/missing")[0] == 404
    assert shared.anonymous("GET", "/open/private")[0] == 403


def test_an_acl_may_be_read_and_written_by_whom_it_says(shared: World) -> None:
    user, root = shared.user("zoe"), shared.root
    where = {"Bucket": "open", "Key": "private"}
    assert error_code(user.get_object_acl, **where) == "AccessDenied"
    owner = root.get_object_acl(**where)
    rights = [{"Grantee": SIGNED, "Permission": what} for what in ("READ_ACP", "WRITE_ACP")]
    root.put_object_acl(**where, AccessControlPolicy={"Owner": owner["Owner"], "Grants": [*owner["Grants"], *rights]})
    expected = {("", "FULL_CONTROL"), ("AuthenticatedUsers", "READ_ACP"), ("AuthenticatedUsers", "WRITE_ACP")}
    assert grants(user.get_object_acl(**where)) == expected
    assert error_code(user.get_object, **where) == "AccessDenied", "to read it is another right"
    user.put_object_acl(**where, ACL="public-read")
    assert shared.anonymous("GET", "/open/private")[0] == 200
    assert error_code(user.put_object_acl, **where, ACL="private") == "AccessDenied", "it has given the right away"


def test_a_bucket_that_is_made_with_an_acl_has_it(world: World) -> None:
    world.root.create_bucket(Bucket="kind", ACL="public-read")
    rules = world.root.get_bucket_ownership_controls(Bucket="kind")["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "ObjectWriter"}]
    assert grants(world.root.get_bucket_acl(Bucket="kind")) == {("", "FULL_CONTROL"), ("AllUsers", "READ")}
    assert world.anonymous("GET", "/kind")[0] == 200
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    put = {"Bucket": "kind", "OwnershipControls": enforced}
    assert error_code(world.root.put_bucket_ownership_controls, **put) == "InvalidBucketAclWithObjectOwnership"
    world.root.put_bucket_acl(Bucket="kind", ACL="private")
    world.root.put_bucket_ownership_controls(**put)


def test_every_way_to_write_an_object_takes_an_acl_and_a_copy_inherits_none(shared: World) -> None:
    root = shared.root
    public = {("", "FULL_CONTROL"), ("AllUsers", "READ")}
    source = {"Bucket": "open", "Key": "public"}

    def has(key: str) -> set[tuple[str, str]]:
        return grants(root.get_object_acl(Bucket="open", Key=key))

    root.copy_object(Bucket="open", Key="copy", CopySource=source)
    assert has("copy") == {("", "FULL_CONTROL")}
    root.copy_object(Bucket="open", Key="copy", CopySource=source, GrantRead=f'uri="{ALL["URI"]}"')
    assert has("copy") == {("AllUsers", "READ")}
    upload = root.create_multipart_upload(Bucket="open", Key="parts", ACL="public-read")["UploadId"]
    part = root.upload_part(Bucket="open", Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    root.complete_multipart_upload(Bucket="open", Key="parts", UploadId=upload, MultipartUpload=parts)
    assert has("parts") == public
    root.rename_object(Bucket="open", Key="renamed", RenameSource="/open/parts")
    assert has("renamed") == public
    root.put_object(Bucket="open", Key="grown", Body=b"a", WriteOffsetBytes=0, ACL="public-read")
    root.put_object(Bucket="open", Key="grown", Body=b"b", WriteOffsetBytes=1)
    assert has("grown") == public and shared.anonymous("GET", "/open/grown") == (200, b"ab")
    more = {"Bucket": "open", "Key": "grown", "Body": b"c", "WriteOffsetBytes": 2, "ACL": "public-read-write"}
    assert error_code(root.put_object, **more) == "InvalidRequest"
    root.put_object(Bucket="open", Key="public", Body=b"new")
    assert has("public") == {("", "FULL_CONTROL")}, "what is written anew is private"


def test_each_version_has_its_own(shared: World) -> None:
    root = shared.root
    root.put_bucket_versioning(Bucket="open", VersioningConfiguration={"Status": "Enabled"})
    first = root.put_object(Bucket="open", Key="v", Body=b"first", ACL="public-read")["VersionId"]
    second = root.put_object(Bucket="open", Key="v", Body=b"second")["VersionId"]
    assert shared.anonymous("GET", "/open/v")[0] == 403
    assert shared.anonymous("GET", f"/open/v?versionId={first}") == (200, b"first")
    assert shared.anonymous("GET", f"/open/v?versionId={second}")[0] == 403
    root.put_object_acl(Bucket="open", Key="v", VersionId=first, ACL="private")
    assert shared.anonymous("GET", f"/open/v?versionId={first}")[0] == 403
    root.delete_object(Bucket="open", Key="v")
    assert error_code(root.put_object_acl, Bucket="open", Key="v", ACL="public-read") == "NoSuchKey"


def test_a_block_refuses_public_acls(shared: World) -> None:
    root = shared.root
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": False,
             "RestrictPublicBuckets": False}  # fmt: skip
    root.put_public_access_block(Bucket="open", PublicAccessBlockConfiguration=block)
    assert error_code(root.put_object, Bucket="open", Key="n", Body=b"", ACL="public-read") == "AccessDenied"
    assert error_code(root.put_object_acl, Bucket="open", Key="private", ACL="authenticated-read") == "AccessDenied"
    assert error_code(root.put_bucket_acl, Bucket="open", ACL="public-read") == "AccessDenied"
    root.put_bucket_acl(Bucket="open", ACL="log-delivery-write")
    assert shared.anonymous("GET", "/open/public")[0] == 200, "what is public already stays so"


def test_more_than_private_needs_leave(shared: World) -> None:
    user = shared.user("kim", "readwrite")
    user.put_object(Bucket="open", Key="k", Body=b"", ACL="private")
    assert error_code(user.put_object, Bucket="open", Key="k", Body=b"", ACL="public-read") == "AccessDenied"
    assert error_code(user.create_bucket, Bucket="kims", ACL="public-read") == "AccessDenied"
    assert error_code(user.create_bucket, Bucket="kims", ObjectOwnership="ObjectWriter") == "AccessDenied"
    assert error_code(user.create_bucket, Bucket="kims", ObjectLockEnabledForBucket=True) == "AccessDenied"
    user.create_bucket(Bucket="kims")
    shared.user("boss", "admin").create_bucket(Bucket="open2", ACL="public-read", ObjectLockEnabledForBucket=True)


def test_what_an_acl_cannot_say_is_refused(shared: World) -> None:
    root, where = shared.root, {"Bucket": "open", "Key": "private"}
    owner = root.get_object_acl(**where)

    def refused(*listed: Any, **more: Any) -> str:
        wanted = {"Owner": owner["Owner"], "Grants": [*owner["Grants"], *listed]}
        return error_code(root.put_object_acl, **where, **({"AccessControlPolicy": wanted} if listed else {}), **more)

    assert refused({"Grantee": {"Type": "CanonicalUser", "ID": "somebody"}, "Permission": "READ"}) == "InvalidArgument"
    by_mail = {"Grantee": {"Type": "AmazonCustomerByEmail", "EmailAddress": "a@b.c"}, "Permission": "READ"}
    assert refused(by_mail) == "UnresolvableGrantByEmailAddress"
    assert refused({"Grantee": {"Type": "Group", "URI": "http://nowhere"}, "Permission": "READ"}) == "InvalidArgument"
    assert refused({"Grantee": ALL, "Permission": "EVERYTHING"}) == "MalformedACLError"
    assert refused(*[{"Grantee": ALL, "Permission": "READ"}] * 101) == "MalformedACLError"
    assert refused(ACL="log-delivery-write") == "InvalidArgument"
    assert refused(ACL="public-read", GrantRead=f"uri={ALL['URI']}") == "InvalidRequest"
    assert refused(GrantRead="everybody") == "InvalidArgument"
    assert refused(GrantRead="id=somebody") == "InvalidArgument"
    assert refused({"Grantee": ALL, "Permission": "READ"}, ACL="private") == "UnexpectedContent"
    assert grants(root.get_object_acl(**where)) == {("", "FULL_CONTROL")}


async def _body(data: bytes) -> AsyncIterator[bytes]:
    yield data


def test_an_object_that_comes_in_place_of_a_public_one_is_not_shown() -> None:
    engine = MemoryEngine()
    look = engine.head_object
    looks = 0

    async def head_object(bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        nonlocal looks
        looks += 1
        info = await look(bucket, key, version_id)
        await engine.put_object(bucket, key, _body(b"secret"), 6, {})
        return info

    with local_gateway(engine) as gateway:
        world = World(gateway.url, None, Identities(engine.registers, SystemClock(), SystemRandom(), b"secret"))
        world = world._replace(root=world.client(ACCESS_KEY, SECRET_KEY))
        world.root.create_bucket(Bucket="open", ACL="public-read")
        world.root.put_object(Bucket="open", Key="k", Body=b"public", ACL="public-read")
        engine.head_object = head_object  # type: ignore[method-assign]
        assert world.anonymous("GET", "/open/k") == (200, b"public") and looks == 1
        assert world.anonymous("GET", "/open/k")[0] == 403
