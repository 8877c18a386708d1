import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.health import (
    Available,
    CardHealth,
    Crashes,
    HealthPolicy,
    Reading,
    Transition,
    Unavailable,
)

GOOD = Reading(temperature_millicelsius=40_000)
DEAD = replace(GOOD, alive=False)
HOT = replace(GOOD, temperature_millicelsius=97_000)
WARM = replace(GOOD, temperature_millicelsius=90_000)
GONE = replace(GOOD, present=False)
MUTE = replace(GOOD, alive=False, readable=False)
CRASHING = replace(GOOD, crash_looping=True)


def told(*readings: Reading, policy: HealthPolicy | None = None) -> list[tuple[int, Transition]]:
    """With the second in which it was told; one reading a second, of card 3."""
    health = CardHealth(policy or HealthPolicy())
    return [
        (second, transition)
        for second, reading in enumerate(readings)
        for transition in health.observe({3: reading}, float(second))
    ]


def test_a_good_card_is_never_spoken_of() -> None:
    assert told(*[GOOD] * 50) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (DEAD, "the card does not answer (alive is 0)"),
        (MUTE, "the card cannot be read"),
        (HOT, "the card is too hot: 97 C; it comes back below 85 C"),
    ],
)
def test_one_bad_reading_is_forgiven_and_two_in_a_row_are_not(bad: Reading, reason: str) -> None:
    assert told(GOOD, bad, GOOD, bad, GOOD) == []
    assert told(GOOD, bad, bad, bad) == [(2, Unavailable(3, reason))]


def test_bad_readings_count_together_whatever_was_wrong() -> None:
    assert told(DEAD, MUTE) == [(1, Unavailable(3, "the card cannot be read"))]


def test_more_bad_readings_can_be_asked_for() -> None:
    policy = HealthPolicy(bad_readings=3)
    assert told(DEAD, DEAD, policy=policy) == []
    assert [second for second, _ in told(DEAD, DEAD, DEAD, policy=policy)] == [2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(GONE, "the card has vanished"), (CRASHING, "its workers crash one after another")],
)
def test_what_leaves_no_doubt_counts_at_once(bad: Reading, reason: str) -> None:
    assert told(bad) == [(0, Unavailable(3, reason))]


def test_a_card_comes_back_after_ten_good_seconds_without_a_break() -> None:
    assert told(GONE, *[GOOD] * 10)[1:] == []
    assert told(GONE, *[GOOD] * 11)[1:] == [(11, Available(3))]
    assert told(GONE, *[GOOD] * 9, DEAD, *[GOOD] * 10)[1:] == []
    assert told(GONE, *[GOOD] * 9, DEAD, *[GOOD] * 11)[1:] == [(21, Available(3))]


def test_a_warm_card_stays_and_a_hot_one_must_cool_down_first() -> None:
    assert told(*[WARM] * 20) == []
    assert told(HOT, WARM, HOT, WARM) == []
    assert [at for at, _ in told(HOT, HOT, *[WARM] * 30)] == [1]
    assert told(HOT, HOT, *[WARM] * 30, *[GOOD] * 11)[1:] == [(42, Available(3))]


@pytest.mark.parametrize(("millicelsius", "times"), [(95_000, 0), (95_001, 1)])
def test_the_limit_itself_is_not_too_hot(millicelsius: int, times: int) -> None:
    assert len(told(*[replace(GOOD, temperature_millicelsius=millicelsius)] * 5)) == times


@pytest.mark.parametrize(("millicelsius", "back"), [(84_999, True), (85_000, False)])
def test_the_lower_limit_itself_is_not_cold_enough(millicelsius: int, back: bool) -> None:
    cold = replace(GOOD, temperature_millicelsius=millicelsius)
    assert ((12, Available(3)) in told(HOT, HOT, *[cold] * 11)) is back


def test_a_missing_sensor_takes_no_card_away_and_gives_no_hot_one_back() -> None:
    unknown = replace(GOOD, temperature_millicelsius=None)
    assert told(*[unknown] * 20) == []
    assert len(told(HOT, HOT, *[unknown] * 50)) == 1


def test_another_reason_is_told_when_it_is_read_twice() -> None:
    assert told(DEAD, DEAD, MUTE, DEAD, GONE, DEAD, DEAD) == [
        (1, Unavailable(3, "the card does not answer (alive is 0)")),
        (4, Unavailable(3, "the card has vanished")),
        (6, Unavailable(3, "the card does not answer (alive is 0)")),
    ]


def test_cards_do_not_mind_each_other_and_come_by_number() -> None:
    health = CardHealth()
    health.observe({0: GOOD, 9: DEAD}, 0.0)
    assert health.observe({10: GONE, 9: DEAD, 0: DEAD}, 1.0) == (
        Unavailable(9, "the card does not answer (alive is 0)"),
        Unavailable(10, "the card has vanished"),
    )


READINGS = st.sampled_from([GOOD, GOOD, GOOD, DEAD, HOT, WARM, GONE, MUTE, CRASHING])
POLICIES = st.builds(
    HealthPolicy, bad_readings=st.integers(1, 4), recovery_seconds=st.floats(0.5, 5.0)
)


@given(st.lists(st.tuples(READINGS, st.floats(0.1, 2.0)), max_size=80), POLICIES)
def test_a_card_never_changes_faster_than_the_policy_allows(
    steps: list[tuple[Reading, float]], policy: HealthPolicy
) -> None:
    health, now, available = CardHealth(policy), 0.0, True
    history: list[tuple[float, Reading]] = []
    for reading, seconds in steps:
        now += seconds
        history.append((now, reading))
        transitions = health.observe({0: reading}, now)
        assert len(transitions) <= 1
        for transition in transitions:
            if isinstance(transition, Unavailable):
                if available and reading.present and not reading.crash_looping:
                    recent = [old for _, old in history[-policy.bad_readings :]]
                    assert len(recent) == policy.bad_readings
                    assert GOOD not in recent
                available = False
            else:
                assert not available
                # warm is good enough to stay and not to come back
                good = itertools.takewhile(lambda step: step[1] == GOOD, reversed(history))
                assert now - min(at for at, _ in good) >= policy.recovery_seconds
                available = True


def test_leases_whose_workers_crash_make_a_loop_and_time_forgets_them() -> None:
    crashes = Crashes()
    for second, lease in enumerate(("a", "b")):
        crashes.note(0, lease, float(second))
    assert not crashes.looping(0, 2.0)
    crashes.note(0, "c", 30.0)
    assert crashes.looping(0, 30.0)
    assert not crashes.looping(1, 30.0)
    assert crashes.looping(0, 59.9)
    assert not crashes.looping(0, 60.0)


def test_one_lease_alone_makes_no_loop() -> None:
    crashes = Crashes()
    for second in range(50):
        crashes.note(0, "a", float(second))
    assert not crashes.looping(0, 50.0)
