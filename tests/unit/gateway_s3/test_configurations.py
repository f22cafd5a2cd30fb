"""Documents and headers of tags, locks and CORS: what is written is read back, and garbage is a clean refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import cors, locks, tags
from gateway.s3.errors import S3Error
from objstore.model.cors import BucketCors, CorsRule
from objstore.model.locking import COMPLIANCE, GOVERNANCE, BucketLock
from objstore.model.records import Lock

NOW = 1_700_000_000_000
NAMES = [
    "Tagging",
    "TagSet",
    "Tag",
    "Key",
    "Value",
    "ObjectLockConfiguration",
    "ObjectLockEnabled",
    "Rule",
    "DefaultRetention",
    "Mode",
    "Days",
    "Years",
    "Retention",
    "RetainUntilDate",
    "LegalHold",
    "Status",
    "CORSConfiguration",
    "CORSRule",
    "AllowedOrigin",
    "AllowedMethod",
    "AllowedHeader",
    "ExposeHeader",
    "MaxAgeSeconds",
    "ID",
]
VALUES = [
    "",
    " ",
    "Enabled",
    "GOVERNANCE",
    "1",
    "-1",
    "9" * 30,
    "٣",
    "ON",
    "*",
    "GET",
    "2030-01-01T00:00:00Z",
    "x\u00e9",
]
PARSERS: dict[str, Callable[[bytes], object]] = {
    "Tagging": lambda body: tags.parse(body, tags.OBJECT_TAGS_MAX),
    "ObjectLockConfiguration": locks.parse_bucket_lock,
    "Retention": lambda body: locks.parse_retention(body, NOW),
    "LegalHold": locks.parse_hold,
    "CORSConfiguration": cors.parse,
}


def written(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"<{name}>{content}</{name}>" for name, content in pairs)


text = st.sampled_from(VALUES)
nodes = st.recursive(
    text, lambda inner: st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=3).map(written), max_leaves=12
)


@pytest.mark.parametrize("root", sorted(PARSERS))
@given(content=nodes)
def test_no_document_is_more_than_refused(root: str, content: str) -> None:
    try:
        PARSERS[root](f"<{root}>{content}</{root}>".encode())
    except S3Error as error:
        assert error.status == 400


tag_text = st.text(st.characters(categories=("L", "N", "Zs"), include_characters="_.:/=+-@"), min_size=1, max_size=20)


@given(st.dictionaries(tag_text.filter(lambda key: not key.startswith("aws:")), tag_text, max_size=10))
def test_tags_are_read_as_they_are_written(wanted: dict[str, str]) -> None:
    assert tags.parse(tags.document(wanted), tags.OBJECT_TAGS_MAX) == wanted


@pytest.mark.parametrize("lock", [BucketLock(), BucketLock(GOVERNANCE, days=3), BucketLock(COMPLIANCE, years=100)])
def test_the_lock_of_a_bucket_is_read_as_it_is_written(lock: BucketLock) -> None:
    assert locks.parse_bucket_lock(locks.bucket_lock(lock)) == lock


@given(st.integers(NOW + 1, NOW + 10**13))
def test_a_retention_is_read_as_it_is_written(until: int) -> None:
    lock = Lock(GOVERNANCE, until)
    assert locks.parse_retention(locks.retention(lock), NOW) == (GOVERNANCE, until)
    assert locks.from_headers(locks.shown_headers(lock), NOW) == lock


@pytest.mark.parametrize(
    ("value", "until"),
    [
        ("2100-01-01T00:00:00Z", 4_102_444_800_000),
        ("2100-01-01T00:00:00.000000Z", 4_102_444_800_000),
        ("2100-01-01T00:00:00.0001Z", 4_102_444_800_001),
        ("2100-01-01T01:00:00+01:00", 4_102_444_800_000),
        ("2100-01-01T00:00:00", 4_102_444_800_000),
    ],
)
def test_forms_of_a_time(value: str, until: int) -> None:
    headers = {locks.MODE_HEADER: GOVERNANCE, locks.UNTIL_HEADER: value}
    assert locks.from_headers(headers, NOW) == Lock(GOVERNANCE, until)


RULE = CorsRule(("http://*",), ("GET",), ("*",), ("ETag",), 5, "one")


def test_cors_rules_are_read_as_they_are_written() -> None:
    rules = BucketCors((RULE, CorsRule(("*",), ("PUT", "HEAD"))))
    assert cors.parse(cors.document(rules)) == rules


@pytest.mark.parametrize("name", ["x y", "x\ny", "\u00e9", "a:b", ""])
def test_what_could_break_an_answer_is_no_header_to_expose(name: str) -> None:
    rule = f"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><ExposeHeader>{name}</ExposeHeader>"
    with pytest.raises(S3Error):
        cors.parse(f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>".encode())


@given(st.text(max_size=10), st.text(max_size=10))
def test_only_what_a_header_can_carry_is_repeated(origin: str, asked: str) -> None:
    headers = {"origin": "http://" + origin, "access-control-request-headers": asked}
    answer = cors.actual(BucketCors((RULE,)), "GET", headers)
    assert all(value.isascii() for value in answer.values())
    try:
        answer = cors.preflight(
            BucketCors((RULE,)), {**headers, "access-control-request-method": "GET"}, of_object=True
        )
    except S3Error as error:
        assert error.code == "AccessForbidden"
    else:
        assert all(value.isascii() for value in answer.values())


def test_a_pattern_needs_room_for_both_of_its_ends() -> None:
    rules = BucketCors((CorsRule(("ab*ba",), ("GET",)),))
    matched = [
        origin for origin in ("aba", "abba", "abxba", "ab", "xabba") if cors.actual(rules, "GET", {"origin": origin})
    ]
    assert matched == ["abba", "abxba"]
