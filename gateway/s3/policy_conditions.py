"""Conditions of policies: operators, the keys that they may ask for, and whether one holds of a request. Pure.

Source: AWS, "IAM JSON policy elements: Condition operators". A key that the request does not have: an operator does
not hold, its negation does, and ...IfExists does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.s3.globs import expand, matches

Context = Mapping[str, tuple[str, ...]]
_Test = Callable[[str, str, Context | None], bool]  # (value of the policy, of the request, variables)


def _equals(wanted: str, found: str, variables: Context | None) -> bool:
    return expand(wanted, variables) == found


def _equals_ignoring_case(wanted: str, found: str, variables: Context | None) -> bool:
    meant = expand(wanted, variables)
    return meant is not None and meant.casefold() == found.casefold()


def _like(wanted: str, found: str, variables: Context | None) -> bool:
    return matches(wanted, found, variables)


def _bool(wanted: str, found: str, _: Context | None) -> bool:
    return wanted.lower() == found.lower()


def _in_network(wanted: str, found: str, _: Context | None) -> bool:
    try:
        address = ipaddress.ip_address(found.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in ipaddress.ip_network(wanted, strict=False)


def _number(text: str) -> float:
    value = float(text)
    if value != value:
        raise ValueError(text)
    return value


def _time(text: str) -> float:
    """Seconds of an ISO 8601 date, or of an epoch time."""
    try:
        return float(text)
    except ValueError:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str], float], compare: Callable[[float, float], bool]) -> _Test:
    def test(wanted: str, found: str, _: Context | None) -> bool:
        try:
            return compare(read(found), read(wanted))
        except ValueError:
            return False

    return test


_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "Equals": lambda found, wanted: found == wanted,
    "LessThan": lambda found, wanted: found < wanted,
    "LessThanEquals": lambda found, wanted: found <= wanted,
    "GreaterThan": lambda found, wanted: found > wanted,
    "GreaterThanEquals": lambda found, wanted: found >= wanted,
}
_TESTS: Mapping[str, _Test] = {
    "StringEquals": _equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "BinaryEquals": _equals,
    "Bool": _bool,
    "IpAddress": _in_network,
    **{"Numeric" + name: _ordered(_number, compare) for name, compare in _ORDERS.items()},
    **{"Date" + name: _ordered(_time, compare) for name, compare in _ORDERS.items()},
}
_NEGATED: Mapping[str, str] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}
NULL = "Null"
_ALL, _ANY = "ForAllValues:", "ForAnyValue:"


class Operator(NamedTuple):
    base: str  # without its negation, prefix and suffix
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""  # "ForAllValues:" | "ForAnyValue:" | ""

    def reads(self, value: str) -> bool:
        """Whether a value of a policy can mean something to it."""
        try:
            if self.base.startswith("Numeric"):
                _number(value)
            elif self.base.startswith("Date"):
                _time(value)
            elif self.base == "IpAddress":
                ipaddress.ip_network(value, strict=False)
            elif self.base in ("Bool", NULL):
                return value.lower() in ("true", "false")
        except ValueError:
            return False
        return True


class Condition(NamedTuple):
    operator: Operator
    key: str  # lower case
    values: tuple[str, ...]


def read_operator(name: str) -> Operator | None:
    quantifier = next((one for one in (_ALL, _ANY) if name.startswith(one)), "")
    base = name.removeprefix(quantifier)
    if base == NULL:
        return Operator(NULL) if not quantifier else None
    if_exists = base.endswith("IfExists")
    base = base.removesuffix("IfExists")
    negated = base in _NEGATED
    base = _NEGATED.get(base, base)
    return Operator(base, negated, if_exists, quantifier) if base in _TESTS else None


def holds(condition: Condition, context: Context, variables: Context | None) -> bool:
    operator = condition.operator
    found = context.get(condition.key)
    if operator.base == NULL:
        return any((value.lower() == "true") == (found is None) for value in condition.values)
    if found is None:
        if operator.quantifier == _ANY:
            return operator.if_exists
        return operator.if_exists or operator.negated or operator.quantifier == _ALL
    test = _TESTS[operator.base]

    def matched(value: str) -> bool:
        return any(test(wanted, value, variables) for wanted in condition.values)

    if operator.quantifier == _ALL:
        return all(matched(value) is not operator.negated for value in found)
    if operator.quantifier == _ANY:
        return any(matched(value) is not operator.negated for value in found)
    return any(map(matched, found)) is not operator.negated


# Those that a request can have here, and those that no request here has, but that policies from elsewhere ask for.
_KEYS = frozenset(
    name.lower()
    for name in [
        "aws:SourceIp",
        "aws:SecureTransport",
        "aws:UserAgent",
        "aws:Referer",
        "aws:CurrentTime",
        "aws:EpochTime",
        "aws:username",
        "aws:userid",
        "aws:PrincipalType",
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "s3:prefix",
        "s3:delimiter",
        "s3:max-keys",
        "s3:VersionId",
        "s3:authType",
        "s3:signatureversion",
        "s3:signatureAge",
        "s3:RequestObjectTagKeys",
        "s3:object-lock-mode",
        "s3:object-lock-legal-hold",
        "s3:object-lock-retain-until-date",
        "s3:if-match",
        "s3:if-none-match",
        "s3:x-amz-acl",
        "s3:x-amz-content-sha256",
        "s3:x-amz-copy-source",
        "s3:x-amz-metadata-directive",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-server-side-encryption-customer-algorithm",
        "s3:x-amz-storage-class",
        "s3:x-amz-object-ownership",
        "s3:x-amz-grant-read",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-grant-full-control",
        "s3:x-amz-website-redirect-location",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:VpcSourceIp",
        "aws:SourceArn",
        "aws:SourceAccount",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:PrincipalIsAWSService",
        "aws:MultiFactorAuthPresent",
        "aws:MultiFactorAuthAge",
        "aws:TokenIssueTime",
        "aws:ViaAWSService",
        "aws:CalledVia",
        "aws:FederatedProvider",
    ]
)
_KEY_PREFIXES = ("s3:existingobjecttag/", "s3:requestobjecttag/", "aws:principaltag/")


def known_key(key: str) -> bool:
    name = key.lower()
    return name in _KEYS or any(name.startswith(one) and len(name) > len(one) for one in _KEY_PREFIXES)
