"""Signatures of any request at all: botocore signs, the gateway verifies; and one change of anything is noticed.

The requests are those that no SDK operation limits: any method, key, query, headers and payload mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import PayloadMode
from gateway.s3.target import Query
from tests.unit.gateway_s3.boto import Sent, received
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, SECRET_KEY

ENDPOINT = "http://s3.example.test:9000"
REGIONS = st.sampled_from(("us-east-1", "eu-central-1", "x", "auto"))
METHODS = st.sampled_from(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"))
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: not name.lower().startswith("x-amz-")
)
_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=10)
# What botocore leaves out on purpose, sets itself, or may not come twice.
_NOT_SIGNED = ("expect", "transfer-encoding", "user-agent", "x-amzn-trace-id", "host", "authorization", "date")
HEADERS = st.dictionaries(
    st.one_of(
        _TOKEN.filter(lambda name: name not in _NOT_SIGNED and not name.startswith("x-amz")),
        st.builds("x-amz-meta-{}".format, _TOKEN),
    ),
    st.text([chr(code) for code in range(0x20, 0x7F)] + ["\t"], max_size=20),
    max_size=5,
)


class Request(NamedTuple):
    method: str
    bucket: str
    key: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    region: str

    @property
    def url(self) -> str:
        return f"{ENDPOINT}/{self.bucket}/{quote(self.key, safe='/~')}"


REQUESTS = st.builds(
    Request,
    METHODS,
    st.sampled_from(("bucket", "a.b-c")),
    TEXT,
    st.lists(st.tuples(NAMES, TEXT), max_size=4, unique_by=lambda pair: pair[0]),
    HEADERS,
    st.binary(max_size=20),
    REGIONS,
)


def signed(request: Request, mode: PayloadMode = PayloadMode.HASHED) -> Sent:
    """With an Authorization header."""
    made = AWSRequest(request.method, request.url, dict(request.headers), request.body, list(request.query))
    if mode is PayloadMode.UNSIGNED_TRAILER:
        made.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    elif mode is PayloadMode.UNSIGNED:
        made.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", request.region).add_auth(made)
    return _sent(made)


def presigned(request: Request) -> Sent:
    made = AWSRequest(request.method, request.url, dict(request.headers), b"", list(request.query))
    made.url = made.prepare().url  # the signer reads the query from there
    made.params = {}
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", request.region, expires=60).add_auth(made)
    return _sent(made)


def _sent(made: AWSRequest) -> Sent:
    ready = made.prepare()
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in ready.headers.items()}
    return received(ready.method, ready.url, headers, made.data)


def check_target(sent: Sent, request: Request) -> None:
    assert (sent.target.bucket, sent.target.key) == (request.bucket, request.key or None)
    own = [pair for pair in sent.target.query.pairs if not pair[0].startswith("X-Amz-")]
    assert sorted(own) == sorted(request.query)


@settings(max_examples=150, deadline=None)
@given(request=REQUESTS)
def test_any_request_that_botocore_signs_verifies(request: Request) -> None:
    sent = signed(request)
    auth = sent.verify()
    assert (auth.access_key, auth.mode, auth.presigned) == (ACCESS_KEY, PayloadMode.HASHED, False)
    assert auth.payload_sha256 == hashlib.sha256(request.body).hexdigest()
    assert auth.scope.split("/")[1] == request.region
    check_target(sent, request)


@settings(max_examples=60, deadline=None)
@given(request=REQUESTS, mode=st.sampled_from((PayloadMode.UNSIGNED, PayloadMode.UNSIGNED_TRAILER)))
def test_so_does_one_whose_payload_it_leaves_unsigned(request: Request, mode: PayloadMode) -> None:
    assert signed(request, mode).verify().mode is mode


@settings(max_examples=150, deadline=None)
@given(request=REQUESTS)
def test_any_request_that_botocore_presigns_verifies(request: Request) -> None:
    sent = presigned(request)
    auth = sent.verify(now=sent.now + 60)
    assert (auth.access_key, auth.mode, auth.presigned) == (ACCESS_KEY, PayloadMode.UNSIGNED, True)
    check_target(sent, request)
    with pytest.raises(S3Error) as caught:
        sent.verify(now=sent.now + 61)
    assert caught.value.code == "AccessDenied"


def _other_method(sent: Sent) -> Sent:
    return replace(sent, method="GET" if sent.method != "GET" else "DELETE")


def _other_path(sent: Sent) -> Sent:
    return replace(sent, target=sent.target._replace(path=sent.target.path + "x"))


def _one_parameter_more(sent: Sent) -> Sent:
    return replace(sent, target=sent.target._replace(query=Query([*sent.target.query.pairs, ("acl", "")])))


def _no_parameter(sent: Sent) -> Sent:
    """Those of the signature stay; one of an unsigned request is added if there is none to lose."""
    kept = [pair for pair in sent.target.query.pairs if pair[0].startswith("X-Amz-")]
    if len(kept) == len(sent.target.query.pairs):
        return _one_parameter_more(sent)
    return replace(sent, target=sent.target._replace(query=Query(kept)))


def _other_host(sent: Sent) -> Sent:
    return replace(sent, headers={**sent.headers, "host": "elsewhere.test"})


def _one_amz_header_more(sent: Sent) -> Sent:
    return replace(sent, headers={**sent.headers, "x-amz-copy-source": "/bucket/secret"})


CHANGES = (_other_method, _other_path, _one_parameter_more, _no_parameter, _other_host, _one_amz_header_more)


@settings(max_examples=150, deadline=None)
@given(request=REQUESTS, sign=st.sampled_from((signed, presigned)), change=st.sampled_from(CHANGES))
def test_one_change_of_any_kind_is_refused(
    request: Request, sign: Callable[[Request], Sent], change: Callable[[Sent], Sent]
) -> None:
    with pytest.raises(S3Error) as caught:
        change(sign(request)).verify()
    wanted = "AccessDenied" if change is _one_amz_header_more else "SignatureDoesNotMatch"
    assert caught.value.code == wanted


@settings(max_examples=100, deadline=None)
@given(request=REQUESTS, position=st.integers(0, 63), digit=st.sampled_from("0123456789abcdef"))
def test_no_other_signature_is_taken(request: Request, position: int, digit: str) -> None:
    sent = signed(request)
    header = sent.headers["authorization"]
    start = len(header) - 64 + position
    if header[start] == digit:
        digit = "0" if digit != "0" else "1"
    forged = header[:start] + digit + header[start + 1 :]
    with pytest.raises(S3Error) as caught:
        replace(sent, headers={**sent.headers, "authorization": forged}).verify()
    assert caught.value.code == "SignatureDoesNotMatch"
