"""When a write goes beyond a quota, and that nothing which was written is forgotten too early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.model.quota import NOTHING, SLOT_MS, SLOTS_MAX, BucketQuota, Need, Spending, is_beyond
from objstore.model.usage import BucketUse, Use, head_of, in_pages, is_full, is_nearly_full, page_of

BOTH = BucketQuota(100, 10)


@pytest.mark.parametrize(
    ("quota", "used", "more", "beyond"),
    [
        (BOTH, Need(90, 5), Need(10, 1), False),
        (BOTH, Need(90, 5), Need(11, 1), True),
        (BOTH, Need(0, 9), Need(0, 1), False),
        (BOTH, Need(0, 10), Need(0, 1), True),
        (BOTH, Need(500, 50), Need(0, 0), False),  # what adds nothing is never refused
        (BOTH, Need(500, 50), Need(-5, -1), False),
        (BOTH, Need(500, 5), Need(-5, 1), False),
        (BucketQuota(bytes=100), Need(0, 1 << 40), Need(1, 1), False),
        (BucketQuota(objects=10), Need(1 << 60, 9), Need(1 << 60, 1), False),
        (BucketQuota(), Need(1 << 60, 1 << 40), Need(1, 1), False),
    ],
)
def test_what_goes_beyond(quota: BucketQuota, used: Need, more: Need, beyond: bool) -> None:
    assert is_beyond(quota, used, more) == beyond


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(-50, 50)), max_size=400), st.integers(0, 300_000))
def test_spending_keeps_all_that_came_after_and_not_much_of_what_came_before(
    steps: list[tuple[int, int]], as_of_ms: int
) -> None:
    spending, now, entries = Spending(), 0, []
    for pause, size in steps:
        now += pause
        spending.add(now, Need(size, 1))
        entries.append(now)
    after = sum(at > as_of_ms for at in entries)
    found = spending.since(as_of_ms).objects
    joined = 2 ** max(0, (len(steps) // SLOTS_MAX + 1))  # how much may have been joined into one slot
    assert after <= found <= sum(at > as_of_ms - joined * (SLOT_MS + 3000) for at in entries)


def test_spending_is_bounded_however_long_nobody_measures() -> None:
    spending = Spending()
    for second in range(20 * SLOTS_MAX):
        spending.add(second * 5000, Need(1, 1))
    assert len(spending._slots) <= SLOTS_MAX
    assert spending.since(0) == Need(20 * SLOTS_MAX, 20 * SLOTS_MAX)
    assert spending.since(20 * SLOTS_MAX * 5000) == NOTHING


def test_a_clock_that_goes_back_loses_nothing() -> None:
    spending = Spending()
    spending.add(10_000, Need(1, 1))
    spending.add(3_000, Need(1, 1))
    assert spending.since(9_000) == Need(2, 2)


def bucket(number: int, size: int, quota: BucketQuota | None = None) -> tuple[bytes, BucketUse]:
    id = number.to_bytes(16, "big")
    return id, BucketUse(id.hex(), f"b{number:05}", Use(1, 1, 0, size), quota)


def test_pages_hold_every_bucket_once() -> None:
    found = dict(bucket(number, number) for number in range(5000))
    pages = in_pages(found)
    assert sorted(one.bucket for page in pages for one in page.buckets) == sorted(id.hex() for id in found)
    for id, one in found.items():
        assert one in pages[page_of(id)].buckets
    assert in_pages(found) == pages


def test_of_too_many_buckets_those_with_a_quota_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objstore.model.usage.BUCKETS_MAX", 3)
    found = dict([bucket(1, 10), bucket(2, 30), bucket(3, 0, BucketQuota(9)), bucket(4, 20), bucket(5, 5)])
    names = {one.name for page in in_pages(found) for one in page.buckets}
    assert names == {"b00003", "b00002", "b00004"}
    head = head_of(found, 7)
    assert (head.buckets, head.listed, head.total.bytes, head.as_of_ms) == (5, 3, 65, 7)


def test_nearly_full_is_said_before_it_is() -> None:
    one = bucket(1, 89, BucketQuota(100))[1]
    assert (is_nearly_full(one), is_full(one)) == (False, False)
    one = bucket(1, 90, BucketQuota(100))[1]
    assert (is_nearly_full(one), is_full(one)) == (True, False)
    one = bucket(1, 100, BucketQuota(100))[1]
    assert (is_nearly_full(one), is_full(one)) == (True, True)
    assert is_full(bucket(1, 0, BucketQuota(objects=1))[1])
    assert head_of(dict([bucket(1, 95, BucketQuota(100)), bucket(2, 95)]), 1).over == ["b00001"]
