"""CORS: what browsers are told, with the rules of a bucket."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.errors import error_code, status_of
from tests.s3.wire import Answer, Wire

ORIGINS = [("*suffix", "GET"), ("start*end", "GET"), ("prefix*", "GET"), ("*.put", "PUT")]
RULES = [{"AllowedOrigins": [origin], "AllowedMethods": [method]} for origin, method in ORIGINS]


def configure(s3: Any, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": list(rules)})


def ask(wire: Wire, method: str, path: str, **headers: str) -> Answer:
    """Without a signature, as browsers send a preflight."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {wire.host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    wire.send("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
    return wire.answer(method)


def allowed(answer: Answer) -> tuple[int, str | None, str | None]:
    names = ("access-control-allow-origin", "access-control-allow-methods")
    return (answer.status, *(answer.headers.get(name) for name in names))  # type: ignore[return-value]


def test_rules_are_kept_as_they_were_sent(s3: Any, bucket: str) -> None:
    assert error_code(s3.get_bucket_cors, Bucket=bucket) == "NoSuchCORSConfiguration"
    rule = {
        "ID": "one",
        "AllowedHeaders": ["x-amz-*", "content-type"],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["http://*.example", "https://example"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 0,
    }
    configure(s3, bucket, rule, RULES[0])
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [rule, RULES[0]]
    assert status_of(s3.delete_bucket_cors(Bucket=bucket)) == 204
    assert error_code(s3.get_bucket_cors, Bucket=bucket) == "NoSuchCORSConfiguration"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AllowedMethods": ["PATCH"]}, "InvalidRequest"),
        ({"AllowedMethods": ["get"]}, "InvalidRequest"),
        ({"AllowedMethods": []}, "MalformedXML"),
        ({"AllowedOrigins": []}, "MalformedXML"),
        ({"AllowedOrigins": ["*.a.*"]}, "InvalidRequest"),
        ({"AllowedHeaders": ["*-*"]}, "InvalidRequest"),
        ({"ExposeHeaders": ["x-*"]}, "InvalidRequest"),
        ({"MaxAgeSeconds": -1}, "MalformedXML"),
    ],
)
def test_other_rules_are_refused(s3: Any, bucket: str, changes: dict[str, Any], code: str) -> None:
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], **changes}
    assert error_code(configure, s3=s3, bucket=bucket) == "MalformedXML"
    with pytest.raises(s3.exceptions.ClientError) as caught:
        configure(s3, bucket, rule)
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("origin", "method"),
    [
        ("foo.suffix", "GET"),
        ("foo.bar", None),
        ("foo.suffix.get", None),
        ("startend", "GET"),
        ("start1end", "GET"),
        ("start12end", "GET"),
        ("0start12end", None),
        ("prefix", "GET"),
        ("prefix.suffix", "GET"),
        ("bla.prefix", None),
    ],
)
def test_the_answer_of_a_get_names_the_origin(
    s3: Any, bucket: str, wire: Wire, origin: str, method: str | None
) -> None:
    configure(s3, bucket, *RULES)
    shown = origin if method else None
    assert allowed(wire.request("GET", f"/{bucket}", origin=origin)) == (200, shown, method)
    assert allowed(wire.request("GET", f"/{bucket}/none", origin=origin)) == (404, shown, method)
    assert allowed(ask(wire, "GET", f"/{bucket}/none", Origin=origin)) == (403, shown, method)
    preflight = {"Origin": origin, "Access_Control_Request_Method": "GET"}
    assert allowed(ask(wire, "OPTIONS", f"/{bucket}/k", **preflight)) == (200 if method else 403, shown, method)


def test_the_method_that_is_announced_counts(s3: Any, bucket: str, wire: Wire) -> None:
    configure(s3, bucket, *RULES)
    for asked, wanted in (("GET", "GET"), ("PUT", None), ("DELETE", None), (None, None)):
        headers = {"Origin": "foo.suffix"} | ({"Access_Control_Request_Method": asked} if asked else {})
        shown = "foo.suffix" if wanted else None
        assert allowed(ask(wire, "PUT", f"/{bucket}/k", **headers)) == (403, shown, wanted)
    assert allowed(ask(wire, "PUT", f"/{bucket}/k", Origin="foo.put")) == (403, "foo.put", "PUT")
    plain = wire.request("GET", f"/{bucket}")
    assert not [name for name in plain.headers if name.startswith("access-control")]


def test_a_body_that_is_streamed_has_the_headers_too(s3: Any, bucket: str, wire: Wire) -> None:
    configure(s3, bucket, {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "HEAD"], "ExposeHeaders": ["ETag", "x"]})
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 300_000)
    for method in ("GET", "HEAD"):
        answer = wire.request(method, f"/{bucket}/k", origin="http://page")
        assert allowed(answer) == (200, "*", "GET, HEAD")
        assert answer.headers["access-control-expose-headers"] == "ETag, x"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


def test_a_preflight_says_which_headers_and_for_how_long(s3: Any, bucket: str, wire: Wire) -> None:
    rule = {"AllowedOrigins": ["http://page"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["X-Amz-*", "content-type"]}
    configure(s3, bucket, {**rule, "MaxAgeSeconds": 100})
    asked = {"Origin": "http://page", "Access_Control_Request_Method": "PUT"}
    answer = ask(wire, "OPTIONS", f"/{bucket}/k", **asked, Access_Control_Request_Headers="x-amz-acl, Content-Type")
    assert allowed(answer) == (200, "http://page", "PUT")
    assert answer.headers["access-control-allow-headers"] == "x-amz-acl, content-type"
    assert answer.headers["access-control-max-age"] == "100"
    assert answer.headers["access-control-allow-credentials"] == "true"
    refused = ask(wire, "OPTIONS", f"/{bucket}/k", **asked, Access_Control_Request_Headers="x-amz-acl, cookie")
    assert (allowed(refused), refused.code) == ((403, None, None), "AccessForbidden")


def test_a_preflight_without_rules_or_without_a_question(s3: Any, bucket: str, wire: Wire) -> None:
    asked = {"Origin": "http://page", "Access_Control_Request_Method": "GET"}
    for path in (f"/{bucket}", "/no-such-bucket-here/k", "/"):
        answer = ask(wire, "OPTIONS", path, **asked)
        assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert ask(wire, "OPTIONS", f"/{bucket}").code == "BadRequest"
    assert ask(wire, "OPTIONS", f"/{bucket}", Origin="http://page").code == "AccessForbidden"
    configure(s3, bucket, *RULES)
    for headers in ({}, {"Origin": "foo.suffix"}, {"Origin": "x", "Access_Control_Request_Method": "X"}):
        answer = ask(wire, "OPTIONS", f"/{bucket}", **headers)
        assert (answer.status, answer.code) == (400, "BadRequest")
