"""The histogram against sorted lists."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from objstore.bench.histogram import Histogram

DURATIONS = st.lists(st.one_of(st.integers(0, 300), st.integers(0, 10**9)), min_size=1, max_size=200)


@given(DURATIONS, st.floats(0.001, 1.0))
def test_a_quantile_is_that_of_the_sorted_values_but_for_the_width_of_a_bucket(values: list[int], share: float) -> None:
    found = Histogram()
    for value in values:
        found.record(value)
    rank = next(i for i in range(1, len(values) + 1) if i >= share * len(values))
    exact = sorted(values)[rank - 1]
    assert abs(found.quantile_us(share) - exact) <= max(0.5, exact / 128)
    assert (found.count, found.total_us, found.longest_us) == (len(values), sum(values), max(values))


@given(DURATIONS, DURATIONS)
def test_merged_ones_are_one_of_all_values_and_survive_being_told(first: list[int], second: list[int]) -> None:
    parts, whole = (Histogram(), Histogram()), Histogram()
    for part, values in zip(parts, (first, second), strict=True):
        for value in values:
            part.record(value)
            whole.record(value)
    told = [Histogram(one.counts, one.total_us, one.longest_us) for one in parts]
    told[0].merge(told[1])
    assert (told[0].counts, told[0].count, told[0].mean_us) == (whole.counts, whole.count, whole.mean_us)


def test_it_does_not_grow_with_what_it_counts() -> None:
    found, chance = Histogram(), random.Random(1)
    for _ in range(20_000):
        found.record(int(chance.lognormvariate(8, 3)))
    assert len(found.counts) < 2000


def test_of_nothing_it_says_nothing() -> None:
    assert (Histogram().quantile_us(0.5), Histogram().mean_us) == (0.0, 0.0)
