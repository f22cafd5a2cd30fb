"""What a browser upload proves with its form: the signature over its policy, and what the policy allows. Pure.

A form is signed by whoever made the page, not by who uploads: every field that is sent has to be in the policy, or else
one could be added. The older signature (HMAC-SHA1 over the policy) is taken too: old libraries make such forms, and
what it covers is the same. Source: AWS, "Creating a POST policy" and "Calculating a signature" of browser uploads.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from gateway.s3.canonical import signed_by
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import TOKEN, Auth, Credential, PayloadMode, SigningKeys, old_signature, read_credential

ALGORITHM = "AWS4-HMAC-SHA256"
_OF_OLD_SIGNATURE = ("awsaccesskeyid", "policy", "signature")
_OF_SIGNATURE = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "policy")
# That need not be in the policy; x-ignore-* beside them.
_FREE = frozenset(("x-amz-signature", "signature", "awsaccesskeyid", "file", "policy"))
_OPERATORS = ("eq", "starts-with")
_EXPIRATION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")


class Condition(NamedTuple):
    operator: str  # "eq" | "starts-with"
    field: str  # lower case
    value: str

    def holds(self, found: str) -> bool:
        wanted = (self.value, self.value.replace("\\$", "$"))  # \$ is a dollar sign
        if self.operator == "eq":
            return found in wanted
        values = found.split(",") if self.field == "content-type" else [found]
        return all(value.strip().startswith(wanted) for value in values)


@dataclass(frozen=True, slots=True)
class Policy:
    expires_s: float  # Unix time
    conditions: tuple[Condition, ...]
    size_min: int = 0
    size_max: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a form says of its signature, before anything of it is believed."""

    access_key: str
    signature: str
    policy: str  # base64, as signed
    credential: Credential | None = None  # None: the older signature
    date: str = ""
    token: str | None = None  # of a session


def read_claim(fields: Mapping[str, str]) -> Claim | None:
    """None: nobody signed. S3Error."""
    if "policy" not in fields and not any(name in fields for name in ("x-amz-signature", "signature")):
        return None
    token = fields.get(TOKEN) or None
    is_old = "x-amz-algorithm" not in fields and ("awsaccesskeyid" in fields or "signature" in fields)
    for name in _OF_OLD_SIGNATURE if is_old else _OF_SIGNATURE:
        if name not in fields:
            raise missing(name)
    if is_old:
        return Claim(fields["awsaccesskeyid"], fields["signature"], fields["policy"], token=token)
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise old_signature()
    date = fields["x-amz-date"]
    credential = read_credential("InvalidArgument", fields["x-amz-credential"], date)
    return Claim(credential.access_key, fields["x-amz-signature"], fields["policy"], credential, date, token)


def missing(name: str) -> S3Error:
    text = f"Bucket POST must contain a field named '{name}'. The fields must come before the file."
    return S3Error("InvalidArgument", text, extra={"ArgumentName": name, "ArgumentValue": ""})


def check_claim(claim: Claim, secret: str | None, keys: SigningKeys) -> Auth:
    """`secret` None: the access key is not known. S3Error."""
    if secret is None:
        raise S3Error("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.access_key})
    credential, key = claim.credential, b""
    if credential is None:
        made = base64.b64encode(hmac.digest(secret.encode(), claim.policy.encode(), "sha1"))
        fits = hmac.compare_digest(made, claim.signature.encode())
    else:
        key = keys.derive(secret, credential.date, credential.region)
        fits = signed_by(key, claim.policy, claim.signature)
    if not fits:
        extra = {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": claim.policy,
            "SignatureProvided": claim.signature,
            "Hint": "The string to sign is the field policy as it was sent. Is the secret that of this key?",
        }
        raise S3Error("SignatureDoesNotMatch", extra=extra)
    scope = credential.scope if credential is not None else ""
    return Auth(claim.access_key, PayloadMode.UNSIGNED, "", claim.date, scope, claim.signature, key, presigned=True)


# --- the policy --------------------------------------------------------------------------------------------------


def parse(raw: str) -> Policy:
    """Of the field `policy`. S3Error InvalidPolicyDocument."""
    try:
        document = json.loads(base64.b64decode(raw, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if not isinstance(document.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    conditions: list[Condition] = []
    size_min, size_max = 0, None
    for given in document["conditions"]:
        if isinstance(given, dict):
            conditions.append(_simple(given))
        elif _word(given) == "content-length-range":
            size_min, size_max = _sizes(given)
        elif _word(given) in _OPERATORS and len(given) == 3 and all(isinstance(one, str) for one in given):
            if not given[1].startswith("$"):
                raise _invalid("Invalid condition: the name of a field must begin with $.")
            conditions.append(Condition(_word(given), given[1][1:].lower(), given[2]))
        else:
            raise _invalid(f"Invalid condition: {json.dumps(given)[:100]}.")
    return Policy(_time(document["expiration"]), tuple(conditions), size_min, size_max)


def _word(given: Any) -> str:
    return given[0].lower() if isinstance(given, list) and given and isinstance(given[0], str) else ""


def _simple(given: dict[str, Any]) -> Condition:
    if len(given) != 1:
        raise _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
    [(name, value)] = given.items()
    if not isinstance(value, str):
        raise _invalid("Invalid Simple-Condition: value must be a string.")
    return Condition("eq", name.lower(), value)


def _sizes(given: list[Any]) -> tuple[int, int]:
    try:
        low, high = (int(one) for one in given[1:])
    except (TypeError, ValueError):
        raise _invalid("Invalid content-length-range: it needs two numbers.") from None
    if low < 0 or high < low:
        raise _invalid("Invalid content-length-range: its numbers must be in order, and not below 0.")
    return low, high


def _time(text: Any) -> float:
    try:
        if not isinstance(text, str) or not _EXPIRATION.fullmatch(text):
            raise ValueError(text)
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise _invalid(f"Invalid 'expiration' value: '{text}'"[:200]) from None


def check(policy: Policy, bucket: str, fields: Mapping[str, str], now_s: float) -> None:
    """S3Error AccessDenied. `fields` as sent, with the file's name in the key already; the bucket is one of them."""
    if policy.expires_s <= now_s:
        raise _against("Policy expired.")
    given = {**fields, "bucket": bucket}
    for one in policy.conditions:
        if not one.holds(given.get(one.field, "")):
            raise _against(f'Policy Condition failed: ["{one.operator}", "${one.field}", "{one.value}"]')
    named = {one.field for one in policy.conditions}
    extra = [name for name in given if name not in named and name not in _FREE and not name.startswith("x-ignore-")]
    if extra:
        raise _against(f"Extra input fields: {', '.join(sorted(extra))}")


def check_size(policy: Policy, size: int) -> None:
    """S3Error EntityTooSmall, EntityTooLarge."""
    if size < policy.size_min:
        text = "Your proposed upload is smaller than the minimum allowed size"
        sizes = {"ProposedSize": str(size), "MinSizeAllowed": str(policy.size_min)}
        raise S3Error("EntityTooSmall", text, extra=sizes)
    if policy.size_max is not None and size > policy.size_max:
        text = "Your proposed upload exceeds the maximum allowed size"
        sizes = {"ProposedSize": str(size), "MaxSizeAllowed": str(policy.size_max)}
        raise S3Error("EntityTooLarge", text, extra=sizes)


def _invalid(reason: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {reason}")


def _against(reason: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {reason}")


# --- fields as headers of a PUT --------------------------------------------------------------------------------------

_PLAIN = (
    *("cache-control", "content-type", "content-disposition", "content-encoding", "content-language", "expires"),
    *("content-md5", "if-match", "if-none-match"),
)
_NOT_OF_OBJECTS = frozenset((*_OF_SIGNATURE, TOKEN))
_NOT_OF_FORMS = ("x-amz-write-offset-bytes", "x-amz-content-sha256", "x-amz-copy-source")


def as_headers(fields: Mapping[str, str], file_type: str) -> dict[str, str]:
    """What the same PutObject would carry. The tags, which a form has as a document, are not among them. S3Error."""
    for name in _NOT_OF_FORMS:
        if name in fields:
            raise S3Error("NotImplemented", f"The field {name} is not implemented for PostObject.")
    headers = {"content-type": file_type} if file_type else {}
    headers |= {name: fields[name] for name in _PLAIN if name in fields}
    headers |= {
        name: value for name, value in fields.items() if name.startswith("x-amz-") and name not in _NOT_OF_OBJECTS
    }  # fmt: skip
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    return headers
