"""Policies: patterns, conditions, and the order of allow and deny."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import translate
from re import DOTALL, compile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.actions import ACTIONS, action_of, needs
from gateway.s3.errors import S3Error
from gateway.s3.globs import glob, matches
from gateway.s3.operations import Operation
from gateway.s3.policies import Decision, Request, decide, is_public, names_session, parse
from gateway.s3.target import Query
from objstore.model.identity import BUILT_IN, Principal

ANN = Principal("ann")
IN_ROLE = Principal(role="reader", role_id="AROA1", session="work")


def document(*statements: Mapping[str, Any], version: str = "2012-10-17") -> bytes:
    return json.dumps({"Version": version, "Statement": list(statements)}).encode()


def statement(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*", **more}


def decided(raw: bytes, bucket: str = "", principal: Principal | None = ANN, **context: tuple[str, ...]) -> Decision:
    known = {name.replace("__", ":"): value for name, value in context.items()}
    return decide([("it", parse(raw, bucket))], Request("s3:GetObject", "arn:aws:s3:::b/k", principal, known))


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_patterns_match_as_shells_do(pattern: str, text: str) -> None:
    assert (glob(pattern).match(text) is not None) == (compile(translate(pattern), DOTALL).match(text) is not None)


@given(st.text(max_size=20))
def test_a_value_never_acts_as_a_pattern(value: str) -> None:
    variables = {"aws:username": (value,)}
    assert matches("home/${aws:username}/*", f"home/{value}/x", variables)
    assert matches("${aws:username}", "other", variables) == (value == "other")


def test_many_stars_take_no_time_to_fail() -> None:
    assert glob("*a" * 500 + "c").match("a" * 5000) is None


def test_variables() -> None:
    variables = {"aws:username": ("ann",)}
    assert matches("${*}x${?}${$}", "*x?$", variables)
    assert not matches("${*}", "a", variables)
    assert matches("${aws:unsaid, 'guest'}", "guest", variables)
    assert not matches("a${aws:unsaid}*", "a", variables)
    assert matches("${aws:username}", "${aws:username}", None)


def test_a_deny_beats_an_allow_whatever_the_order() -> None:
    allow, deny = statement(), statement(Effect="Deny", Sid="No")
    for order in ((allow, deny), (deny, allow)):
        assert decided(document(*order)) == Decision(denied="statement No of it")
    assert decided(document(allow)) == Decision(allowed="statement 1 of it")
    assert decided(document(statement(Resource="arn:aws:s3:::c/*"))) == Decision()


@pytest.mark.parametrize(
    ("principal", "asker", "applies"),
    [
        ("*", None, True),
        ({"AWS": "*"}, None, True),
        ({"AWS": "arn:aws:iam::000000000001:user/ann"}, ANN, True),
        ({"AWS": ["arn:aws:iam:::user/ann"]}, ANN, True),
        ({"AWS": "arn:aws:iam::000000000001:user/bob"}, ANN, False),
        ({"AWS": "arn:aws:iam::000000000002:user/ann"}, ANN, False),
        ({"AWS": "000000000001"}, Principal(), True),
        ({"AWS": "000000000001"}, ANN, False),
        ({"Service": "logging.s3.amazonaws.com"}, ANN, False),
        ({"AWS": "arn:aws:iam::000000000001:role/reader"}, IN_ROLE, True),
        ({"AWS": "arn:aws:sts:::assumed-role/reader/work"}, IN_ROLE, True),
        ({"AWS": "arn:aws:sts::000000000001:assumed-role/reader/other"}, IN_ROLE, False),
        ({"AWS": "arn:aws:iam::000000000001:user/reader"}, IN_ROLE, False),
        ({"AWS": "000000000001"}, IN_ROLE, False),
    ],
)
def test_principals(principal: Any, asker: Principal | None, applies: bool) -> None:
    assert bool(decided(document(statement(Principal=principal)), "b", asker).allowed) == applies
    others = statement(Resource="arn:aws:s3:::b/*", NotPrincipal=principal)
    assert bool(decided(document(others), "b", asker).allowed) != applies


def test_what_is_given_to_a_session_by_name() -> None:
    own, of_role = IN_ROLE.arn, IN_ROLE.issuer_arn

    def names(principal: Principal | None = IN_ROLE, **more: Any) -> bool:
        policy = parse(document(statement(**more)), "b")
        return names_session(policy, Request("s3:GetObject", "arn:aws:s3:::b/k", principal, {}))

    assert names(Principal={"AWS": own})
    assert not names(Principal={"AWS": of_role}) and not names(Principal="*")
    assert not names(NotPrincipal={"AWS": own}) and not names(Principal={"AWS": own}, Effect="Deny")
    assert not names(Principal={"AWS": own}, Action="s3:PutObject")
    assert not names(ANN, Principal={"AWS": ANN.arn}) and not names(None, Principal="*")


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ({"StringEquals": {"s3:prefix": ["a", "b"]}}, ("b",), True),
        ({"StringEquals": {"s3:prefix": "a"}}, None, False),
        ({"StringEqualsIfExists": {"s3:prefix": "a"}}, None, True),
        ({"StringNotEquals": {"s3:prefix": ["a", "b"]}}, ("b",), False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, None, True),
        ({"StringEqualsIgnoreCase": {"s3:prefix": "A"}}, ("a",), True),
        ({"StringLike": {"s3:prefix": "a*"}}, ("ab",), True),
        ({"StringNotLike": {"s3:prefix": "a*"}}, ("ab",), False),
        ({"NumericLessThanEquals": {"s3:prefix": 10}}, ("10",), True),
        ({"NumericLessThan": {"s3:prefix": "10"}}, ("10",), False),
        ({"NumericLessThan": {"s3:prefix": "10"}}, ("many",), False),
        ({"DateGreaterThan": {"s3:prefix": "2020-01-01T00:00:00Z"}}, ("2021-01-01T00:00:00Z",), True),
        ({"Bool": {"s3:prefix": False}}, ("false",), True),
        ({"IpAddress": {"s3:prefix": "10.0.0.0/8"}}, ("10.1.2.3",), True),
        ({"IpAddress": {"s3:prefix": "10.0.0.0/8"}}, ("::ffff:10.1.2.3",), True),
        ({"NotIpAddress": {"s3:prefix": ["10.0.0.0/8", "::1"]}}, ("::1",), False),
        ({"Null": {"s3:prefix": "true"}}, None, True),
        ({"Null": {"s3:prefix": "true"}}, ("a",), False),
        ({"ForAllValues:StringEquals": {"s3:prefix": ["a", "b"]}}, ("a", "b"), True),
        ({"ForAllValues:StringEquals": {"s3:prefix": ["a"]}}, ("a", "b"), False),
        ({"ForAllValues:StringEquals": {"s3:prefix": ["a"]}}, None, True),
        ({"ForAnyValue:StringEquals": {"s3:prefix": ["a"]}}, ("a", "b"), True),
        ({"ForAnyValue:StringNotEquals": {"s3:prefix": ["a"]}}, ("a",), False),
        ({"ForAnyValue:StringEquals": {"s3:prefix": ["a"]}}, None, False),
    ],
)
def test_conditions(condition: Any, value: tuple[str, ...] | None, holds: bool) -> None:
    context = {} if value is None else {"s3__prefix": value}
    assert bool(decided(document(statement(Condition=condition)), **context).allowed) == holds


def test_what_is_public() -> None:
    everybody = statement(Principal="*")
    assert is_public(parse(document(everybody), "b"))
    assert not is_public(parse(document({**everybody, "Effect": "Deny"}), "b"))
    near = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    assert not is_public(parse(document({**everybody, "Condition": near}), "b"))
    assert is_public(parse(document({**everybody, "Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}}), "b"))
    assert not is_public(parse(document(statement(Principal={"AWS": "arn:aws:iam::000000000001:user/ann"})), "b"))


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Version", "Statement", "Effect", "Action", "x"]),
                                                  inner, max_size=4)), max_leaves=12).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_is_no_policy_is_malformed(raw: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse(raw, "b")
    assert caught.value.code == "MalformedPolicy"


def test_every_operation_needs_leave_but_those_decided_in_the_body() -> None:
    headers = {"x-amz-copy-source": "/other/k?versionId=null", "x-amz-rename-source": "old"}
    for operation in Operation:
        found = needs(operation, "b", "k", Query(), headers)
        assert bool(found) == (operation is not Operation.DELETE_OBJECTS)
        assert {need.action for need in found} <= ACTIONS
    source = needs(Operation.COPY_OBJECT, "b", "k", Query(), headers)[1]
    assert (source.action, source.resource) == ("s3:GetObjectVersion", "arn:aws:s3:::other/k")
    renaming = [(need.action, need.key) for need in needs(Operation.RENAME_OBJECT, "b", "k", Query(), headers)]
    assert renaming == [("s3:PutObject", "k"), ("s3:GetObject", "old"), ("s3:DeleteObject", "old")]
    versioned = needs(Operation.GET_OBJECT, "b", "k", Query([("versionId", "null")]), {})
    assert [need.action for need in versioned] == ["s3:GetObjectVersion"]
    assert action_of(Operation.HEAD_BUCKET) == "s3:ListBucket"


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_policies_are_policies(name: str) -> None:
    assert parse(BUILT_IN[name]).statements
