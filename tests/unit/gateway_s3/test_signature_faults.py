"""What a 403 says of its cause: for each way in which a request suffers, the signature is made of another request than
the one that arrives, and the hint has to name what is different."""

from __future__ import annotations

import pytest

from gateway.s3 import signature_faults
from gateway.s3.canonical import signed_by
from gateway.s3.errors import S3Error, render_error
from gateway.s3.sigv4 import EMPTY_SHA256, SigningKeys, verify
from gateway.s3.target import parse_target
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, DATE, NOW, SECRET_KEY, Signer, secret_of

HOST = "s3.example.test"
BASIC = {"host": HOST, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": DATE}
Pairs = list[tuple[str, str]]


def refused(method: str, target: str, headers: dict[str, str], *, now: float = NOW) -> S3Error:
    parsed = parse_target(target, headers.get("host", ""), None)
    with pytest.raises(S3Error) as caught:
        verify(method, parsed, headers, secret_of=secret_of, keys=SigningKeys(), now=now)
    return caught.value


def signed(path: str, query: Pairs | None = None, *, method: str = "GET", **headers: str) -> dict[str, str]:
    every = {**BASIC, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {**every, "authorization": Signer().authorization(method, path, query or [], every)}


def hint_of(error: S3Error) -> str:
    assert error.code == "SignatureDoesNotMatch"
    return error.extra["Hint"]


@pytest.mark.parametrize(
    ("signed_headers", "arrived", "words"),
    [
        ({"host": HOST}, {"host": "10.0.0.1:9000", "x-forwarded-host": HOST}, f"header host is '{HOST}'"),
        ({"host": HOST}, {"host": "10.0.0.1", "forwarded": f"for=1.2.3.4;host={HOST}"}, f"header host is '{HOST}'"),
        ({"host": f"{HOST}:9000"}, {"host": HOST}, f"header host is '{HOST}:9000'"),
        ({"host": f"{HOST}:8443"}, {"host": HOST, "x-forwarded-port": "8443"}, f"host is '{HOST}:8443'"),
        ({"host": HOST}, {"host": f"{HOST}:9000"}, f"header host is '{HOST}'"),
        ({"content-type": "text/plain"}, {"content-type": "text/plain; charset=utf-8"}, "content-type is 'text/plain'"),
        ({"content-type": ""}, {"content-type": "application/x-www-form-urlencoded"}, "content-type is ''"),
        ({"accept-encoding": "identity"}, {"accept-encoding": "gzip"}, "accept-encoding is 'identity'"),
        ({"transfer-encoding": "chunked"}, {"transfer-encoding": ""}, "transfer-encoding is 'chunked'"),
        (
            {"content-length": "66560"},
            {"content-length": "", "x-amz-decoded-content-length": "66560"},
            "content-length is '66560'",
        ),
        ({"x-forwarded-for": "1.1.1.1"}, {"x-forwarded-for": "1.1.1.1, 10.0.0.1"}, "x-forwarded-for is '1.1.1.1'"),
    ],
)
def test_a_header_that_a_proxy_changed(signed_headers: dict[str, str], arrived: dict[str, str], words: str) -> None:
    every = {**BASIC, **signed_headers}
    if "x-amz-decoded-content-length" in arrived:
        every["x-amz-decoded-content-length"] = arrived["x-amz-decoded-content-length"]
    headers = {**every, "authorization": Signer().authorization("GET", "/b/k", [], every), **arrived}
    hint = hint_of(refused("GET", "/b/k", headers))
    assert words in hint
    assert "proxy" in hint


def test_two_headers_that_one_proxy_changed() -> None:
    headers = {**signed("/b/k", accept_encoding="identity"), "host": f"{HOST}:80", "accept-encoding": "gzip"}
    hint = hint_of(refused("GET", "/b/k", headers))
    assert f"header host is '{HOST}'" in hint
    assert "accept-encoding is 'identity'" in hint


@pytest.mark.parametrize(
    ("path", "arrived", "words"),
    [
        ("/b/a%2520b", "/b/a%20b", "the client encodes the path twice"),
        ("/b/a%20b", "/b/a%2520b", "encoded the path again"),
        ("/b/a b", "/b/a%20b", "without encoding it"),
        ("/b/a%20b", "/b/a+b", "send %20"),
        ("/b/a%2Bb", "/b/a%20b", "send %2B"),
        ("/b/a+b", "/b/a%20b", "as +; it must be %20"),
        ("/b/a%c3%a9", "/b/a%C3%A9", "lower-case hexadecimal"),
        ("/b/a(1)*", "/b/a%281%29%2A", "unencoded"),
        ("/b/x//y", "/b/x///y", ""),
        ("/b/x/y", "/b//x///y", "merges slashes"),
        ("/b", "/b/", "added a slash"),
        ("/b/", "/b", "removed a slash"),
        ("/b/x%2Fy", "/b/x/y", "encodes the slashes"),
    ],
)
def test_a_path_that_was_encoded_otherwise(path: str, arrived: str, words: str) -> None:
    hint = hint_of(refused("GET", arrived, signed(path)))
    assert words in hint
    assert ("The signature fits if the path" in hint) is bool(words)


def test_a_prefix_that_a_proxy_cut_off() -> None:
    headers = {**signed("/storage/b/k"), "x-forwarded-prefix": "/storage"}
    assert "removed '/storage'" in hint_of(refused("GET", "/b/k", headers))


def test_a_bucket_that_went_from_host_to_path_and_back() -> None:
    in_host = signed("/k", host=f"b.{HOST}")
    assert "style of addressing" in hint_of(refused("GET", "/b/k", {**in_host, "host": HOST}))
    assert "style of addressing" in hint_of(refused("GET", "/k", {**signed("/b/k"), "host": f"b.{HOST}"}))


@pytest.mark.parametrize(
    ("query", "arrived", "words"),
    [
        ([("prefix", "a+b")], "prefix=a+b", "send %2B"),
        ([("prefix", "a b")], "prefix=a%2Bb", "send %20"),
        ([("prefix", "a/b")], "prefix=a%252Fb", "encoded the query again"),
        ([("prefix", "a%2Fb")], "prefix=a%2Fb", "encodes the query twice"),
        ([("prefix", "a")], "prefix=a&utm_source=x", "without the parameter 'utm_source'"),
        ([], "a=1&b=2", "without the parameters a, b"),
    ],
)
def test_a_query_that_changed(query: Pairs, arrived: str, words: str) -> None:
    assert words in hint_of(refused("GET", f"/b?{arrived}", signed("/b", query)))


def test_the_method() -> None:
    assert "of a GET request, but HEAD arrived" in hint_of(refused("HEAD", "/b/k", signed("/b/k")))


def test_the_hash_of_the_payload() -> None:
    every = dict(BASIC)
    signature = Signer().signature("GET", "/b/k", [], every, "UNSIGNED-PAYLOAD")
    headers = {**every, "authorization": with_signature(signature)}
    assert "'UNSIGNED-PAYLOAD' as the hash of the payload" in hint_of(refused("GET", "/b/k", headers))


def with_signature(signature: str) -> str:
    return (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{Signer().scope}, "
        f"SignedHeaders={';'.join(sorted(BASIC))}, Signature={signature}"
    )


def of_secret(secret: str) -> str:
    signature = Signer(secret).signature("GET", "/b/k", [], BASIC, EMPTY_SHA256)
    return hint_of(refused("GET", "/b/k", {**BASIC, "authorization": with_signature(signature)}))


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (SECRET_KEY + "\n", "space or line end"),
        (" " + SECRET_KEY, "space or line end"),
        (f'"{SECRET_KEY}"', "quotes"),
        (SECRET_KEY.replace("/", "%2F"), "percent-encoded"),
        ("another", "Check the secret key first"),
    ],
)
def test_the_secret(secret: str, words: str) -> None:
    assert words in of_secret(secret)


@pytest.mark.parametrize("end", range(1, len(SECRET_KEY)))
def test_a_part_of_the_secret_is_as_wrong_as_any_other(end: int) -> None:
    """Or somebody could find it letter by letter."""
    assert of_secret(SECRET_KEY[:end]) == of_secret("another")


class _Other(Signer):
    """The key is derived for another scope than the one that is signed."""

    def __init__(self, *scope: str) -> None:
        super().__init__()
        object.__setattr__(self, "_derived", scope)

    @property
    def key(self) -> bytes:
        import hashlib
        import hmac

        key = b"AWS4" + SECRET_KEY.encode()
        for part in (*self._derived, "aws4_request"):  # type: ignore[attr-defined]
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key


@pytest.mark.parametrize(
    ("derived", "words"),
    [
        (("20130524", "eu-central-1", "s3"), "region 'eu-central-1'"),
        (("20130524", "us-east-1", "execute-api"), "service 'execute-api'"),
        (("20130525", "us-east-1", "s3"), "UTC"),
    ],
)
def test_the_scope_of_the_key(derived: tuple[str, ...], words: str) -> None:
    signature = _Other(*derived).signature("GET", "/b/k", [], BASIC, EMPTY_SHA256)
    assert words in hint_of(refused("GET", "/b/k", {**BASIC, "authorization": with_signature(signature)}))


@pytest.mark.parametrize(("region", "service"), [("us-east-1", "ec2"), ("eu-west-1", "s3-outposts")])
def test_a_wrong_service_is_named_at_once(region: str, service: str) -> None:
    credential = f"{ACCESS_KEY}/20130524/{region}/{service}/aws4_request"
    value = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00"
    error = refused("GET", "/b/k", {**BASIC, "authorization": value})
    assert error.code == "AuthorizationHeaderMalformed"
    assert service in error.message


def test_a_clock_that_is_wrong() -> None:
    error = refused("GET", "/b/k", signed("/b/k"), now=NOW + 1000)
    assert (error.code, error.status) == ("RequestTimeTooSkewed", 403)
    assert "1000 s behind" in error.message
    wanted = {"RequestTime": DATE, "ServerTime": "2013-05-24T00:16:40Z", "MaxAllowedSkewMilliseconds": "900000"}
    assert error.extra == wanted


def test_the_document_of_a_403() -> None:
    error = refused("GET", "/b/other", signed("/b/k"))
    names = ["AWSAccessKeyId", "StringToSign", "SignatureProvided", "StringToSignBytes", "CanonicalRequest"]
    assert list(error.extra) == [*names, "CanonicalRequestBytes", "Hint"]
    assert bytes.fromhex(error.extra["StringToSignBytes"]).decode() == error.extra["StringToSign"]
    assert bytes.fromhex(error.extra["CanonicalRequestBytes"]).decode() == error.extra["CanonicalRequest"]
    assert error.extra["CanonicalRequestBytes"].startswith("47 45 54 0a ")
    document = render_error(error, resource="/b/other", request_id="1")
    assert SECRET_KEY.encode() not in document
    assert Signer().key.hex().encode() not in document


def test_what_it_costs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted(key: bytes, text: str, signature: str) -> bool:
        lengths.append(len(text))
        return signed_by(key, text, signature)

    monkeypatch.setattr(signature_faults, "signed_by", counted)
    many = ",".join(f"h{number}" for number in range(200))
    plain = signed("/b/k", content_type="text/plain", accept_encoding="gzip", connection="close", x_forwarded_for=many)
    hint_of(refused("GET", "/b/other", {**plain, "x-forwarded-host": "a", "x-forwarded-port": "1"}))
    few = len(lengths)
    assert 30 < few <= signature_faults.TRIES_MAX + 30
    lengths.clear()
    hint_of(refused("GET", "/b/other?prefix=" + "x" * 16_000, plain))
    assert len(lengths) < few
