"""AWS Signature Version 2 (HMAC-SHA1), verified: Authorization header and presigned query.

boto3 and the AWS CLI still presign URLs so where nobody tells them otherwise, and older clients sign everything so.
Signed are the method, Content-MD5, Content-Type, the date or the end of validity, all x-amz-* headers, and the path and
the sub-resources that the scheme knows. x-amz-* parameters of the query count as headers everywhere, so here too. A
request for a sub-resource that it does not know is refused: whoever holds a signed URL could turn it into another
request. Nothing of the body is signed, as with UNSIGNED-PAYLOAD.
Source: AWS, "Signing and authenticating REST requests", Amazon S3 developer guide.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from gateway.s3.errors import S3Error
from gateway.s3.operations import TABLE
from gateway.s3.sigv4 import (
    DATE_FORMAT,
    TOKEN,
    Auth,
    PayloadMode,
    check_skew,
    expired,
    old_signature,
    payload_mode,
)
from gateway.s3.target import Query, Target

SUB_RESOURCES = frozenset(
    ("accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics",
     "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment", "response-cache-control",
     "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type",
     "response-expires", "restore", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions",
     "website")
)  # fmt: skip
_UNSIGNED = frozenset(("list-type", "id"))  # they choose among forms, or names, of what is signed
_NOT_KNOWN = frozenset(marker for row in TABLE for marker in row.markers) - SUB_RESOURCES - _UNSIGNED
_AUTHORIZATION = re.compile(r"AWS ([^: ]+):([^ ]+)")
_OF_URL = ("AWSAccessKeyId", "Signature", "Expires")


class Claim(NamedTuple):
    """What a request says of its own signature, before anything of it is believed."""

    access_key: str
    signature: str
    date: str  # as it is signed: of the Date header, or Unix seconds when a URL ends; "": among the x-amz-* headers
    signed_at: str = ""  # 20130524T000000Z; "" of a URL: it does not say
    presigned: bool = False
    token: str | None = None  # of a session


def is_signed(target: Target, headers: Mapping[str, str]) -> bool:
    return headers.get("authorization", "").startswith("AWS ") or "AWSAccessKeyId" in target.query


def read_claim(target: Target, headers: Mapping[str, str], now: float) -> Claim:
    """What the request says of its signature, as far as it can be judged without a secret. S3Error."""
    header = headers.get("authorization")
    if header and any(name in target.query for name in (*_OF_URL, "X-Amz-Algorithm")):
        raise S3Error("InvalidArgument", "Only one auth mechanism allowed: the Authorization header or the query.")
    if any(name in _NOT_KNOWN for name, _ in target.query.pairs):
        raise old_signature()
    if payload_mode(_payload(headers), strict=False).signed:
        raise old_signature()
    amz = amz_headers(headers, target.query)
    token = amz.get(TOKEN) or None
    if not header:
        return _of_url(target.query, token, now)
    found = _AUTHORIZATION.fullmatch(header.strip())
    if found is None:
        text = "AWS authorization header is invalid. Expected AwsAccessKeyId:signature"
        raise S3Error("InvalidArgument", text, extra={"ArgumentName": "Authorization", "ArgumentValue": header})
    said = amz.get("x-amz-date") or headers.get("date", "")
    signed_at = _parsed(said)
    check_skew(signed_at.timestamp(), now, said)
    date = "" if "x-amz-date" in amz else said
    return Claim(found[1], found[2], date, signed_at.strftime(DATE_FORMAT), token=token)


def _of_url(query: Query, token: str | None, now: float) -> Claim:
    access_key, signature, expires = (query.get(name) or "" for name in _OF_URL)
    if not (access_key and signature and expires):
        text = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
        raise S3Error("AccessDenied", text)
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 11):
        raise S3Error("AccessDenied", f"Invalid date (should be seconds since epoch): {expires}")
    if int(expires) < now:
        raise expired(int(expires), now)
    return Claim(access_key, signature, expires, presigned=True, token=token)


def _parsed(date: str) -> datetime:
    """As HTTP writes it, or in the ISO 8601 basic format. S3Error."""
    try:
        if date.endswith("Z"):
            return datetime.strptime(date, DATE_FORMAT).replace(tzinfo=UTC)
        parsed = parsedate_to_datetime(date)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError):
        text = "AWS authentication requires a valid Date or x-amz-date header."
        raise S3Error("AccessDenied", text) from None


def check_claim(method: str, target: Target, headers: Mapping[str, str], claim: Claim, secret: str | None) -> Auth:
    """`secret` None: the access key is not known. S3Error."""
    if secret is None:
        raise S3Error("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.access_key})
    text = string_to_sign(method, target, headers, claim.date).encode("utf-8", "surrogateescape")
    texts = [text]
    if (
        target.key is None and target.bucket is not None
    ):  # botocore signs the slash behind a bucket that it does not send
        shown = target._replace(path=target.path.removesuffix("/") if target.path.endswith("/") else target.path + "/")
        texts.append(string_to_sign(method, shown, headers, claim.date).encode("utf-8", "surrogateescape"))
    given = claim.signature.encode("utf-8", "surrogateescape")
    made = [base64.b64encode(hmac.digest(secret.encode(), one, "sha1")) for one in texts]
    if not any([hmac.compare_digest(one, given) for one in made]):
        extra = {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": text.decode("utf-8", "surrogateescape"),
            "SignatureProvided": claim.signature,
            "StringToSignBytes": text.hex(" "),
            "Hint": "StringToSign is what arrived. Is the secret that of this key? Does a proxy change the path, Date, "
            "Content-Type, Content-MD5 or an x-amz-* header?",
        }
        raise S3Error("SignatureDoesNotMatch", extra=extra)
    mode = payload_mode(_payload(headers), strict=False)
    digest = headers["x-amz-content-sha256"] if mode is PayloadMode.HASHED else ""
    return Auth(claim.access_key, mode, digest, claim.signed_at, "", "", b"", presigned=claim.presigned)


def string_to_sign(method: str, target: Target, headers: Mapping[str, str], date: str) -> str:
    lines = [method, *(headers.get(name) or target.query.get(name) or "" for name in ("content-md5", "content-type"))]
    lines.append(date)
    lines.extend(f"{name}:{value}" for name, value in sorted(amz_headers(headers, target.query).items()))
    return "\n".join((*lines, canonical_resource(target)))


def amz_headers(headers: Mapping[str, str], query: Query) -> dict[str, str]:
    """Those that came, and those that stand in the query of a presigned URL."""
    found = {name: value for name, value in headers.items() if name.startswith("x-amz-")}
    for name, value in query.pairs:
        if name.lower().startswith("x-amz-"):
            found.setdefault(name.lower(), value)
    return found


def canonical_resource(target: Target) -> str:
    path = f"/{target.bucket}{target.path}" if target.virtual_host else target.path
    signed = sorted((name, value) for name, value in target.query.pairs if name in SUB_RESOURCES)
    return path + ("?" if signed else "") + "&".join(f"{name}={value}" if value else name for name, value in signed)


def _payload(headers: Mapping[str, str]) -> str:
    return headers.get("x-amz-content-sha256", PayloadMode.UNSIGNED.value)
