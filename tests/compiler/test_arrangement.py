"""Addresses of intervals: nothing that is alive at once overlaps, and little is lost between."""

import numpy as np
import pytest

from furiosa.compiler.gir.arrangement import Arrangement, Effort, Interval, arrange, most_alive
from furiosa.enf.limits import ALIGNMENT

NO_SEARCH = Effort(0)
LOSS = (
    1.35  # of the bytes alive at once; the worst of thousands of random sets without search is 1.3
)


def random_intervals(rng: np.random.Generator) -> list[Interval]:
    steps = int(rng.integers(1, 60))
    found = []
    for _ in range(int(rng.integers(1, 80))):
        first = int(rng.integers(steps))
        last = min(steps - 1, first + int(rng.geometric(0.25)))
        found.append(Interval(first, last, int(2 ** rng.uniform(0, 20))))
    return found


def check(intervals: list[Interval], found: Arrangement) -> None:
    for n, (a, start) in enumerate(zip(intervals, found.offsets, strict=True)):
        assert start >= 0
        assert start % ALIGNMENT == 0
        assert start + a.nbytes <= found.peak
        for b, begin in zip(intervals[:n], found.offsets[:n], strict=True):
            if a.first <= b.last and b.first <= a.last:
                assert start + a.nbytes <= begin or begin + b.nbytes <= start


@pytest.mark.parametrize("seed", range(150))
def test_what_is_alive_at_once_does_not_overlap(seed: int) -> None:
    intervals = random_intervals(np.random.default_rng(seed))
    found = arrange(intervals, NO_SEARCH)
    check(intervals, found)
    assert most_alive(intervals) <= found.peak <= LOSS * most_alive(intervals)


@pytest.mark.parametrize("seed", range(20))
def test_a_search_never_makes_it_worse(seed: int) -> None:
    intervals = random_intervals(np.random.default_rng(seed))
    for effort in (Effort(50), Effort(50, is_random_start=True)):
        found = arrange(intervals, effort)
        check(intervals, found)
        assert found.peak <= arrange(intervals, NO_SEARCH).peak


def test_a_search_finds_what_the_orders_miss() -> None:
    sets = [random_intervals(np.random.default_rng(seed)) for seed in (4, 56, 60, 72, 82, 106)]
    first = [arrange(intervals, NO_SEARCH).peak for intervals in sets]
    searched = [arrange(intervals, Effort(300)).peak for intervals in sets]
    assert sum(searched) < sum(first)


def test_equal_seeds_give_equal_plans_and_others_differ() -> None:
    intervals = random_intervals(np.random.default_rng(106))
    plans = [
        arrange(intervals, Effort(40, 0, seed, is_random_start=True)).offsets for seed in (1, 1, 2)
    ]
    assert arrange(intervals, NO_SEARCH).peak > most_alive(intervals)  # so that a search runs
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_a_search_ends_where_it_is_enough() -> None:
    intervals = random_intervals(np.random.default_rng(106))
    first = arrange(intervals, NO_SEARCH)
    assert arrange(intervals, Effort(300, enough=first.peak)) == first


def test_things_that_never_meet_share_an_address() -> None:
    assert arrange([Interval(0, 1, 100), Interval(2, 3, 90)], NO_SEARCH) == Arrangement([0, 0], 128)


def test_nothing_takes_no_room() -> None:
    assert arrange([], NO_SEARCH) == Arrangement((), 0)


def test_what_ends_in_a_step_is_alive_in_it() -> None:
    assert most_alive([Interval(0, 2, 64), Interval(2, 3, 64), Interval(3, 3, 1)]) == 128
