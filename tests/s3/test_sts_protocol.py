"""The query protocol of STS over HTTP: what is asked wrongly, how it is signed, the form of answers."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.s3.local_gateway import REGION
from tests.s3.sessions import ROLE, ROOT, VERSION, Keys, World, allow, call, document, get, running


@pytest.fixture
def world() -> Iterator[World]:
    with running() as made:
        yield made


@pytest.mark.parametrize(
    ("fields", "status", "code", "said"),
    [
        ({"Action": "AssumeRoleWithSAML"}, 400, "InvalidAction", "AssumeRoleWithSAML for version 2011-06-15"),
        ({"Action": "GetCallerIdentity", "Version": "2010-01-01"}, 400, "InvalidAction", "for version 2010-01-01"),
        ({"Action": ""}, 400, "MissingAction", "Action"),
        ({"Action": "AssumeRole", "RoleArn": "short", "RoleSessionName": "x y"}, 400, "ValidationError",
         "2 validation errors detected: Value 'short' at 'roleArn'"),
        ({"Action": "AssumeRole", "RoleArn": ROLE + "r"}, 400, "ValidationError", "null at 'roleSessionName'"),
        ({"Action": "AssumeRole", "RoleSessionName": "work"}, 400, "ValidationError", "null at 'roleArn'"),
        ({"Action": "AssumeRole", "RoleArn": "x" * 30, "RoleSessionName": "work"}, 400, "ValidationError", "invalid"),
        ({"Action": "AssumeRole", "DurationSeconds": "899"}, 400, "ValidationError", "greater than or equal to 900"),
        ({"Action": "AssumeRole", "DurationSeconds": "43201"}, 400, "ValidationError", "less than or equal to 43200"),
        ({"Action": "GetSessionToken", "DurationSeconds": "129601"}, 400, "ValidationError", "or equal to 129600"),
        ({"Action": "GetSessionToken", "DurationSeconds": "1h"}, 400, "MalformedInput", "1h"),
        ({"Action": "AssumeRole", "Policy": "{"}, 400, "MalformedPolicyDocument", "Json"),
        ({"Action": "AssumeRole", "Policy": "{" * 2049}, 400, "ValidationError", "less than or equal to 2048"),
        ({"Action": "AssumeRole", "Policy": document(allow("s3:Nothing", "*"))}, 400, "MalformedPolicyDocument",
         "invalid action"),
        ({"Action": "AssumeRole", "Tags.member.1.Key": "a"}, 403, "AccessDenied", "sts:TagSession"),
        ({"Action": "AssumeRole", "PolicyArns.member.1.arn": "a"}, 501, "NotImplemented", "PolicyArns.member.1.arn"),
        ({"Action": "GetSessionToken", "SerialNumber": "a", "TokenCode": "123456"}, 403, "AccessDenied", "MFA"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_in_the_form_of_sts(
    world: World, fields: dict[str, str], status: int, code: str, said: str
) -> None:
    got, body = call(world, {"Version": VERSION, **fields})
    assert (got, re.search("<Code>(.*)</Code>", body)[1]) == (status, code)  # type: ignore[index]
    kind = "Sender" if status < 500 else "Receiver"
    assert f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>{kind}</Type>' in body
    assert said in body
    assert re.search("</Error><RequestId>[0-9A-F]{16}</RequestId></ErrorResponse>", body)


def test_requests_by_get_and_presigned(world: World) -> None:
    fields = {"Action": "GetCallerIdentity", "Version": VERSION}
    status, body = call(world, fields, method="GET")
    assert status == 200
    assert body.startswith('<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">')
    assert re.search("</GetCallerIdentityResult><ResponseMetadata><RequestId>[0-9A-F]{16}</RequestId>", body)
    request = AWSRequest("GET", f"{world.url}/?{urlencode(fields)}")
    SigV4QueryAuth(Credentials(*ROOT), "sts", REGION, expires=60).add_auth(request)
    status, answer = get(request.url)
    assert status == 200 and b"<Arn>arn:aws:iam::000000000001:root</Arn>" in answer
    assert get(request.url.replace("GetCallerIdentity", "GetSessionToken"))[0] == 403


def test_signatures_that_are_not_of_sts(world: World) -> None:
    fields = {"Action": "GetCallerIdentity", "Version": VERSION}
    status, body = call(world, fields, Keys("AKIANOBODY", "s"))
    assert status == 403 and "<Code>InvalidClientTokenId</Code>" in body
    assert get(f"{world.url}/?{urlencode(fields)}")[0] == 403
    assert b"<Code>MissingAuthenticationToken</Code>" in get(f"{world.url}/?{urlencode(fields)}")[1]
    s3 = AWSRequest("GET", f"{world.url}/?{urlencode(fields)}")
    SigV4QueryAuth(Credentials(*ROOT), "s3", REGION, expires=60).add_auth(s3)
    assert get(s3.url)[0] == 400 and b"<Code>IncompleteSignature</Code>" in get(s3.url)[1]
    signed = AWSRequest("POST", world.url + "/", {"Content-Type": "application/x-www-form-urlencoded"}, "Action=x")
    SigV4Auth(Credentials(*ROOT), "sts", REGION).add_auth(signed)
    for body, status in ((urlencode(fields).encode(), 403), (b"a=b&" * 20_000, 400), (b"%ff=\xff", 400)):
        connection = http.client.HTTPConnection(urlsplit(world.url).netloc, timeout=10)
        connection.request("POST", "/", body, dict(signed.headers))
        answer = connection.getresponse()
        assert (answer.status, b"<ErrorResponse " in answer.read()) == (status, True)
        connection.close()
