"""A gateway with users and roles, and clients that ask it for sessions and use them."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.engine.identities import Identities
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine

S3_ARN = "arn:aws:s3:::"
ROLE = "arn:aws:iam::000000000001:role/"
SESSION = "arn:aws:sts::000000000001:assumed-role/"
VERSION = "2011-06-15"


class Clock(SystemClock):
    """May be put ahead, on its wall."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + 1000 * self.ahead_s


class Keys(NamedTuple):
    id: str
    secret: str
    token: str | None = None


class World(NamedTuple):
    url: str
    identities: Identities
    clock: Clock

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def forget(self) -> None:
        """As 2 seconds later."""
        self.identities._known.clear()
        self.identities._known_roles.clear()

    def client(self, service: str, keys: Keys, **more: Any) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION,
            aws_access_key_id=keys.id, aws_secret_access_key=keys.secret, aws_session_token=keys.token,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **more),
        )  # fmt: skip

    def s3(self, keys: Keys, **more: Any) -> Any:
        return self.client("s3", keys, signature_version="s3v4", **more)

    def sts(self, keys: Keys) -> Any:
        return self.client("sts", keys)

    def user(self, name: str, *policies: str) -> Keys:
        self.run(self.identities.create_user(name))
        for policy in policies:
            self.run(self.identities.attach(name, policy))
        key, secret = self.run(self.identities.create_key(name))
        return Keys(key.id, secret)

    def role(self, name: str, *policies: str, trust: str = "ann") -> None:
        self.run(self.identities.create_role(name, (trust,), policies))

    def assume(self, keys: Keys, role: str, **more: Any) -> Keys:
        arguments = {"RoleArn": ROLE + role, "RoleSessionName": "work", **more}
        return of(self.sts(keys).assume_role(**arguments))


ROOT = Keys(ACCESS_KEY, SECRET_KEY)


def of(answer: dict[str, Any]) -> Keys:
    found = answer["Credentials"]
    return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


@contextmanager
def running() -> Iterator[World]:
    """A gateway with a bucket of two objects."""
    engine, clock = MemoryEngine(), Clock()
    identities = Identities(engine.registers, clock, SystemRandom(), b"the secret of a cluster")
    with local_gateway(engine, settings(identities=identities, clock=clock)) as gateway:
        made = World(gateway.url, identities, clock)
        s3 = made.s3(ROOT)
        s3.create_bucket(Bucket="mine")
        s3.put_object(Bucket="mine", Key="a/x", Body=b"x")
        s3.put_object(Bucket="mine", Key="b/y", Body=b"y")
        yield made


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def call(
    world: World, fields: dict[str, str], keys: Keys = ROOT, *, method: str = "POST", **headers: str
) -> tuple[int, str]:
    """Signed for STS; another body may be sent than is signed."""
    url, form = world.url + "/", urlencode(fields)
    sent = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", **headers}
    request = AWSRequest(method, url if method == "POST" else f"{url}?{form}", sent, form if method == "POST" else "")
    SigV4Auth(Credentials(keys.id, keys.secret, keys.token), "sts", REGION).add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request(method, f"{parts.path}?{parts.query}", prepared.body or None, dict(prepared.headers))
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    assert answer.getheader("Content-Type") == "text/xml" and answer.getheader("x-amzn-RequestId")
    connection.close()
    return found


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
