"""Which retention follows which, and what a bucket gives to a new version."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from objstore.model.errors import ObjectLocked
from objstore.model.locking import COMPLIANCE, CONFIG_NAME, GOVERNANCE, BucketLock, lock_of, retained, with_default
from objstore.model.records import NO_LOCK, Lock, encode

NOW = 1_000_000
G, C = Lock(GOVERNANCE, NOW + 50), Lock(COMPLIANCE, NOW + 50)


@pytest.mark.parametrize(
    ("before", "mode", "until", "bypass", "allowed"),
    [
        (NO_LOCK, COMPLIANCE, NOW + 1, False, True),
        (NO_LOCK, "", 0, False, True),
        (G, GOVERNANCE, NOW + 50, False, True),
        (G, GOVERNANCE, NOW + 51, False, True),
        (G, GOVERNANCE, NOW + 49, False, False),
        (G, GOVERNANCE, NOW + 49, True, True),
        (G, COMPLIANCE, NOW + 50, False, False),
        (G, COMPLIANCE, NOW + 50, True, True),
        (G, "", 0, False, False),
        (G, "", 0, True, True),
        (C, COMPLIANCE, NOW + 50, False, True),
        (C, COMPLIANCE, NOW + 51, False, True),
        (C, COMPLIANCE, NOW + 49, True, False),
        (C, GOVERNANCE, NOW + 99, True, False),
        (C, "", 0, True, False),
        (Lock(COMPLIANCE, NOW), "", 0, False, True),
        (Lock(COMPLIANCE, NOW), GOVERNANCE, NOW + 1, False, True),
    ],
)
def test_a_retention_may_grow_and_only_governance_may_shrink(
    before: Lock, mode: str, until: int, bypass: bool, allowed: bool
) -> None:
    if allowed:
        assert retained(before, mode, until, NOW, bypass=bypass) == Lock(mode, until)
    else:
        with pytest.raises(ObjectLocked):
            retained(before, mode, until, NOW, bypass=bypass)


def test_a_hold_stays_whatever_becomes_of_the_retention() -> None:
    assert retained(Lock(hold=True), GOVERNANCE, NOW + 1, NOW, bypass=False) == Lock(GOVERNANCE, NOW + 1, True)


def ms(*date: int) -> int:
    return round(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


def test_the_default_counts_days_or_years_of_the_calendar() -> None:
    def default(lock: BucketLock, now: int, own: Lock = NO_LOCK) -> Lock:
        return with_default(own, {CONFIG_NAME: encode(lock)}, now)

    day = BucketLock(GOVERNANCE, days=1)
    assert default(day, ms(2027, 12, 31, 7)) == Lock(GOVERNANCE, ms(2028, 1, 1, 7))
    year = BucketLock(COMPLIANCE, years=1)
    assert default(year, ms(2028, 2, 29)) == Lock(COMPLIANCE, ms(2029, 3, 1))
    assert default(year, ms(2027, 2, 28)) == Lock(COMPLIANCE, ms(2028, 2, 28))
    assert default(year, NOW, G) == G
    assert default(day, 0, Lock(hold=True)) == Lock(GOVERNANCE, 86_400_000, True)
    assert default(BucketLock(), NOW) == NO_LOCK
    assert with_default(NO_LOCK, {}, NOW) == NO_LOCK
    assert lock_of({}) is None and lock_of({CONFIG_NAME: encode(BucketLock())}) == BucketLock()
