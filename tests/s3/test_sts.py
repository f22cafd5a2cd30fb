"""Temporary credentials: boto3 asks STS for them at the endpoint of S3, and works with them."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from objstore.adapters.randomness import SystemRandom
from objstore.engine.identities import Identities
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine
from tests.s3.sessions import (
    ROLE,
    ROOT,
    S3_ARN,
    SESSION,
    VERSION,
    Clock,
    Keys,
    World,
    allow,
    call,
    document,
    get,
    of,
    running,
)


@pytest.fixture
def world() -> Iterator[World]:
    with running() as made:
        yield made


# --- roles -----------------------------------------------------------------------------------------------------------


def test_who_assumes_a_role_may_do_what_the_role_may_and_nothing_else(world: World) -> None:
    ann = world.user("ann", "writeonly")
    world.role("reader", "readonly")
    answer = world.sts(ann).assume_role(RoleArn=ROLE + "reader", RoleSessionName="work")
    keys = of(answer)
    assert keys.id.startswith("ASIA")
    assert answer["AssumedRoleUser"]["Arn"] == SESSION + "reader/work"
    assert re.fullmatch("AROA[A-Z2-7]{16}:work", answer["AssumedRoleUser"]["AssumedRoleId"])
    lives = answer["Credentials"]["Expiration"].timestamp() - world.clock.wall_ms() / 1000
    assert 3500 < lives <= 3600
    assert "PackedPolicySize" not in answer
    s3 = world.s3(keys)
    assert s3.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"
    with pytest.raises(ClientError, match=f"{SESSION}reader/work is not authorized to perform: s3:PutObject"):
        s3.put_object(Bucket="mine", Key="n", Body=b"")  # ann herself may
    who = world.sts(keys).get_caller_identity()
    assert (who["Arn"], who["Account"]) == (SESSION + "reader/work", "000000000001")
    assert who["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]


def test_everything_is_done_with_the_credentials_of_a_session(world: World) -> None:
    """Headers, multipart, presigned URLs, the form of a browser."""
    bea = world.user("bea")
    world.role("writer", "readwrite", trust="bea")
    keys = world.assume(bea, "writer")
    s3 = world.s3(keys)
    s3.put_object(Bucket="mine", Key="s", Body=b"a body")
    upload = s3.create_multipart_upload(Bucket="mine", Key="m")["UploadId"]
    named = {"Bucket": "mine", "Key": "m", "UploadId": upload}
    part = s3.upload_part(**named, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "mine", "Key": "m"})
    assert "X-Amz-Security-Token=" in url
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"part"
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "mine", "Key": "p"})
    with urllib.request.urlopen(urllib.request.Request(url, b"put", {"Content-Type": ""}, method="PUT")):
        assert s3.get_object(Bucket="mine", Key="p")["Body"].read() == b"put"
    assert s3.head_object(Bucket="mine", Key="p")["Metadata"] == {}
    form = s3.generate_presigned_post("mine", "f")
    assert form["fields"]["x-amz-security-token"] == keys.token
    assert post_form(form["url"], form["fields"], b"from a form") == 204
    assert s3.get_object(Bucket="mine", Key="f")["Body"].read() == b"from a form"
    assert post_form(form["url"], {**form["fields"], "x-amz-security-token": "none"}, b"") == 400
    s3.delete_objects(Bucket="mine", Delete={"Objects": [{"Key": "f"}, {"Key": "p"}]})
    assert s3.list_objects_v2(Bucket="mine")["KeyCount"] == 4


def post_form(url: str, fields: dict[str, str], file: bytes) -> int:
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()] + [('name="file"', file)]
    body = b"".join(
        b"--edge\r\nContent-Disposition: form-data; " + name.encode() + b"\r\n\r\n" + value + b"\r\n"
        for name, value in parts
    )
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request(
        "POST", urlsplit(url).path, body + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}
    )
    status = connection.getresponse().status
    connection.close()
    return status


def test_who_may_assume_a_role(world: World) -> None:
    ann, eve = world.user("ann", "admin"), world.user("eve", "admin")
    world.role("reader", "readonly")
    sts = world.sts(eve)
    with pytest.raises(ClientError) as refused:
        sts.assume_role(RoleArn=ROLE + "reader", RoleSessionName="work")
    error = refused.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("AccessDenied", 403)
    said = f"User: arn:aws:iam::000000000001:user/eve is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    assert error["Error"]["Message"] == said + "reader"
    for arn in (ROLE + "none", ROLE.replace("1:role", "2:role") + "reader", "arn:aws:iam::000000000001:user/ann"):
        assert error_code(world.sts(ann).assume_role, RoleArn=arn, RoleSessionName="work") == "AccessDenied"
    assert error_code(world.sts(ROOT).assume_role, RoleArn=ROLE + "reader", RoleSessionName="work") == "AccessDenied"
    keys = world.assume(ann, "reader")
    assert error_code(world.assume, keys=keys, role="reader") == "AccessDenied"  # a role is not among those it trusts
    world.run(world.identities.put_policy("not", document(allow("sts:AssumeRole", ROLE + "r*", "Deny")).encode()))
    world.run(world.identities.attach("ann", "not"))
    world.forget()
    assert error_code(world.assume, keys=ann, role="reader") == "AccessDenied"
    assert world.sts(ann).get_session_token()
    without_role = {"Action": "AssumeRole", "Version": VERSION}
    assert call(world, without_role, ann)[0] == 200
    world.run(world.identities.put_policy("not", document(allow("sts:*", "*", "Deny")).encode()))
    world.forget()
    assert error_code(world.sts(ann).get_session_token) == "AccessDenied"
    assert call(world, without_role, ann)[0] == 403
    assert world.sts(ann).get_caller_identity()  # needs no leave


def test_the_policy_of_a_session_narrows_it(world: World) -> None:
    ann = world.user("ann")
    world.role("writer", "readwrite")
    narrow = document(allow("s3:*", [S3_ARN + "mine/a/*", S3_ARN + "other/*"]), allow("s3:ListBucket", S3_ARN + "mine"))
    answer = world.sts(ann).assume_role(RoleArn=ROLE + "writer", RoleSessionName="work", Policy=narrow)
    assert answer["PackedPolicySize"] > 0
    s3 = world.s3(of(answer))
    assert s3.get_object(Bucket="mine", Key="a/x")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket="mine")["KeyCount"] == 2
    with pytest.raises(ClientError, match="no session policy allows the s3:GetObject action"):
        s3.get_object(Bucket="mine", Key="b/y")
    for attempt, arguments in (
        (s3.put_object_legal_hold, {"Key": "a/x", "LegalHold": {"Status": "ON"}}),  # the role may not
        (s3.put_object_tagging, {"Key": "b/y", "Tagging": {"TagSet": []}}),
    ):
        assert error_code(attempt, Bucket="mine", **arguments) == "AccessDenied"
    denying = document(allow("s3:*", "*"), allow("s3:Get*", "*", "Deny"))
    s3 = world.s3(world.assume(ann, "writer", Policy=denying))
    s3.put_object(Bucket="mine", Key="a/n", Body=b"")
    with pytest.raises(ClientError, match="explicit deny"):
        s3.get_object(Bucket="mine", Key="a/n")


def test_an_acl_does_not_widen_the_policy_of_a_session(world: World) -> None:
    root, ann = world.s3(ROOT), world.user("ann")
    root.create_bucket(Bucket="open", ACL="public-read")
    root.put_object(Bucket="open", Key="k", Body=b"known", ACL="public-read")
    world.role("none")
    assert world.s3(world.assume(ann, "none")).get_object(Bucket="open", Key="k")["Body"].read() == b"known"
    narrow = world.s3(world.assume(ann, "none", Policy=document(allow("s3:ListBucket", "*"))))
    assert narrow.list_objects_v2(Bucket="open")["KeyCount"] == 1
    assert error_code(narrow.get_object, Bucket="open", Key="k") == "AccessDenied"


def test_the_policy_of_a_bucket_names_roles_and_sessions(world: World) -> None:
    ann = world.user("ann")
    world.role("none")
    root = world.s3(ROOT)

    def let(principal: str, **more: Any) -> None:
        one = allow("s3:GetObject", S3_ARN + "mine/a/*", Principal={"AWS": principal}, **more)
        root.put_bucket_policy(Bucket="mine", Policy=document(one))

    read = {"Bucket": "mine", "Key": "a/x"}
    plain = world.s3(world.assume(ann, "none"))
    other = world.s3(world.assume(ann, "none", RoleSessionName="other"))
    narrow = world.s3(world.assume(ann, "none", Policy=document(allow("s3:PutObject", "*"))))
    assert error_code(plain.get_object, **read) == "AccessDenied"
    let(ROLE + "none")
    assert plain.get_object(**read)["Body"].read() == other.get_object(**read)["Body"].read() == b"x"
    assert error_code(narrow.get_object, **read) == "AccessDenied"
    let(SESSION + "none/work")
    assert plain.get_object(**read)["Body"].read() == b"x"
    assert narrow.get_object(**read)["Body"].read() == b"x"  # given to the session itself
    assert error_code(other.get_object, **read) == "AccessDenied"
    let("arn:aws:iam::000000000001:user/ann")
    assert error_code(plain.get_object, **read) == "AccessDenied"  # a session is not who began it
    let("arn:aws:iam::000000000001:root")
    assert error_code(plain.get_object, **read) == "AccessDenied"
    let("*", Condition={"ArnEquals": {"aws:PrincipalArn": ROLE + "none"}, "StringLike": {"aws:userid": "AROA*:work"}})
    assert plain.get_object(**read)["Body"].read() == b"x"
    assert error_code(other.get_object, **read) == "AccessDenied"
    for bad in (SESSION + "none", SESSION + "none/*", "arn:aws:sts::1:assumed-role/none/work"):
        assert error_code(let, principal=bad) == "MalformedPolicy"


def test_what_conditions_see_of_a_session(world: World) -> None:
    ann = world.user("ann")
    mine = allow("s3:*", S3_ARN + "mine/${aws:userid}/*")
    typed = {"StringEquals": {"aws:PrincipalType": "AssumedRole"}, "Null": {"aws:username": "true"},
             "Bool": {"aws:MultiFactorAuthPresent": "false"},
             "DateGreaterThan": {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}}  # fmt: skip
    world.run(world.identities.put_policy("own", document(mine, allow("s3:Get*", "*", Condition=typed)).encode()))
    world.role("own", "own")
    answer = world.sts(ann).assume_role(RoleArn=ROLE + "own", RoleSessionName="work")
    s3, id = world.s3(of(answer)), answer["AssumedRoleUser"]["AssumedRoleId"]
    s3.put_object(Bucket="mine", Key=f"{id}/n", Body=b"")
    assert error_code(s3.put_object, Bucket="mine", Key="ann/n", Body=b"") == "AccessDenied"
    s3.get_object(Bucket="mine", Key="a/x")


# --- the end of a session --------------------------------------------------------------------------------------------


def test_a_session_ends_in_time(world: World) -> None:
    ann = world.user("ann")
    world.role("reader", "readonly")
    world.clock.ahead_s = -600  # within what a signature may be off
    keys = world.assume(ann, "reader", DurationSeconds=900)
    world.clock.ahead_s = 200
    assert world.s3(keys).get_object(Bucket="mine", Key="a/x")
    world.clock.ahead_s = 301
    s3 = world.s3(keys)
    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket="mine", Key="a/x")
    error = refused.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ExpiredToken", 400)
    assert error["Error"]["Token-0"] == keys.token
    with pytest.raises(ClientError) as refused:
        world.sts(keys).get_caller_identity()
    error = refused.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ExpiredToken", 403)


@pytest.mark.parametrize("what", ["role", "role made anew", "trust", "key disabled", "user", "user made anew"])
def test_a_session_ends_with_what_is_behind_it(world: World, what: str) -> None:
    ann = world.user("ann")
    world.role("reader", "readonly")
    s3 = world.s3(world.assume(ann, "reader"))
    assert s3.get_object(Bucket="mine", Key="a/x")
    store = world.identities
    if what == "trust":
        world.run(store.distrust("reader", "ann"))
    elif what == "key disabled":
        world.run(store.set_key_disabled(ann.id, True))
    elif what.startswith("role"):
        world.run(store.delete_role("reader"))
    else:
        world.run(store.delete_user("ann"))
    if what == "user made anew":
        world.user("ann")
        world.run(store.trust("reader", "ann"))
    if what == "role made anew":
        world.role("reader", "readonly")
    world.forget()
    assert error_code(s3.get_object, Bucket="mine", Key="a/x") == "InvalidToken"


def test_what_a_role_may_changes_under_its_sessions(world: World) -> None:
    ann = world.user("ann")
    world.role("changing", "readonly")
    s3 = world.s3(world.assume(ann, "changing"))
    assert s3.get_object(Bucket="mine", Key="a/x")
    world.run(world.identities.detach_from_role("changing", "readonly"))
    world.forget()
    assert error_code(s3.get_object, Bucket="mine", Key="a/x") == "AccessDenied"
    world.run(world.identities.attach_to_role("changing", "writeonly"))
    world.forget()
    s3.put_object(Bucket="mine", Key="n", Body=b"")


def test_tokens_and_keys_that_do_not_belong_together(world: World) -> None:
    ann = world.user("ann")
    world.role("reader", "readonly")
    one, two = world.assume(ann, "reader"), world.assume(ann, "reader")
    assert one.token is not None
    middle = len(one.token) // 2
    changed = one.token[:middle] + ("A" if one.token[middle] != "A" else "B") + one.token[middle + 1 :]
    for keys, code, of_sts in (
        (one._replace(token=two.token), "InvalidToken", "InvalidClientTokenId"),
        (one._replace(token=changed), "InvalidToken", "InvalidClientTokenId"),
        (one._replace(token="x" * 9000), "InvalidToken", "InvalidClientTokenId"),
        (ann._replace(token=one.token), "InvalidToken", "InvalidClientTokenId"),
        (ROOT._replace(token="none"), "InvalidToken", "InvalidClientTokenId"),
        (one._replace(token=None), "InvalidAccessKeyId", "InvalidClientTokenId"),
        (one._replace(secret=two.secret), "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
    ):
        assert error_code(world.s3(keys).get_object, Bucket="mine", Key="a/x") == code
        assert error_code(world.sts(keys).get_caller_identity) == of_sts
    url = world.s3(one).generate_presigned_url("get_object", Params={"Bucket": "mine", "Key": "a/x"})
    without = re.sub("&X-Amz-Security-Token=[^&]*", "", url)
    assert get(without)[0] == 403 and b"InvalidAccessKeyId" in get(without)[1]
    connection = http.client.HTTPConnection(urlsplit(world.url).netloc, timeout=10)
    connection.request("GET", "/mine/a/x", headers={"x-amz-security-token": one.token})
    assert b"<Code>InvalidToken</Code>" in connection.getresponse().read()
    connection.close()
    assert b"<Code>InvalidToken</Code>" in get(f"{world.url}/mine/a/x?X-Amz-Security-Token=none")[1]


def test_every_gateway_of_the_cluster_knows_a_session_and_no_other_does() -> None:
    """Nothing of it is stored; and it ends when its root key gets another secret."""
    engine, clock = MemoryEngine(), Clock()

    def gateway(cluster_secret: bytes = b"of the cluster", root_secret: str = SECRET_KEY) -> Any:
        identities = Identities(engine.registers, clock, SystemRandom(), cluster_secret)
        return local_gateway(engine, settings(identities=identities, keys={ACCESS_KEY: root_secret}))

    with gateway() as first, gateway() as second, gateway(b"of another") as other, gateway(root_secret="new") as later:
        keys = of(World(first.url, None, clock).sts(ROOT).get_session_token())  # type: ignore[arg-type]
        clients = [World(one.url, None, clock).s3(keys) for one in (second, other, later)]  # type: ignore[arg-type]
        assert clients[0].list_buckets()["Buckets"] == []
        assert [error_code(client.list_buckets) for client in clients[1:]] == ["InvalidToken", "InvalidToken"]


# --- sessions of users -----------------------------------------------------------------------------------------------


def test_a_user_asks_for_a_session_of_their_own(world: World) -> None:
    ann = world.user("ann", "readonly")
    world.role("writer", "writeonly")
    keys = of(world.sts(ann).get_session_token(DurationSeconds=129_600))
    assert world.s3(keys).get_object(Bucket="mine", Key="a/x")
    assert error_code(world.s3(keys).put_object, Bucket="mine", Key="n", Body=b"") == "AccessDenied"
    assert world.sts(keys).get_caller_identity()["Arn"] == "arn:aws:iam::000000000001:user/ann"
    assert error_code(world.sts(keys).get_session_token) == "AccessDenied"
    world.s3(world.assume(keys, "writer")).put_object(Bucket="mine", Key="n", Body=b"")
    world.run(world.identities.delete_key(ann.id))
    world.forget()
    assert error_code(world.s3(keys).get_object, Bucket="mine", Key="a/x") == "InvalidToken"


def test_the_root_has_sessions_of_an_hour(world: World) -> None:
    answer = world.sts(ROOT).get_session_token()
    assert answer["Credentials"]["Expiration"].timestamp() - world.clock.wall_ms() / 1000 <= 3600
    assert [one["Name"] for one in world.s3(of(answer)).list_buckets()["Buckets"]] == ["mine"]
    assert world.sts(of(answer)).get_caller_identity()["Arn"] == "arn:aws:iam::000000000001:root"


def test_a_session_without_a_role_is_the_user_narrowed(world: World) -> None:
    """As clients of MinIO ask for one: AWS would refuse it, because there is no RoleArn."""
    ann = world.user("ann", "readwrite")
    world.role("writer", "readwrite")
    narrow = document(allow("s3:GetObject", S3_ARN + "mine/a/*"))
    for keys in (ann, ROOT):
        status, body = call(world, {"Action": "AssumeRole", "Version": VERSION, "Policy": narrow}, keys)
        assert status == 200
        id, secret, token = (
            re.search(f"<{name}>(.*)</{name}>", body)[1]  # type: ignore[index]
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        )
        made = Keys(id, secret, token)
        assert world.s3(made).get_object(Bucket="mine", Key="a/x")
        assert error_code(world.s3(made).get_object, Bucket="mine", Key="b/y") == "AccessDenied"
        assert error_code(world.s3(made).put_object, Bucket="mine", Key="a/x", Body=b"") == "AccessDenied"
        assert error_code(world.s3(made).put_bucket_policy, Bucket="mine", Policy="{}") == "AccessDenied"
        assert error_code(world.assume, keys=made, role="writer") == "AccessDenied", "it would get rid of its policy"
        assert call(world, {"Action": "AssumeRole", "Version": VERSION}, made)[0] == 403
