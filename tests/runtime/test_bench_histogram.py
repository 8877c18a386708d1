"""Counts of latencies in buckets, and what is left out of them by those who wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.runtime.bench import Histogram

VALUES = st.lists(st.integers(0, 10**13), min_size=1, max_size=60)
RANKS = st.sampled_from([0.1, 50.0, 95.0, 99.0, 99.9, 100.0])


def of(*values: int) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


def exact(values: list[int], rank: float) -> int:
    """By the definition: the smallest value that so many percent do not exceed."""
    return next(
        value
        for value in sorted(values)
        if sum(other <= value for other in values) * 1000 >= round(rank * 10) * len(values)
    )


@given(VALUES, RANKS)
def test_percentiles_are_off_by_a_thousandth_at_most(values: list[int], rank: float) -> None:
    found, true = of(*values).percentile(rank), exact(values, rank)
    assert true <= found <= true * 1.001


@given(VALUES)
def test_count_sum_and_extremes_are_exact(values: list[int]) -> None:
    found = of(*values)
    assert (found.count, found.total) == (len(values), sum(values))
    assert (found.min, found.max) == (min(values), max(values))
    assert found.percentile(100) == max(values)


@given(VALUES, VALUES)
def test_merged_is_as_if_recorded_in_one(first: list[int], second: list[int]) -> None:
    merged = of(*first)
    merged.merge(of(*second))
    whole = of(*first, *second)
    assert list(merged.buckets()) == list(whole.buckets())
    assert (merged.count, merged.total) == (whole.count, whole.total)
    assert (merged.min, merged.max) == (whole.min, whole.max)


def test_merging_with_nothing_changes_nothing() -> None:
    found = of(5, 9)
    found.merge(Histogram())
    assert (found.min, found.max, found.count) == (5, 9, 2)
    empty = Histogram()
    empty.merge(of(5, 9))
    assert (empty.min, empty.max, empty.count) == (5, 9, 2)


def test_an_hour_takes_no_more_memory_than_a_second() -> None:
    found = of(*(50_000 + (number * 7919) % 3_000_000 for number in range(200_000)))
    assert found.count == 200_000
    assert len(list(found.buckets())) < 7000  # 1024 for each time that the value doubles


def test_a_stall_counts_for_all_who_would_have_begun_in_it() -> None:
    stalled = of(*[1_000_000] * 10_000, 1_000_000_000)
    assert stalled.percentile(99.9) == pytest.approx(1e6, rel=1e-3)  # as if nothing had been
    full = stalled.without_omissions()
    every = round(stalled.mean)
    assert full.count - stalled.count == 1_000_000_000 // every - 1
    # of somebody who begins every `every` ns, about a twelfth does so in the stall
    assert full.percentile(95) > 400_000_000
    assert full.percentile(50) == pytest.approx(1e6, rel=1e-3)
    assert (full.min, full.max) == (stalled.min, stalled.max)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_what_is_added_is_what_adding_one_by_one_gives(values: list[int]) -> None:
    found = of(*values)
    every = max(1, round(found.mean))
    expected = list(values)
    for _, high, count in found.buckets():
        value = min(high, found.max) - every
        while value >= every:
            expected.extend([value] * count)
            value -= every
    full = found.without_omissions()
    assert (full.count, full.total) == (len(expected), sum(expected))
    assert list(full.buckets()) == list(of(*expected).buckets())


def test_without_a_value_of_twice_the_mean_nothing_is_added() -> None:
    found = of(*range(1000, 1900))
    assert list(found.without_omissions().buckets()) == list(found.buckets())


def test_nothing_recorded_is_zero_everywhere() -> None:
    empty = Histogram().without_omissions()
    assert (empty.count, empty.mean, empty.percentile(99)) == (0, 0.0, 0)
