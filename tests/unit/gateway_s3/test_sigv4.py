"""Signatures: AWS's published examples, boto3 as the other side, and everything that must be refused."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error, render_error
from gateway.s3.sigv4 import EMPTY_SHA256, Auth, PayloadMode, SigningKeys, verify
from gateway.s3.target import Query, parse_target
from tests.unit.gateway_s3 import boto
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, DATE, NOW, Signer, secret_of

KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)
HOST = "examplebucket.s3.amazonaws.com"
BASIC = {"host": HOST, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": DATE}


def check(method: str, target: str, headers: dict[str, str], *, now: float = NOW) -> Auth:
    parsed = parse_target(target, headers.get("host", ""), None)
    return verify(method, parsed, headers, secret_of=secret_of, keys=SigningKeys(), now=now)


def refused(method: str, target: str, headers: dict[str, str], *, now: float = NOW) -> S3Error:
    with pytest.raises(S3Error) as caught:
        check(method, target, headers, now=now)
    return caught.value


def signed(headers: dict[str, str] | None = None, *, unsigned: dict[str, str] | None = None) -> dict[str, str]:
    """Headers of GET /b/k."""
    every = {**BASIC, **(headers or {})}
    return {**every, "authorization": Signer().authorization("GET", "/b/k", [], every), **(unsigned or {})}


def authorization(names: str, signature: str) -> str:
    credential = f"{ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"


PUBLISHED = [
    (
        "GET",
        "/test.txt",
        {**BASIC, "range": "bytes=0-9"},
        authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ),
    (
        "PUT",
        "/test%24file.text",
        {
            "host": HOST,
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "x-amz-date": DATE,
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        authorization(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    ),
    (
        "GET",
        "/?lifecycle",
        BASIC,
        authorization(
            "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        ),
    ),
    (
        "GET",
        "/?max-keys=2&prefix=J",
        BASIC,
        authorization(
            "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ),
    ),
]


@pytest.mark.parametrize(("method", "target", "headers", "value"), PUBLISHED)
def test_the_published_examples_of_aws_verify(method: str, target: str, headers: dict[str, str], value: str) -> None:
    auth = check(method, target, {**headers, "authorization": value})
    assert auth.access_key == ACCESS_KEY
    assert auth.mode is PayloadMode.HASHED
    assert auth.payload_sha256 == headers["x-amz-content-sha256"]


def test_the_published_presigned_example_of_aws_verifies_until_it_expires() -> None:
    target = (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    auth = check("GET", target, {"host": HOST}, now=NOW + 86400)
    assert auth.presigned and auth.mode is PayloadMode.UNSIGNED
    error = refused("GET", target, {"host": HOST}, now=NOW + 86401)
    assert (error.code, "expired" in error.message) == ("AccessDenied", True)
    assert refused("GET", target, {"host": HOST}, now=NOW - 901).code == "AccessDenied"
    assert refused("GET", target, {"host": HOST, "x-amz-acl": "private"}).extra == {"HeadersNotSigned": "x-amz-acl"}


@settings(max_examples=60, deadline=None)
@given(key=KEYS, style=st.sampled_from(("path", "virtual")))
def test_what_boto3_signs_for_any_key_verifies_and_names_that_key(key: str, style: str) -> None:
    s3 = boto.client(style=style)
    sent = boto.send(s3, lambda c: c.delete_object(Bucket="bucket", Key=key))
    assert sent.verify().access_key == ACCESS_KEY
    assert (sent.target.bucket, sent.target.key) == ("bucket", key)
    assert sent.target.virtual_host == (style == "virtual")


@settings(max_examples=40, deadline=None)
@given(prefix=KEYS, delimiter=KEYS)
def test_what_boto3_signs_for_any_query_verifies_and_decodes_to_it(prefix: str, delimiter: str) -> None:
    sent = boto.send(boto.client(), lambda c: c.list_objects_v2(Bucket="bucket", Prefix=prefix, Delimiter=delimiter))
    sent.verify()
    assert (sent.target.query.get("prefix"), sent.target.query.get("delimiter")) == (prefix, delimiter)


@settings(max_examples=40, deadline=None)
@given(key=KEYS)
def test_what_boto3_presigns_verifies_and_a_changed_query_does_not(key: str) -> None:
    params: dict[str, object] = {"Bucket": "bucket", "Key": key, "ResponseContentType": "text/plain"}
    sent = boto.presigned(boto.client(), "get_object", params, expires=60)
    assert sent.verify().presigned
    longer = Query((name, "61" if name == "X-Amz-Expires" else value) for name, value in sent.target.query.pairs)
    with pytest.raises(S3Error) as caught:
        replace(sent, target=sent.target._replace(query=longer)).verify()
    assert caught.value.code == "SignatureDoesNotMatch"
    with pytest.raises(S3Error) as caught:
        replace(sent, method="DELETE").verify()
    assert caught.value.code == "SignatureDoesNotMatch"


def test_the_payload_mode_of_boto3_over_tls_is_the_unsigned_trailer() -> None:
    s3 = boto.client("https://s3.example.test")
    sent = boto.send(s3, lambda c: c.put_object(Bucket="bucket", Key="k", Body=b"body"))
    assert sent.verify().mode is PayloadMode.UNSIGNED_TRAILER


@pytest.mark.parametrize("mode", [mode for mode in PayloadMode if mode is not PayloadMode.HASHED])
def test_every_payload_mode_is_recognised(mode: PayloadMode) -> None:
    headers = signed({"x-amz-content-sha256": mode.value})
    assert check("GET", "/b/k", headers).mode is mode


def test_unknown_payload_modes_are_refused() -> None:
    assert refused("GET", "/b/k", signed({"x-amz-content-sha256": "nonsense"})).code == "InvalidArgument"
    ecdsa = signed({"x-amz-content-sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"})
    assert refused("GET", "/b/k", ecdsa).code == "NotImplemented"
    assert refused("GET", "/b/k", signed({"x-amz-content-sha256": "hex sha256"})).code == "InvalidArgument"


def test_any_region_is_accepted_and_the_result_carries_its_scope() -> None:
    signer = Signer(region="mars-north-7")
    headers = {**BASIC, "authorization": signer.authorization("GET", "/b/k", [], BASIC)}
    auth = check("GET", "/b/k", headers)
    assert (auth.scope, auth.signing_key) == (signer.scope, signer.key)


@pytest.mark.parametrize("skew", [-900, 900, 0])
def test_a_clock_that_is_off_by_up_to_fifteen_minutes_is_accepted(skew: int) -> None:
    check("GET", "/b/k", signed(), now=NOW + skew)


@pytest.mark.parametrize(("skew", "words"), [(901, "901 s behind"), (-1000, "1000 s ahead of")])
def test_a_clock_that_is_off_by_more_is_refused_with_the_skew_in_seconds(skew: int, words: str) -> None:
    error = refused("GET", "/b/k", signed(), now=NOW + skew)
    assert error.code == "RequestTimeTooSkewed"
    assert words in error.message


@pytest.mark.parametrize("name", ["x-amz-copy-source", "x-amz-acl", "x-amz-meta-a", "x-amz-security-policy"])
def test_an_unsigned_amz_header_is_refused_by_name(name: str) -> None:
    error = refused("GET", "/b/k", signed(unsigned={name: "x"}))
    assert (error.code, error.extra) == ("AccessDenied", {"HeadersNotSigned": name})


def test_other_unsigned_headers_are_fine() -> None:
    check("GET", "/b/k", signed(unsigned={"content-type": "text/plain", "content-md5": "x", "user-agent": "y"}))


def test_the_host_must_be_signed() -> None:
    without = {name: value for name, value in BASIC.items() if name != "host"}
    headers = {**BASIC, "authorization": Signer().authorization("GET", "/b/k", [], without)}
    assert refused("GET", "/b/k", headers).extra == {"HeadersNotSigned": "host"}


def test_a_wrong_signature_shows_what_was_signed_here() -> None:
    headers = signed()
    error = refused("GET", "/b/other", headers)
    assert error.code == "SignatureDoesNotMatch"
    assert error.extra["CanonicalRequest"].splitlines()[1] == "/b/other"
    assert error.extra["StringToSign"].startswith(f"AWS4-HMAC-SHA256\n{DATE}\n")
    assert "secret key" in error.extra["Hint"]


@pytest.mark.parametrize(
    ("name", "sent", "arrived", "extra"),
    [
        ("accept-encoding", "identity", "gzip", {}),
        ("host", "s3.example.test", "10.0.0.1:9000", {"x-forwarded-host": "s3.example.test"}),
        ("host", "s3.example.test", "s3.example.test:80", {}),
    ],
)
def test_the_hint_names_the_header_that_a_proxy_rewrote(
    name: str, sent: str, arrived: str, extra: dict[str, str]
) -> None:
    headers = {**signed({name: sent}), name: arrived, **extra}
    hint = refused("GET", "/b/k", headers).extra["Hint"]
    assert f"header {name} is {sent!r}" in hint


def test_the_hint_names_signed_headers_that_did_not_arrive() -> None:
    headers = signed({"te": "trailers"})
    del headers["te"]
    assert "te" in refused("GET", "/b/k", headers).extra["Hint"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authorization": "AWS AKIA:c2ln"}, "InvalidRequest"),
        ({"authorization": "Bearer x"}, "InvalidArgument"),
        ({"authorization": "AWS x"}, "InvalidArgument"),
        ({"authorization": ""}, "AccessDenied"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/b"}, "AuthorizationHeaderMalformed"),
        ({"x-amz-date": "yesterday"}, "AccessDenied"),
        ({"x-amz-date": "20131324T000000Z"}, "AuthorizationHeaderMalformed"),
        ({"x-amz-date": "20130525T000000Z"}, "AuthorizationHeaderMalformed"),
    ],
)
def test_malformed_header_authentication_is_refused(change: dict[str, str], code: str) -> None:
    assert refused("GET", "/b/k", {**signed(), **change}).code == code


def test_the_old_signature_is_refused_in_the_words_that_clients_compare() -> None:
    words = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    assert refused("GET", "/b/k", {"host": "h", "authorization": "AWS AKIA:c2ln"}).message == words


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("Signature=", "Signature=\xe9", "SignatureDoesNotMatch"),
        ("Signature=", "Signature=\udce9", "SignatureDoesNotMatch"),
        ("us-east-1", "\udce9", "AuthorizationHeaderMalformed"),
        (ACCESS_KEY, "\xe9", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=", "SignedHeaders=\udce9;", "SignatureDoesNotMatch"),
    ],
)
def test_authentication_that_is_not_ascii_is_refused_like_any_other(old: str, new: str, code: str) -> None:
    headers = signed()
    headers["authorization"] = headers["authorization"].replace(old, new)
    error = refused("GET", "/b/k", headers)
    assert error.code == code
    render_error(error, resource="/b/k", request_id="1")


def test_missing_authentication_is_access_denied_and_unknown_keys_are_named() -> None:
    assert refused("GET", "/b/k", BASIC).code == "AccessDenied"
    headers = signed()
    headers["authorization"] = headers["authorization"].replace(ACCESS_KEY, "AKIANOBODY")
    error = refused("GET", "/b/k", headers)
    assert (error.code, error.extra) == ("InvalidAccessKeyId", {"AWSAccessKeyId": "AKIANOBODY"})


def test_the_payload_hash_is_required_and_session_tokens_are_not_supported() -> None:
    headers = {"host": HOST, "x-amz-date": DATE}
    value = authorization("host;x-amz-date", "0" * 64)
    assert refused("GET", "/b/k", {**headers, "authorization": value}).code == "InvalidRequest"
    assert refused("GET", "/b/k", signed({"x-amz-security-token": "t"})).code == "InvalidToken"


def test_header_and_query_authentication_together_are_refused() -> None:
    assert refused("GET", "/b/k?X-Amz-Signature=00", signed()).code == "InvalidArgument"


@pytest.mark.parametrize("service", ["s3/aws5_request", "ec2/aws4_request", "s3", "//"])
def test_the_scope_must_be_that_of_s3(service: str) -> None:
    value = signed()["authorization"].replace("s3/aws4_request", service)
    assert refused("GET", "/b/k", {**BASIC, "authorization": value}).code == "AuthorizationHeaderMalformed"


def presigned_target(expires: str) -> str:
    return (
        f"/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fr%2Fs3%2Faws4_request"
        f"&X-Amz-Date={DATE}&X-Amz-Expires={quote(expires)}&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
    )


@pytest.mark.parametrize("expires", ["604801", "-1", "1e3", "", "٣"])
def test_a_presigned_url_lives_a_week_at_most(expires: str) -> None:
    assert refused("GET", presigned_target(expires), {"host": HOST}).code == "AuthorizationQueryParametersError"


def test_a_presigned_url_of_no_seconds_has_expired() -> None:
    error = refused("GET", presigned_target("0"), {"host": HOST})
    assert (error.code, error.message) == ("AccessDenied", "Request has expired, 0 s ago.")


def test_a_date_header_stands_in_for_x_amz_date() -> None:
    headers = {"date": "Fri, 24 May 2013 02:00:00 +0200", "host": HOST, "x-amz-content-sha256": EMPTY_SHA256}
    value = Signer().authorization("GET", "/b/k", [], headers)
    assert check("GET", "/b/k", {**headers, "authorization": value}).date == DATE


@pytest.mark.parametrize("path", ["/b//k", "/b/./k", "/b/../k", "/b/a+b", "/b/%E2%82%AC", "/b/a%2Bb", "/b/a~b", "/b/"])
def test_paths_are_signed_without_normalisation(path: str) -> None:
    canonical = path.replace("+", "%2B")
    headers = {**BASIC, "authorization": Signer().authorization("GET", canonical, [], BASIC)}
    check("GET", path, headers)


def test_repeated_and_spaced_headers_are_signed_in_their_canonical_form() -> None:
    every = {**BASIC, "x-amz-meta-a": "a  b   c,d"}
    canonical = {**BASIC, "x-amz-meta-a": "a b c,d"}
    value = Signer().authorization("GET", "/b/k", [], canonical)
    check("GET", "/b/k", {**every, "authorization": value})


def test_the_cache_of_signing_keys_is_bounded_and_right_after_eviction() -> None:
    keys = SigningKeys(limit=2)
    first = keys.derive("secret", "20130524", "us-east-1")
    for region in ("a", "b", "c"):
        keys.derive("secret", "20130524", region)
    assert len(keys._keys) == 2
    assert keys.derive("secret", "20130524", "us-east-1") == first == Signer("secret").key
