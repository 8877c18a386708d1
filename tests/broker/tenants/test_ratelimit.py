import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.tenants.policy import TenantPolicy
from furiosa.broker.tenants.ratelimit import MOST_BUCKETS, Bucket, RateLimits

LIMITED = TenantPolicy("a", acquires_per_second=2.0, burst=3)


def test_a_burst_is_admitted_and_then_the_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == 0.5


def test_a_refusal_takes_nothing() -> None:
    bucket = Bucket(rate=1.0, burst=1)
    assert bucket.take(0.0) == 0.0
    assert [bucket.take(0.5) for _ in range(100)] == [0.5] * 100
    assert bucket.take(1.0) == 0.0


def test_a_pause_saves_up_no_more_than_the_burst() -> None:
    bucket = Bucket(rate=100.0, burst=2)
    bucket.take(0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [0.0, 0.0, 0.01]


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(rate=1.0, burst=1)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(0.0) == 1.0


@given(
    st.floats(0.001, 1e6),
    st.integers(1, 100),
    st.lists(st.floats(0, 10), min_size=1, max_size=50),
    st.floats(0, 1e7),
)
def test_who_waits_as_long_as_told_is_admitted_and_nobody_gets_more_than_the_rate(
    rate: float, burst: int, steps: list[float], start: float
) -> None:
    bucket, now, admitted = Bucket(rate, burst), start, 0
    for step in steps:
        now += step
        wait = bucket.take(now)
        if wait:
            later = now + wait
            # as exact as the sum is
            assert bucket.take(later + 2e-9 * max(1.0, later / rate)) == 0.0
            now = later + 2e-9 * max(1.0, later / rate)
        admitted += 1
    assert admitted <= burst + (now - start) * rate * (1 + 1e-6) + 1e-3


def test_each_tenant_has_its_own_bucket_and_without_a_rate_none() -> None:
    limits = RateLimits()
    other = TenantPolicy("b", acquires_per_second=2.0, burst=3)
    assert [limits.take(LIMITED, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limits.take(other, 0.0) == 0.0
    assert not any(limits.take(TenantPolicy("c"), 0.0) for _ in range(1000))


def test_a_new_rate_counts_at_once_and_gives_no_second_burst() -> None:
    limits = RateLimits()
    for _ in range(3):
        limits.take(LIMITED, 0.0)
    faster = TenantPolicy("a", acquires_per_second=10.0, burst=50)
    assert limits.take(faster, 0.0) == 0.1
    assert limits.take(faster, 0.1) == 0.0
    assert [limits.take(faster, 10.0) for _ in range(51)] == [0.0] * 50 + [0.1]
    slower = TenantPolicy("a", acquires_per_second=1.0, burst=1)
    limits.take(faster, 20.0)
    assert [limits.take(slower, 20.0) for _ in range(2)] == [0.0, 1.0]


def test_tenants_that_come_and_go_are_forgotten_when_it_makes_no_difference() -> None:
    limits = RateLimits()
    limits.take(LIMITED, 0.0)
    for number in range(MOST_BUCKETS * 3):
        limits.take(TenantPolicy(f"pod:{number}", acquires_per_second=1.0, burst=1), number * 1.0)
    assert len(limits._buckets) <= MOST_BUCKETS
    now = MOST_BUCKETS * 3.0
    last = TenantPolicy(f"pod:{MOST_BUCKETS * 3 - 1}", acquires_per_second=1.0, burst=1)
    assert limits.take(last, now - 0.5) == pytest.approx(0.5)
