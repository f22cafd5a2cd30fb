"""Conditions: the table of RFC 9110, and what reaches the engine."""

from __future__ import annotations

import itertools

import pytest

from gateway.s3.conditions import (
    Verdict,
    check_read,
    check_source,
    delete_condition,
    entry_condition,
    range_applies,
    write_condition,
)
from gateway.s3.errors import S3Error
from objstore.engine.types import ALWAYS, WriteCondition

MODIFIED_MS = 1369353600_999  # Fri, 24 May 2013 00:00:00.999 GMT
AT = "Fri, 24 May 2013 00:00:00 GMT"
BEFORE = "Thu, 23 May 2013 23:59:59 GMT"
AFTER = "Fri, 24 May 2013 00:00:01 GMT"
OK, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, OK),
        ({"if-match": '"e"'}, OK),
        ({"if-match": "e"}, OK),
        ({"if-match": '"x", "e"'}, OK),
        ({"if-match": "*"}, OK),
        ({"if-match": '"x"'}, FAILED),
        ({"if-match": 'W/"e"'}, FAILED),
        ({"if-none-match": '"e"'}, NOT_MODIFIED),
        ({"if-none-match": 'W/"e"'}, NOT_MODIFIED),
        ({"if-none-match": "*"}, NOT_MODIFIED),
        ({"if-none-match": '"x"'}, OK),
        ({"if-modified-since": AT}, NOT_MODIFIED),
        ({"if-modified-since": AFTER}, NOT_MODIFIED),
        ({"if-modified-since": BEFORE}, OK),
        ({"if-modified-since": "soon"}, OK),
        ({"if-unmodified-since": AT}, OK),
        ({"if-unmodified-since": AFTER}, OK),
        ({"if-unmodified-since": BEFORE}, FAILED),
        ({"if-unmodified-since": "2013-05-23T23:59:59Z"}, FAILED),
        ({"if-unmodified-since": "soon"}, OK),
    ],
)
def test_one_condition_of_a_read(headers: dict[str, str], verdict: Verdict) -> None:
    assert check_read(headers, "e", MODIFIED_MS) is verdict


MATCH = {None: None, '"e"': True, '"x"': False}
UNMODIFIED = {None: None, AT: True, BEFORE: False}
NONE_MATCH = {None: None, '"x"': True, '"e"': False}
MODIFIED = {None: None, BEFORE: True, AT: False}


def test_all_combinations_of_conditions_follow_the_order_of_rfc_9110() -> None:
    for match, unmodified, none_match, modified in itertools.product(MATCH, UNMODIFIED, NONE_MATCH, MODIFIED):
        given = {
            "if-match": match,
            "if-unmodified-since": unmodified,
            "if-none-match": none_match,
            "if-modified-since": modified,
        }
        first = MATCH[match] if match is not None else UNMODIFIED[unmodified]
        second = NONE_MATCH[none_match] if none_match is not None else MODIFIED[modified]
        expected = FAILED if first is False else NOT_MODIFIED if second is False else OK
        headers = {name: value for name, value in given.items() if value is not None}
        assert check_read(headers, "e", MODIFIED_MS) is expected, headers
        copy = {"x-amz-copy-source-" + name: value for name, value in headers.items()}
        if expected is OK:
            check_source(copy, "x-amz-copy-source-if-", "e", MODIFIED_MS)
        else:
            with pytest.raises(S3Error) as caught:
                check_source(copy, "x-amz-copy-source-if-", "e", MODIFIED_MS)
            assert caught.value.code == "PreconditionFailed"
            assert caught.value.extra["Condition"] in copy


def test_conditions_of_a_write_reach_the_engine_without_quotes() -> None:
    assert write_condition({}) == ALWAYS
    assert write_condition({"if-none-match": "*"}) == WriteCondition(None, "*")
    assert write_condition({"if-match": '"a", b'}) == WriteCondition("a,b", None)
    assert write_condition({"if-match": '"a"', "if-none-match": '"b"'}) == WriteCondition("a", "b")


def test_conditions_of_a_delete_reach_the_engine() -> None:
    assert delete_condition({}) == ALWAYS
    headers = {"if-match": '"e"', "x-amz-if-match-size": "0", "x-amz-if-match-last-modified-time": AT}
    assert delete_condition(headers) == WriteCondition("e", None, 0, MODIFIED_MS // 1000)
    assert entry_condition(None, None, None) == ALWAYS
    assert entry_condition('"e"', "5", "2013-05-24T00:00:00Z") == WriteCondition("e", None, 5, MODIFIED_MS // 1000)
    assert entry_condition("*", None, None) == WriteCondition("*")


@pytest.mark.parametrize(("size", "modified"), [("-1", None), ("1e3", None), ("", None), (None, "soon"), (None, "")])
def test_a_condition_of_a_delete_that_cannot_be_read_is_refused_not_ignored(
    size: str | None, modified: str | None
) -> None:
    with pytest.raises(S3Error) as caught:
        entry_condition(None, size, modified)
    assert caught.value.code == "InvalidArgument"
    with pytest.raises(S3Error):
        entry_condition("", None, None)


def test_a_weak_etag_of_a_write_never_becomes_a_strong_one() -> None:
    assert write_condition({"if-match": 'W/"a"'}) == WriteCondition("W/a", None)
    assert write_condition({"if-none-match": 'W/"a"'}) == WriteCondition(None, "a")


@pytest.mark.parametrize("name", ["if-match", "if-none-match"])
def test_a_condition_of_a_write_that_says_nothing_is_refused_not_ignored(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        write_condition({name: ""})
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    ("value", "applies"), [(None, True), ('"e"', True), ('"x"', False), ('W/"e"', False), (AT, True), (BEFORE, False)]
)
def test_if_range(value: str | None, applies: bool) -> None:
    assert range_applies({"if-range": value} if value else {}, "e", MODIFIED_MS) is applies
