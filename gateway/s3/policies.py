"""Policies of the AWS language: read strictly from JSON, and what they say of one request. Pure.

An explicit Deny beats an Allow; what nothing allows is denied, by whoever combines decisions (`access`). A policy that
would be understood only in part is refused (MalformedPolicy): a Deny with a mistyped action or condition would
protect nothing, silently. Source: AWS, "IAM JSON policy elements reference" and "Policy evaluation logic".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.s3.actions import ACTIONS
from gateway.s3.errors import S3Error
from gateway.s3.globs import glob, matches
from gateway.s3.policy_conditions import Condition, holds, known_key, read_operator
from objstore.model.identity import ACCOUNT, ROOT_ARN, Principal

BYTES_MAX = 20 * 1024
OLD, NEW = "2008-10-17", "2012-10-17"
RESOURCE = "arn:aws:s3:::"
_ELEMENTS = frozenset(
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"],
)
_OF_TAGS = "s3:existingobjecttag/"
_SESSION = re.compile(r"arn:aws:sts::([0-9]{12})?:assumed-role/[^/*?]+/[^/*?]+")
_NO_ACCOUNT = re.compile(r"(?<=^arn:aws:...):::")
_PRINCIPAL_KINDS = frozenset(("AWS", "CanonicalUser", "Federated", "Service"))


class Request(NamedTuple):
    """What is to be decided."""

    action: str  # "s3:GetObject"
    resource: str  # "arn:aws:s3:::bucket/key"; "arn:aws:s3:::*" for the service
    principal: Principal | None  # None: nobody signed
    context: Mapping[str, tuple[str, ...]]  # lower-case condition keys -> values


@dataclass(frozen=True, slots=True)
class Statement:
    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...] | None  # None: the policy is of a user, or the statement would match nobody
    conditions: tuple[Condition, ...]
    not_actions: bool = False
    not_resources: bool = False
    not_principals: bool = False

    @property
    def asks_for_tags(self) -> bool:
        """By a condition, or by a variable in what it is compared with."""
        patterns = [*self.resources, *(value for one in self.conditions for value in one.values)]
        return any(one.key.startswith(_OF_TAGS) for one in self.conditions) or any(
            "${" + _OF_TAGS in pattern.lower() for pattern in patterns
        )

    def applies(self, request: Request, variables: bool) -> bool:
        known = request.context if variables else None
        if any(matches(one, request.action, None, True) for one in self.actions) is self.not_actions:
            return False
        if any(matches(one, request.resource, known) for one in self.resources) is self.not_resources:
            return False
        if self.principals is not None:
            found = any(_is(name, request.principal, self.allows) for name in self.principals)
            if found is self.not_principals:
                return False
        return all(holds(one, request.context, known) for one in self.conditions)


@dataclass(frozen=True, slots=True)
class Policy:
    statements: tuple[Statement, ...]
    variables: bool  # ${...} are replaced: since version 2012-10-17

    @property
    def asks_for_tags(self) -> bool:
        """Whether a decision needs the tags that the object has."""
        return any(statement.asks_for_tags for statement in self.statements)


class Decision(NamedTuple):
    """`denied` and `allowed`: the statement that says so, as a person would name it; "" if none does."""

    denied: str = ""
    allowed: str = ""


def decide(policies: Iterable[tuple[str, Policy]], request: Request) -> Decision:
    allowed = ""
    for name, policy in policies:
        for number, statement in enumerate(policy.statements, 1):
            if (allowed and statement.allows) or not statement.applies(request, policy.variables):
                continue
            shown = f"statement {statement.sid or number} of {name}"
            if not statement.allows:
                return Decision(denied=shown)
            allowed = shown
    return Decision(allowed=allowed)


def names_session(policy: Policy, request: Request) -> bool:
    """Whether it allows the request to that session of a role by its own ARN: no policy of the session narrows that."""
    who = request.principal
    return who is not None and bool(who.role) and any(
        one.allows and not one.not_principals and who.arn in (one.principals or ())
        and one.applies(request, policy.variables)
        for one in policy.statements
    )  # fmt: skip


@lru_cache(maxsize=512)
def parse(raw: bytes, bucket: str = "") -> Policy:
    """Of a bucket (which names principals, and resources of that bucket only) or of users. S3Error MalformedPolicy."""
    if len(raw) > BYTES_MAX:
        raise malformed(f"The policy has {len(raw)} bytes, at most {BYTES_MAX} are allowed")
    document = _json(raw)
    if not isinstance(document, dict):
        raise malformed("Policies must be valid JSON and the first byte must be '{'")
    if unknown := document.keys() - {"Version", "Id", "Statement"}:
        raise malformed(f"Unknown field {sorted(unknown)[0]}")
    version = document.get("Version", OLD)
    if version not in (OLD, NEW):
        raise malformed(f"The policy must contain a valid version string: {NEW} or {OLD}")
    if not isinstance(document.get("Id", ""), str):
        raise malformed("Id must be a string")
    found = document.get("Statement")
    statements = [found] if isinstance(found, dict) else found
    if not isinstance(statements, list) or not statements:
        raise malformed("Missing required field Statement")
    read = tuple(_statement(one, bucket) for one in statements)
    sids = [one.sid for one in read if one.sid]
    if len(sids) != len(set(sids)):
        raise malformed("Statement IDs (SID) in a single policy must be unique")
    return Policy(read, version == NEW)


def _json(raw: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise malformed("A field is given twice")
        return found

    def constant(name: str) -> None:
        raise malformed(f"{name} is not JSON")

    try:
        return json.loads(raw.decode(), object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise malformed(f"This policy contains invalid Json: {error}"[:200]) from None


def _statement(given: Any, bucket: str) -> Statement:
    if not isinstance(given, dict):
        raise malformed("A Statement must be an object")
    if unknown := given.keys() - _ELEMENTS:
        raise malformed(f"Unknown field {sorted(unknown)[0]}")
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise malformed(f"Invalid effect: {effect!r}; it must be Allow or Deny")
    sid = given.get("Sid", "")
    if not isinstance(sid, str):
        raise malformed("Sid must be a string")
    actions, not_actions = _either(given, "Action", "NotAction")
    resources, not_resources = _either(given, "Resource", "NotResource")
    for action in actions:
        _check_action(action, bucket)
    for resource in resources:
        _check_resource(resource, bucket)
    principals, not_principals = _principals(given, bucket)
    conditions = _conditions(given.get("Condition", {}))
    return Statement(
        sid, effect == "Allow", actions, resources, principals, conditions, not_actions, not_resources, not_principals
    )


def _either(given: Mapping[str, Any], name: str, negated: str) -> tuple[tuple[str, ...], bool]:
    if (name in given) == (negated in given):
        raise malformed(f"A Statement must have one of {name} and {negated}")
    chosen = name if name in given else negated
    return _texts(given[chosen], chosen), chosen == negated


def _texts(value: Any, name: str) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
        raise malformed(f"{name} must be a string or a list of strings, and not empty")
    return tuple(found)


def _check_action(action: str, bucket: str) -> None:
    service, colon, _ = action.partition(":")
    if action == "*":
        return
    if not colon or (bucket and service.lower() != "s3"):
        raise malformed(f"Policy has invalid action: {action}")
    if service.lower() == "s3" and not any(glob(action, True).match(one) for one in ACTIONS):
        raise malformed(f"Policy has invalid action: {action}")


def _check_resource(resource: str, bucket: str) -> None:
    if resource == "*" and not bucket:
        return
    if not resource.startswith(RESOURCE):
        if not bucket and resource.startswith("arn:"):
            return  # of another service: it says nothing of this one
        raise malformed(f"Policy has invalid resource: {resource}; it must begin with {RESOURCE}")
    if bucket:
        name, _, _ = resource.removeprefix(RESOURCE).partition("/")
        if not glob(name).match(bucket):
            raise malformed(f"Policy has invalid resource: {resource} is not of the bucket {bucket}")


def _principals(given: Mapping[str, Any], bucket: str) -> tuple[tuple[str, ...] | None, bool]:
    if not bucket:
        if "Principal" in given or "NotPrincipal" in given:
            raise malformed("A policy of users must not name principals")
        return None, False
    if ("Principal" in given) == ("NotPrincipal" in given):
        raise malformed("Missing required field Principal")
    negated = "NotPrincipal" in given
    value = given["NotPrincipal" if negated else "Principal"]
    if value == "*":
        return ("*",), negated
    if not isinstance(value, dict) or not value or value.keys() - _PRINCIPAL_KINDS:
        raise malformed("Invalid principal in policy")
    names: list[str] = []
    for kind, found in value.items():
        texts = _texts(found, "Principal")
        if kind == "AWS":
            names.extend(map(_account_name, texts))
        else:
            names.extend(f"{kind}:{one}" for one in texts)  # nobody here
    return tuple(names), negated


def _account_name(text: str) -> str:
    """ "*", an ARN, or the number of an account: that of its root then."""
    if text == "*" or (text.startswith("arn:aws:iam::") and text.count(":") >= 5) or _SESSION.fullmatch(text):
        return _NO_ACCOUNT.sub(f"::{ACCOUNT}:", text)
    if text.isdigit() and len(text) == 12:
        return f"arn:aws:iam::{text}:root"
    raise malformed(f"Invalid principal in policy: {text}")


def _is(name: str, principal: Principal | None, allows: bool) -> bool:
    """Whether a principal element means that caller. Leave for an account still has to be given to its users."""
    if name == "*":
        return True
    if principal is None:
        return False
    if name == ROOT_ARN:
        return principal.is_root or not allows
    return name in (principal.arn, principal.issuer_arn)


def _conditions(given: Any) -> tuple[Condition, ...]:
    if not isinstance(given, dict):
        raise malformed("Condition must be an object")
    found = []
    for name, tests in given.items():
        operator = read_operator(name)
        if operator is None:
            raise malformed(f"Invalid Condition type: {name}")
        if not isinstance(tests, dict) or not tests:
            raise malformed(f"{name} must be an object of condition keys")
        for key, value in tests.items():
            if not known_key(key):
                raise malformed(f"Policy has an invalid condition key: {key}")
            values = _values(value, key)
            for one in values:
                if not operator.reads(one):
                    raise malformed(f"{one!r} is not a value for {name} of {key}")
            found.append(Condition(operator, key.lower(), values))
    return tuple(found)


def _values(value: Any, key: str) -> tuple[str, ...]:
    """As strings: JSON may say true or 5."""
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | bool | int | float) for one in found):
        raise malformed(f"The values of {key} must be strings, numbers or booleans")
    return tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in found)


def malformed(reason: str) -> S3Error:
    return S3Error("MalformedPolicy", reason + ".")


# --- public policies -------------------------------------------------------------------------------------------

_NARROWING = frozenset(
    [
        "aws:sourceip",
        "aws:sourcearn",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:principalarn",
        "aws:principalaccount",
        "aws:userid",
        "aws:sourceaccount",
        "aws:principalorgid",
        "aws:username",
    ]
)
_EQUAL = frozenset(("StringEquals", "StringEqualsIgnoreCase", "ArnEquals", "IpAddress", "StringLike", "ArnLike"))


def is_public(policy: Policy) -> bool:
    """Whether it allows something to anybody, as BlockPublicPolicy and the status of the policy mean it."""
    return any(_is_public(statement) for statement in policy.statements)


def _is_public(statement: Statement) -> bool:
    if not statement.allows or statement.principals is None:
        return False
    if not statement.not_principals and "*" not in statement.principals:
        return False
    return not any(_narrows(condition) for condition in statement.conditions)


def _narrows(condition: Condition) -> bool:
    if condition.key not in _NARROWING or condition.operator.base not in _EQUAL or condition.operator.if_exists:
        return False
    if condition.operator.base == "IpAddress":
        return all(not value.endswith("/0") for value in condition.values)
    return all("*" not in value and "?" not in value and "${" not in value for value in condition.values)
