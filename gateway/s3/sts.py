"""The query protocol of AWS STS, 2011-06-15: which requests are meant for it, what they ask, the answers. Pure.

At the endpoint of S3: there it is `POST /` with a form, or `GET /?Action=...`, signed for the service `sts`. Parameters
that would change the meaning and are not implemented are refused. Source: AWS, "Security Token Service API Reference".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl

from gateway.s3 import policies, xml
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import Service
from gateway.s3.target import Target
from objstore.model.identity import ACCOUNT, ROLE_ARN, SESSION_ARN, Principal, Session

VERSION = "2011-06-15"
NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
BODY_BYTES_MAX = 64 * 1024
ASSUME_ROLE, GET_SESSION_TOKEN, GET_CALLER_IDENTITY = "AssumeRole", "GetSessionToken", "GetCallerIdentity"
ACTIONS = (ASSUME_ROLE, GET_SESSION_TOKEN, GET_CALLER_IDENTITY)
POLICY_CHARS_MAX = 2048
_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAX = 200
_ROLE_ARN = re.compile(re.escape(ROLE_ARN) + r"([A-Za-z0-9+=,.@_-]{1,64})", re.ASCII)
_ARN = re.compile(r"arn:[^:]+:[^:]*:[^:]*:[^:]*:.+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]*", re.ASCII)
_POLICY_TEXT = re.compile("[\t\n\r -\xff]*")
# In the form of a denial, because nothing here can grant them; AWS says the same where no policy does.
_TAG = "sts:TagSession"
_NEED_LEAVE = {"Tags": _TAG, "TransitiveTagKeys": _TAG, "SourceIdentity": "sts:SetSourceIdentity"}
_KNOWN = {
    ASSUME_ROLE: frozenset(("RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "ExternalId")),
    GET_SESSION_TOKEN: frozenset(("DurationSeconds",)),
    GET_CALLER_IDENTITY: frozenset[str](),
}
_COMMON = frozenset(("Action", "Version"))


class Fault(Exception):
    """An error of STS: its code, status and message."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message


class Durations(NamedTuple):
    least: int
    most: int
    usual: int


OF_ROLES = Durations(900, 43_200, 3600)
OF_USERS = Durations(900, 129_600, 43_200)
OF_ROOT_S_MAX = 3600


class AssumeRole(NamedTuple):
    role: str | None  # name; None: that of another account, or what is no role here
    arn: str  # as asked for; "": no role, only the policy narrows
    session: str
    seconds: int
    policy: bytes


def is_for_sts(method: str, target: Target, headers: Mapping[str, str]) -> bool:
    if target.bucket is not None:
        return False
    if method == "POST":
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == _FORM or "Action" in target.query
    return method == "GET" and "Action" in target.query


def service(body: bytes) -> Service:
    return Service("sts", hashlib.sha256(body).hexdigest())


# --- what is asked ---------------------------------------------------------------------------------------------------


def fields_of(target: Target, body: bytes) -> dict[str, str]:
    """Those of the query and of the form, without the signature. Fault."""
    pairs = [pair for pair in target.query.pairs if not pair[0].lower().startswith("x-amz-")]
    try:
        pairs += parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Fault("MalformedQueryString", 400, "The query string is malformed, or too long.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Fault("InvalidParameterCombination", 400, "A parameter is given more than once.")
    return fields


def action_of(fields: Mapping[str, str]) -> str:
    """One of ACTIONS. Fault."""
    action, version = fields.get("Action", ""), fields.get("Version", "")
    if not action:
        raise Fault("MissingAction", 400, "The request must contain the parameter Action.")
    if action not in ACTIONS or version != VERSION:
        shown = version or "NO_VERSION_SPECIFIED"
        raise Fault("InvalidAction", 400, f"Could not find operation {action[:100]} for version {shown[:40]}")
    return action


def check_fields(action: str, fields: Mapping[str, str], who: Principal) -> None:
    """That nothing is asked for which would be left out. Fault."""
    for name, value in fields.items():
        base = name.partition(".")[0]
        if base in _KNOWN[action] or name in _COMMON or not value:
            continue
        if action == ASSUME_ROLE and base in _NEED_LEAVE:
            raise denied(who, _NEED_LEAVE[base], fields.get("RoleArn", ""))
        if name in ("SerialNumber", "TokenCode"):
            text = "MultiFactorAuthentication failed, unable to validate MFA code. There are no MFA devices here."
            raise Fault("AccessDenied", 403, text)
        raise Fault("NotImplemented", 501, f"The parameter {name[:100]!r} of {action} is not implemented.")


def read_assume_role(fields: Mapping[str, str]) -> AssumeRole:
    """Without a RoleArn, as clients of other stores ask: the rights of the user, narrowed by the policy. Fault."""
    arn, session = fields.get("RoleArn", ""), fields.get("RoleSessionName", "")
    faults = []
    if arn or session:
        faults += _length("roleArn", arn, 20, 2048)
        faults += _length("roleSessionName", session, 2, 64)
        if not _SESSION_NAME.fullmatch(session):
            faults.append(_constraint("roleSessionName", session, r"satisfy regular expression pattern: [\w+=,.@-]*"))
    seconds = _seconds(fields, OF_ROLES, faults)
    policy = fields.get("Policy", "")
    if policy:
        faults += _length("policy", policy, 1, POLICY_CHARS_MAX)
    if faults:
        raise _invalid(faults)
    if arn and not _ARN.fullmatch(arn):
        raise Fault("ValidationError", 400, f"{arn} is invalid")
    found = _ROLE_ARN.fullmatch(arn)
    return AssumeRole(found[1] if found else None, arn, session, seconds, _policy(policy))


def read_seconds(fields: Mapping[str, str], is_root: bool) -> int:
    """Of GetSessionToken. The root of the account has an hour at most, without an error. Fault."""
    faults: list[str] = []
    seconds = _seconds(fields, OF_USERS, faults)
    if faults:
        raise _invalid(faults)
    return min(seconds, OF_ROOT_S_MAX) if is_root else seconds


def _seconds(fields: Mapping[str, str], allowed: Durations, faults: list[str]) -> int:
    """Adds to `faults`."""
    given = fields.get("DurationSeconds", "")
    if not given:
        return allowed.usual
    if not re.fullmatch("-?[0-9]{1,9}", given, re.ASCII):
        raise Fault("MalformedInput", 400, f"DurationSeconds is no number: {given[:40]!r}.")
    seconds = int(given)
    if seconds < allowed.least:
        faults.append(_constraint("durationSeconds", given, f"have value greater than or equal to {allowed.least}"))
    if seconds > allowed.most:
        faults.append(_constraint("durationSeconds", given, f"have value less than or equal to {allowed.most}"))
    return seconds


def _policy(text: str) -> bytes:
    if not text:
        return b""
    if not _POLICY_TEXT.fullmatch(text):
        raise Fault("MalformedPolicyDocument", 400, "The policy has characters that policies cannot have.")
    try:
        policies.parse(text.encode())
    except S3Error as error:
        raise Fault("MalformedPolicyDocument", 400, error.message) from None
    return text.encode()


def _length(name: str, value: str, least: int, most: int) -> list[str]:
    if not value:
        return [f"Value null at '{name}' failed to satisfy constraint: Member must not be null"]
    if len(value) > most:
        return [_constraint(name, value, f"have length less than or equal to {most}")]
    return [_constraint(name, value, f"have length greater than or equal to {least}")] if len(value) < least else []


def _constraint(name: str, value: str, what: str) -> str:
    shown = value if len(value) <= 100 else value[:100] + "..."
    return f"Value '{shown}' at '{name}' failed to satisfy constraint: Member must {what}"


def _invalid(faults: list[str]) -> Fault:
    some = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
    return Fault("ValidationError", 400, f"{some} detected: " + "; ".join(faults))


def denied(who: Principal, action: str, resource: str) -> Fault:
    on = f" on resource: {resource}" if resource else ""
    return Fault("AccessDenied", 403, f"User: {who.arn} is not authorized to perform: {action}{on}")


# --- answers ---------------------------------------------------------------------------------------------------------


def identity_document(who: Principal, request_id: str) -> bytes:
    content = xml.element("Arn", who.arn) + xml.element("UserId", who.id) + xml.element("Account", ACCOUNT)
    return _answer(GET_CALLER_IDENTITY, content, request_id)


def session_document(session: Session, token: str, request_id: str) -> bytes:
    return _answer(GET_SESSION_TOKEN, _credentials(session, token), request_id)


def role_document(session: Session, token: str, request_id: str) -> bytes:
    content = ""
    if session.role:
        id, arn = f"{session.role_id}:{session.name}", f"{SESSION_ARN}{session.role}/{session.name}"
        content += f"<AssumedRoleUser>{xml.element('AssumedRoleId', id)}{xml.element('Arn', arn)}</AssumedRoleUser>"
    content += _credentials(session, token)
    if session.policy:
        content += xml.element("PackedPolicySize", max(1, 100 * len(session.policy) // POLICY_CHARS_MAX))
    return _answer(ASSUME_ROLE, content, request_id)


def _credentials(session: Session, token: str) -> str:
    until = datetime.fromtimestamp(session.expires_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "AccessKeyId": session.access_key,
        "SecretAccessKey": session.secret,
        "SessionToken": token,
        "Expiration": until,
    }
    return f"<Credentials>{''.join(xml.element(name, value) for name, value in fields.items())}</Credentials>"


def _answer(action: str, content: str, request_id: str) -> bytes:
    metadata = f"<ResponseMetadata>{xml.element('RequestId', request_id)}</ResponseMetadata>"
    return _document(f"{action}Response", f"<{action}Result>{content}</{action}Result>{metadata}")


def fault_document(fault: Fault, request_id: str) -> bytes:
    fields = {"Type": "Sender" if fault.status < 500 else "Receiver", "Code": fault.code, "Message": fault.message}
    error = "".join(xml.element(name, value) for name, value in fields.items())
    return _document("ErrorResponse", f"<Error>{error}</Error>{xml.element('RequestId', request_id)}")


def _document(root: str, content: str) -> bytes:
    return f'<{root} xmlns="{NAMESPACE}">{content}</{root}>\n'.encode()


# --- errors of the common path, as STS says them ---------------------------------------------------------------------

_INVALID_TOKEN = "The security token included in the request is invalid."
_FROM_S3: Mapping[str, tuple[str, int, str]] = {  # "" keeps the message
    "InvalidAccessKeyId": ("InvalidClientTokenId", 403, _INVALID_TOKEN),
    "InvalidToken": ("InvalidClientTokenId", 403, _INVALID_TOKEN),
    "ExpiredToken": ("ExpiredToken", 403, "The security token included in the request is expired"),
    "RequestTimeTooSkewed": ("SignatureDoesNotMatch", 403, ""),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", 403, ""),
    "AuthorizationHeaderMalformed": ("IncompleteSignature", 400, ""),
    "AuthorizationQueryParametersError": ("IncompleteSignature", 400, ""),
    "InvalidURI": ("MalformedQueryString", 400, ""),
    "SlowDown": ("Throttling", 503, ""),
    "ServiceUnavailable": ("ServiceUnavailable", 503, ""),
    "InternalError": ("InternalFailure", 500, ""),
}


def from_s3(error: S3Error) -> Fault:
    code, status, message = _FROM_S3.get(error.code, (error.code, error.status, ""))
    hint = error.extra.get("Hint", "")
    return Fault(code, status, message or f"{error.message} {hint}".rstrip())
