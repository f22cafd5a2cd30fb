"""The document of lifecycle rules: what is shown reads back, and whatever is sent is a rule or an S3 error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import lifecycle
from gateway.s3.errors import S3Error
from gateway.s3.xml import element
from objstore.model.lifecycle import DAY_MS, BucketLifecycle, Expiry, LifecycleRule

texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=8)
tags = st.dictionaries(st.text("abc/", min_size=1, max_size=3), st.text("abc ", max_size=3).map(str.strip), max_size=3)
days = st.integers(1, 2**31 - 1)


@st.composite
def rules(draw: st.DrawFn) -> LifecycleRule:
    rule = LifecycleRule(
        draw(st.text("ab 1/ü", min_size=1, max_size=5).filter(lambda id: id == id.strip())), draw(st.booleans())
    )
    form = draw(st.sampled_from(("legacy", "and", "prefix", "tag", "size", "none")))
    if form in ("legacy", "prefix"):
        rule = msgspec.structs.replace(rule, prefix=draw(texts), form="legacy" if form == "legacy" else "")
    elif form == "and":
        above = draw(st.none() | st.integers(0, 99))
        below = draw(st.none() | st.integers(100, 10**15))
        found = draw(tags.filter(bool))
        rule = msgspec.structs.replace(
            rule, prefix=draw(st.none() | texts), tags=found, size_above=above, size_below=below, form="and"
        )
    elif form == "tag":
        rule = msgspec.structs.replace(rule, tags={"k": draw(st.text("abc", max_size=3))})
    elif form == "size":
        rule = msgspec.structs.replace(rule, size_above=draw(st.integers(0, 10**15)))
    noncurrent = draw(st.booleans())
    if noncurrent:
        newer = 0 if form == "legacy" else draw(st.integers(0, 100))
        rule = msgspec.structs.replace(rule, noncurrent_days=draw(days), newer_noncurrent=newer)
    ends = draw(st.sampled_from(("days", "date") if not noncurrent else ("days", "date", "nothing")))
    if ends == "days":
        rule = msgspec.structs.replace(rule, days=draw(days))
    elif ends == "date":
        rule = msgspec.structs.replace(rule, date_ms=draw(st.integers(-700_000, 2_900_000)) * DAY_MS)
    if form in ("legacy", "prefix", "none"):
        rule = msgspec.structs.replace(rule, abort_days=draw(st.integers(0, 9)))
        if ends == "nothing":
            rule = msgspec.structs.replace(rule, lone_marker=draw(st.none() | st.booleans()))
    return rule


@given(st.lists(rules(), min_size=1, max_size=4, unique_by=lambda rule: rule.id))
def test_what_is_shown_reads_back(found: list[LifecycleRule]) -> None:
    record = BucketLifecycle(tuple(found))
    assert lifecycle.parse(lifecycle.document(record), {}) == record


NAMES = (
    "Rule",
    "ID",
    "Status",
    "Filter",
    "Prefix",
    "And",
    "Tag",
    "Key",
    "Value",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "Expiration",
    "Days",
    "Date",
    "ExpiredObjectDeleteMarker",
    "NoncurrentVersionExpiration",
    "NoncurrentDays",
    "NewerNoncurrentVersions",
    "AbortIncompleteMultipartUpload",
    "DaysAfterInitiation",
    "Transition",
)
VALUES = (
    "",
    "Enabled",
    "true",
    "0",
    "-1",
    "1",
    "+5",
    "007",
    "1.5",
    "٣",
    "9" * 30,
    "2026-01-01",
    "0001-01-01T00:00:00+14:00",
)
DATES = ("9999-12-31T01:00:00-23:00", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-W01-1", "x" * 300)
leaves = st.builds(lambda name, value: element(name, value), st.sampled_from(NAMES), st.sampled_from(VALUES + DATES))
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>", st.sampled_from(NAMES), st.lists(inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(trees, max_size=6), st.booleans())
def test_whatever_is_sent_is_a_rule_or_an_error_of_s3(parts: list[str], whole: bool) -> None:
    content = "".join(parts)
    if whole:
        content = f"<Rule><Filter/><Status>Enabled</Status>{content}</Rule>"
    try:
        record = lifecycle.parse(f"<LifecycleConfiguration>{content}</LifecycleConfiguration>".encode(), {})
    except S3Error as error:
        assert error.status in (400, 501)
    else:
        assert lifecycle.parse(lifecycle.document(record), {}) == record


@pytest.mark.parametrize("value", [*VALUES, *DATES])
def test_every_date_is_midnight_or_refused(value: str) -> None:
    rule = f"<Rule><Filter/><Status>Enabled</Status><Expiration><Date>{value}</Date></Expiration></Rule>"
    try:
        [found] = lifecycle.parse(f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode(), {}).rules
    except S3Error:
        return
    assert found.date_ms is not None and found.date_ms % DAY_MS == 0
    assert lifecycle.expiration_header(Expiry(found.date_ms, found.id))


def test_headers_name_the_rule_as_in_a_url_and_times_as_in_http() -> None:
    shown = lifecycle.expiration_header(Expiry(1_356_048_000_000, 'Rule for "testfile".txt'))
    quoted = "Rule%20for%20%22testfile%22.txt"
    assert shown == {"x-amz-expiration": f'expiry-date="Fri, 21 Dec 2012 00:00:00 GMT", rule-id="{quoted}"'}
    never = lifecycle.expiration_header(Expiry(2**62, "r"))
    assert "Fri, 31 Dec 9999" in never["x-amz-expiration"]
    assert lifecycle.expiration_header(None) == {} == lifecycle.abort_headers(None)


def test_the_size_of_transitions_is_kept_or_refused() -> None:
    body = lifecycle.document(BucketLifecycle((LifecycleRule("r", True, days=1),)))
    assert lifecycle.parse(body, {lifecycle.MINIMUM_HEADER: "varies_by_storage_class"}).minimum_size == (
        "varies_by_storage_class"
    )
    with pytest.raises(S3Error) as refused:
        lifecycle.parse(body, {lifecycle.MINIMUM_HEADER: "none"})
    assert refused.value.code == "InvalidArgument"
