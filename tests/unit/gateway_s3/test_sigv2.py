"""Signature Version 2: botocore signs, the gateway verifies; and one change of anything that is signed is noticed."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import sigv2
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import Auth, PayloadMode
from gateway.s3.target import collect_headers, parse_target
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, SECRET_KEY

ENDPOINT = "http://s3.example.test:9000"
METHODS = st.sampled_from(("GET", "HEAD", "PUT", "POST", "DELETE"))
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda key: "/" not in key)
VALUES = st.text("abc XYZ-_.:/", max_size=12)
QUERIES = st.dictionaries(
    st.sampled_from(
        ("versionId", "uploads", "partNumber", "response-content-type", "prefix", "acl", "tagging", "x-id")
    ),
    st.text("abc1/ é", max_size=6),
    max_size=3,
)
HEADERS = st.dictionaries(
    st.sampled_from(("x-amz-meta-a", "x-amz-meta-b", "x-amz-acl", "Content-Type", "Content-MD5", "x-other")),
    VALUES.map(str.strip),
    max_size=4,
)


class Sent(NamedTuple):
    method: str
    target: str  # of the request line
    headers: dict[str, str]

    def verify(self, now: float) -> Auth:
        headers = collect_headers([(name.encode(), value.encode()) for name, value in self.headers.items()])
        target = parse_target(self.target, headers["host"], "buckets.test")
        claim = sigv2.read_claim(target, headers, now)
        return sigv2.check_claim(self.method, target, headers, claim, SECRET_KEY)


def made(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> AWSRequest:
    url = f"{ENDPOINT}/bucket/{quote(key, safe='/~')}"
    if query:
        url += "?" + "&".join(f"{name}={quote(value, safe='')}" if value else name for name, value in query.items())
    return AWSRequest(method, url, dict(headers), b"")


def sent(request: AWSRequest) -> Sent:
    parts = urlsplit(request.url)
    headers = {"host": parts.netloc, **dict(request.headers.items())}
    return Sent(request.method, parts.path + (f"?{parts.query}" if parts.query else ""), headers)


def signed(method: str = "GET", key: str = "k", query: dict[str, str] = {}, headers: dict[str, str] = {}) -> Sent:  # noqa: B006
    request = made(method, key, query, headers)
    HmacV1Auth(Credentials(ACCESS_KEY, SECRET_KEY)).add_auth(request)
    return sent(request)


def presigned(method: str = "GET", key: str = "k", query: dict[str, str] = {}, headers: dict[str, str] = {}) -> Sent:  # noqa: B006
    request = made(method, key, query, headers)
    HmacV1QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), expires=60).add_auth(request)
    return sent(request)._replace(headers={"host": urlsplit(ENDPOINT).netloc})


def now_of(one: Sent) -> float:
    if "Date" in one.headers:
        return sigv2._parsed(one.headers["Date"]).timestamp()
    return float(dict(parse_qsl(urlsplit(one.target).query))["Expires"]) - 60


def refused(one: Sent, now: float | None = None) -> S3Error:
    with pytest.raises(S3Error) as found:
        one.verify(now_of(one) if now is None else now)
    return found.value


@settings(deadline=None)
@given(METHODS, KEYS, QUERIES, HEADERS)
def test_any_signed_request_is_verified(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> None:
    one = signed(method, key, query, headers)
    found = one.verify(now_of(one))
    assert (found.access_key, found.mode, found.presigned) == (ACCESS_KEY, PayloadMode.UNSIGNED, False)


@settings(deadline=None)
@given(METHODS, KEYS, QUERIES, HEADERS)
def test_any_presigned_url_is_verified(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> None:
    """What was signed as a header stands in the query, and the client sends nothing more."""
    one = presigned(method, key, query, headers)
    found = one.verify(now_of(one))
    assert (found.access_key, found.presigned) == (ACCESS_KEY, True)


@pytest.mark.parametrize("make", [signed, presigned])
@pytest.mark.parametrize(
    "change",
    [
        lambda one: one._replace(method="PUT"),
        lambda one: one._replace(target=one.target.replace("/k", "/l")),
        lambda one: one._replace(target=one.target + "&acl"),
        lambda one: one._replace(target=one.target + "&response-content-type=text/html"),
        lambda one: one._replace(target=one.target + "&x-amz-acl=public-read"),
        lambda one: one._replace(headers={**one.headers, "x-amz-copy-source": "/other/secret"}),
        lambda one: one._replace(headers={**one.headers, "x-amz-meta-a": "2"}),
        lambda one: one._replace(headers={**one.headers, "content-type": "text/html"}),
    ],
)
def test_a_change_of_what_is_signed_is_noticed(make: Callable[..., Sent], change: Callable[[Sent], Sent]) -> None:
    one = make("GET", "k", {"versionId": "null"}, {"x-amz-meta-a": "1", "Content-Type": "text/plain"})
    changed = change(one)
    assert refused(changed, now_of(one)).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("make", [signed, presigned])
@pytest.mark.parametrize(
    "name", ["retention", "legal-hold", "attributes", "renameObject", "policyStatus", "encryption"]
)
def test_a_sub_resource_that_is_not_signed_is_refused(make: Callable[..., Sent], name: str) -> None:
    one = make("GET", "k", {"versionId": "null"})
    found = refused(one._replace(target=f"{one.target}&{name}"), now_of(one))
    assert found.code == "InvalidRequest" and "AWS4-HMAC-SHA256" in found.message


def test_a_url_ends() -> None:
    one = presigned()
    assert refused(one, now_of(one) + 61).message.startswith("Request has expired")
    for missing in ("Expires", "Signature"):
        target = one.target.replace(f"{missing}=", "other=")
        assert refused(one._replace(target=target), 0.0).code == "AccessDenied"
    assert refused(one._replace(target=one.target.replace("Expires=", "Expires=-")), 0.0).code == "AccessDenied"


@pytest.mark.parametrize("seconds", [-901, 901])
def test_the_clocks_of_both_must_agree(seconds: int) -> None:
    one = signed()
    assert refused(one, now_of(one) + seconds).code == "RequestTimeTooSkewed"


@pytest.mark.parametrize("date", ["", "yesterday", "20261399T000000Z", "Mon, 99 Nov 2026 00:00:00 GMT"])
def test_a_date_that_is_none(date: str) -> None:
    one = signed()
    assert refused(one._replace(headers={**one.headers, "Date": date}), 0.0).code == "AccessDenied"


def test_the_date_may_stand_in_another_header() -> None:
    """Then the line of the date is empty. botocore never does it."""
    text = "GET\n\n\n\nx-amz-date:Mon, 23 Nov 2026 12:00:00 GMT\n/bucket/k"
    signature = base64.b64encode(hmac.digest(SECRET_KEY.encode(), text.encode(), "sha1")).decode()
    headers = {"host": "h", "x-amz-date": "Mon, 23 Nov 2026 12:00:00 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT",
               "authorization": f"AWS {ACCESS_KEY}:{signature}"}  # fmt: skip
    one = Sent("GET", "/bucket/k", headers)
    assert one.verify(sigv2._parsed("20261123T120000Z").timestamp()).date == "20261123T120000Z"


def test_the_bucket_may_stand_in_the_host() -> None:
    one = signed()
    moved = Sent("GET", "/k", {**one.headers, "host": "bucket.buckets.test"})
    assert moved.verify(now_of(one)).access_key == ACCESS_KEY


def test_two_ways_to_sign_are_one_too_many() -> None:
    one = presigned()
    both = one._replace(headers={**one.headers, "authorization": f"AWS {ACCESS_KEY}:c2ln"})
    assert refused(both, 0.0).code == "InvalidArgument"


@pytest.mark.parametrize("value", ["AWS", "AWS ", f"AWS {ACCESS_KEY}", "AWS :x", f"AWS {ACCESS_KEY}:"])
def test_a_header_that_is_no_signature(value: str) -> None:
    one = signed()
    assert refused(one._replace(headers={**one.headers, "Authorization": value})).code == "InvalidArgument"


def test_an_unknown_key_and_what_was_signed_are_told() -> None:
    one = signed()
    headers = collect_headers([(name.encode(), value.encode()) for name, value in one.headers.items()])
    target = parse_target(one.target, headers["host"], None)
    claim = sigv2.read_claim(target, headers, now_of(one))
    with pytest.raises(S3Error) as unknown:
        sigv2.check_claim("GET", target, headers, claim, None)
    assert unknown.value.code == "InvalidAccessKeyId"
    with pytest.raises(S3Error) as other:
        sigv2.check_claim("GET", target, headers, claim, "another secret")
    assert other.value.extra["StringToSign"] == f"GET\n\n\n{one.headers['Date']}\n/bucket/k"
