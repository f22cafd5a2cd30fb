"""AWS Signature Version 4 (AWS4-HMAC-SHA256), verified: Authorization header and presigned query.

Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API reference. As S3 does it: the path is
decoded and encoded once and never normalised, any region is accepted as long as the scope is consistent, and every
x-amz-* header must be signed, because an unsigned one is how a presigned URL is turned into another request.
Signatures of chunks and trailers go on from the result, in `chunked`. A refusal says what did not fit
(`signature_faults`); what may be told is only what the client sent or could compute itself.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from gateway.s3.canonical import ALGORITHM, Canonical, signed_by, signing_key, string_to_sign
from gateway.s3.errors import S3Error
from gateway.s3.signature_faults import Signature, explain
from gateway.s3.target import Target, percent_decode, percent_encode

SKEW_S = 15 * 60
EXPIRES_MAX_S = 7 * 24 * 3600
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256\s+(?P<fields>.+)")
_OLD_AUTHORIZATION = re.compile("AWS [^: ]+:[^ ]+")  # Signature Version 2
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
TOKEN = "x-amz-security-token"
TOKEN_IN_QUERY = "X-Amz-Security-Token"


class PayloadMode(Enum):
    """What x-amz-content-sha256 says of the body."""

    HASHED = "hex sha256"
    UNSIGNED = "UNSIGNED-PAYLOAD"
    SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    @property
    def chunked(self) -> bool:
        return self not in (PayloadMode.HASHED, PayloadMode.UNSIGNED)

    @property
    def signed(self) -> bool:
        """Whether each chunk carries a signature."""
        return self in (PayloadMode.SIGNED_CHUNKS, PayloadMode.SIGNED_CHUNKS_TRAILER)

    @property
    def trailer(self) -> bool:
        return self in (PayloadMode.SIGNED_CHUNKS_TRAILER, PayloadMode.UNSIGNED_TRAILER)


_MODES = {mode.value: mode for mode in PayloadMode if mode is not PayloadMode.HASHED}


@dataclass(frozen=True, slots=True)
class Auth:
    """A verified request: who, and what the body must still prove."""

    access_key: str
    mode: PayloadMode
    payload_sha256: str  # as it came, in any case, when HASHED; else ""
    date: str  # 20130524T000000Z
    scope: str  # 20130524/us-east-1/s3/aws4_request
    signature: str = field(repr=False)  # the seed of chunk signatures
    signing_key: bytes = field(repr=False)
    presigned: bool = False


class SigningKeys:
    """Derived keys of (secret, credential), the most recent `limit` of them. One per process."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._keys: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    def derive(self, secret: str, date: str, region: str, service: str = "s3") -> bytes:
        name = (secret, date, region, service)
        if (key := self._keys.get(name)) is not None:
            self._keys.move_to_end(name)
            return key
        key = signing_key(secret, date, region, service)
        self._keys[name] = key
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)
        return key


class Service(NamedTuple):
    """What a request must be signed for."""

    name: str
    content_sha256: str = ""  # of the body, where the service finds it out itself; "": the request says it


S3 = Service("s3")


class Credential(NamedTuple):
    """access-key/20130524/us-east-1/s3/aws4_request."""

    access_key: str
    date: str
    region: str
    service: str = "s3"

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Claim(NamedTuple):
    """What a request says of its own signature, before anything of it is believed."""

    credential: Credential
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    payload: str  # of x-amz-content-sha256, as signed
    expires_s: int | None = None  # set: presigned
    token: str | None = None  # of a session, whose access key it is then


def verify(
    method: str,
    target: Target,
    headers: Mapping[str, str],
    *,
    secret_of: Callable[[str], str | None],
    keys: SigningKeys,
    now: float,
) -> Auth:
    """Of a permanent key. `secret_of(access_key)`: the secret, or None for an unknown key. `now`: Unix seconds.

    S3Error. `headers` as they came (`collect_headers`), without what a presigned URL carries as parameters.
    """
    claim = read_claim(target, headers, now)
    if claim.token is not None:  # the secret of a session stands in its token
        raise S3Error("InvalidToken")
    return check_claim(method, target, headers, claim, secret_of(claim.credential.access_key), keys)


def is_anonymous(target: Target, headers: Mapping[str, str]) -> bool:
    """Nothing in the request wants to be a signature."""
    return not headers.get("authorization") and not any(
        name in target.query for name in ("X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential", "AWSAccessKeyId")
    )


def anonymous(headers: Mapping[str, str]) -> Auth:
    """Of a request without a signature: what its body must prove all the same. S3Error."""
    mode = payload_mode(headers.get("x-amz-content-sha256", PayloadMode.UNSIGNED.value))
    if mode.signed:
        raise S3Error("AccessDenied", "Chunks are signed, but the request is not.")
    payload = headers["x-amz-content-sha256"] if mode is PayloadMode.HASHED else ""
    return Auth("", mode, payload, "", "", "", b"")


def read_claim(target: Target, headers: Mapping[str, str], now: float, service: Service = S3) -> Claim:
    """What the request says of its signature, as far as it can be judged without a secret. S3Error."""
    claim = _claim(target, headers, service)
    _check_time(claim, now)
    _check_signed_headers(claim, headers)
    payload_mode(claim.payload, strict=claim.expires_s is None)
    return claim


def check_claim(
    method: str, target: Target, headers: Mapping[str, str], claim: Claim, secret: str | None, keys: SigningKeys
) -> Auth:
    """`secret` None: the access key is not known."""
    if secret is None:
        raise S3Error("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.credential.access_key})
    mode = payload_mode(claim.payload, strict=False)
    key = keys.derive(secret, claim.credential.date, claim.credential.region, claim.credential.service)
    canonical = canonical_request(method, target, headers, claim)
    to_sign = string_to_sign(claim.date, claim.credential.scope, canonical.text())
    if not signed_by(key, to_sign, claim.signature):
        raise _mismatch(claim, canonical, to_sign, secret, target.path)
    return Auth(
        access_key=claim.credential.access_key,
        mode=mode,
        payload_sha256=claim.payload if mode is PayloadMode.HASHED else "",
        date=claim.date,
        scope=claim.credential.scope,
        signature=claim.signature,
        signing_key=key,
        presigned=claim.expires_s is not None,
    )


def canonical_request(method: str, target: Target, headers: Mapping[str, str], claim: Claim) -> Canonical:
    path = percent_encode(percent_decode(target.path), keep="/")
    query = tuple(pair for pair in target.query.pairs if pair[0] != "X-Amz-Signature" or claim.expires_s is None)
    return Canonical(method, path, query, headers, claim.signed_headers, claim.payload)


def _claim(target: Target, headers: Mapping[str, str], service: Service) -> Claim:
    header = headers.get("authorization") or None  # an empty one says nothing, as for AWS
    in_query = "X-Amz-Algorithm" in target.query or "X-Amz-Signature" in target.query
    if header is not None and in_query:
        raise S3Error("InvalidArgument", "Only one auth mechanism allowed: the Authorization header or the query.")
    if in_query:
        return _claim_of_query(target, headers, service)
    if header is None:
        raise S3Error("AccessDenied", "Anonymous access is not allowed: the request has no signature.")
    return _claim_of_header(header, headers, service)


def old_signature() -> S3Error:
    """S3 clients with a fallback look for this code and these words; they compare the whole message."""
    message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    return S3Error("InvalidRequest", message)


def _claim_of_header(header: str, headers: Mapping[str, str], service: Service) -> Claim:
    found = _AUTHORIZATION.fullmatch(header.strip())
    if not found:
        if _OLD_AUTHORIZATION.fullmatch(header):
            raise old_signature()
        if header.startswith("AWS4-ECDSA-P256-SHA256"):
            text = "Signature Version 4A (AWS4-ECDSA-P256-SHA256) is not supported; sign with AWS4-HMAC-SHA256."
            raise S3Error("NotImplemented", text)
        raise S3Error(
            "InvalidArgument",
            "Unsupported Authorization Type",
            extra={"ArgumentName": "Authorization", "ArgumentValue": header},
        )
    fields = dict(part.strip().partition("=")[::2] for part in found["fields"].split(","))
    code = "AuthorizationHeaderMalformed"
    credential, names, signature = (_field(code, fields, name) for name in ("Credential", "SignedHeaders", "Signature"))
    payload = service.content_sha256 or headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    date = _header_date(headers)
    read = read_credential(code, credential, date, service.name)
    return Claim(read, _names(code, names), signature.lower(), date, payload, token=headers.get(TOKEN) or None)


def _claim_of_query(target: Target, headers: Mapping[str, str], service: Service) -> Claim:
    code = "AuthorizationQueryParametersError"
    fields = dict(reversed(target.query.pairs))  # the first of a repeated one, as everywhere
    wanted = ("Algorithm", "Credential", "SignedHeaders", "Signature", "Date", "Expires")
    algorithm, credential, names, signature, date, expires = (_field(code, fields, "X-Amz-" + name) for name in wanted)
    if algorithm != ALGORITHM:
        raise S3Error(code, f"X-Amz-Algorithm only supports {ALGORITHM}, not {algorithm}.")
    if not _DATE.fullmatch(date):
        raise S3Error(code, "X-Amz-Date must be in the ISO 8601 basic format 20130524T000000Z.")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 6 and int(expires) <= EXPIRES_MAX_S):
        raise S3Error(code, f"X-Amz-Expires must be a number of seconds from 0 to {EXPIRES_MAX_S}, not {expires}.")
    said = fields.get("X-Amz-Content-Sha256") or headers.get("x-amz-content-sha256") or PayloadMode.UNSIGNED.value
    payload = service.content_sha256 or said
    read = read_credential(code, credential, date, service.name)
    token = fields.get(TOKEN_IN_QUERY) or headers.get(TOKEN) or None
    return Claim(read, _names(code, names), signature.lower(), date, payload, int(expires), token)


def _field(code: str, fields: Mapping[str, str], name: str) -> str:
    if not (value := fields.get(name)):
        raise S3Error(code, f"{name} is missing from the authorization.")
    return value


@lru_cache(maxsize=256)
def _names(code: str, names: str) -> tuple[str, ...]:
    if names != names.lower():
        raise S3Error(code, "SignedHeaders must be lower case names separated by ';'.")
    return tuple(names.split(";"))


@lru_cache(maxsize=256)
def read_credential(code: str, text: str, request_date: str, wanted: str = S3.name) -> Credential:
    """`code` of the S3Error that is raised; `request_date` must be of the same day."""
    parts = text.rsplit("/", 4)
    needs_region = wanted == S3.name  # for STS clients of MinIO sign without one
    if len(parts) != 5 or not all(parts[:2]) or (needs_region and not parts[2]) or not text.isascii():
        form = f"access-key/20130524/region/{wanted}/aws4_request"
        raise S3Error(code, f'The Credential must have the form "{form}".')
    access_key, date, region, service, terminator = parts
    if service != wanted or terminator != "aws4_request":
        raise S3Error(code, f'The Credential must end in "/{wanted}/aws4_request", not "/{service}/{terminator}".')
    if date != request_date[:8]:
        raise S3Error(code, f"The Credential has the date {date}, the request has {request_date[:8]}.")
    return Credential(access_key, date, region, service)


def _header_date(headers: Mapping[str, str]) -> str:
    """x-amz-date, or Date in the same format."""
    date = headers.get("x-amz-date")
    if date is None and (http_date := headers.get("date")):
        try:
            parsed = parsedate_to_datetime(http_date)
            date = (parsed.astimezone(UTC) if parsed.tzinfo else parsed).strftime(DATE_FORMAT)
        except (ValueError, OverflowError):  # the latter: in UTC it would be a year beyond 9999
            date = http_date
    if date is None or not _DATE.fullmatch(date):
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header.")
    return date


def _check_time(claim: Claim, now: float) -> None:
    try:
        signed_at = datetime.fromisoformat(claim.date).timestamp()
    except ValueError as error:
        raise S3Error("AccessDenied", f"The request date {claim.date} does not exist.") from error
    ahead = signed_at - now
    if claim.expires_s is not None:
        if ahead > SKEW_S:
            message = f"Request is not yet valid: it was signed {ahead:.0f} s ahead of the time of this server."
            raise S3Error("AccessDenied", message, extra={"ServerTime": _shown(now)})
        if -ahead > claim.expires_s or claim.expires_s == 0:
            raise expired(signed_at + claim.expires_s, now, **{"X-Amz-Expires": str(claim.expires_s)})
    else:
        check_skew(signed_at, now, claim.date)


def check_skew(signed_at: float, now: float, said: str) -> None:
    """S3Error RequestTimeTooSkewed. `said`: the date of the request as it came."""
    ahead = signed_at - now
    if abs(ahead) > SKEW_S:
        side = "ahead of" if ahead > 0 else "behind"
        message = (
            f"The time of the request is {abs(ahead):.0f} s {side} the time of this server; at most {SKEW_S} s are "
            "allowed. Set the clocks of both, for example with NTP."
        )
        extra = {"RequestTime": said, "ServerTime": _shown(now), "MaxAllowedSkewMilliseconds": str(SKEW_S * 1000)}
        raise S3Error("RequestTimeTooSkewed", message, extra=extra)


def expired(ended_at: float, now: float, **more: str) -> S3Error:
    """`more`: what else the answer shows."""
    message = f"Request has expired, {max(0, now - ended_at):.0f} s ago."
    return S3Error("AccessDenied", message, extra={**more, "Expires": _shown(ended_at), "ServerTime": _shown(now)})


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_signed_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in claim.signed_headers]
    if "host" not in claim.signed_headers:
        unsigned.insert(0, "host")
    if unsigned:
        message = "There were headers present in the request which were not signed: " + ", ".join(unsigned) + "."
        raise S3Error("AccessDenied", message, extra={"HeadersNotSigned": ", ".join(unsigned)})


def payload_mode(payload: str, *, strict: bool = True) -> PayloadMode:
    """Not strict: what is none counts as a hash, which no body has. So does AWS, but for the Authorization header."""
    if (mode := _MODES.get(payload)) is not None:
        return mode
    if _HEX_SHA256.fullmatch(payload):
        return PayloadMode.HASHED
    if payload.startswith("STREAMING-"):
        raise S3Error("NotImplemented", f"The payload mode {payload} is not implemented.")
    if not strict:
        return PayloadMode.HASHED
    known = ", ".join(_MODES)
    extra = {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": payload}
    raise S3Error("InvalidArgument", f"x-amz-content-sha256 must be {known}, or a valid sha256 value.", extra=extra)


def _mismatch(claim: Claim, canonical: Canonical, to_sign: str, secret: str, path: str) -> S3Error:
    credential, text = claim.credential, canonical.text()
    made = Signature(
        secret,
        claim.date,
        credential.date,
        credential.region,
        credential.scope,
        claim.signature,
        credential.service,
    )
    extra = {
        "AWSAccessKeyId": credential.access_key,
        "StringToSign": to_sign,
        "SignatureProvided": claim.signature,
        "StringToSignBytes": _hex(to_sign),
        "CanonicalRequest": text,
        "CanonicalRequestBytes": _hex(text),
        "Hint": explain(canonical, made, path),
    }
    return S3Error("SignatureDoesNotMatch", extra=extra)


def _hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex(" ")
