"""Looking awake goes on only as long as it pays."""

import os
from typing import Any

import pytest

from furiosa.queuepair import spin
from furiosa.queuepair.spin import FIRST_PAUSE, LAST_PAUSE, YIELD_NS, Spin


class Clock:
    """Each yield of the core takes `step` nanoseconds."""

    def __init__(self) -> None:
        self.now = 0
        self.step = 1_000

    def tick(self) -> None:
        self.now += self.step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(os, "sched_yield", made.tick)
    monkeypatch.setattr(spin, "perf_counter_ns", lambda: made.now)
    return made


class Events:
    """Finds something at the `at`th poll, counted from 1; 0: never."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.polls = 0

    def __call__(self, seconds: int) -> list[Any]:
        assert seconds == 0
        self.polls += 1
        self.left -= 1
        return ["event"] if self.left == 0 else []


def test_what_comes_in_time_is_found(clock: Clock) -> None:
    looking = Spin()
    for _ in range(3 * FIRST_PAUSE):
        assert looking.look(Events(5), 10_000) == ["event"]


def test_the_time_is_bounded(clock: Clock) -> None:
    events = Events(0)
    assert Spin().look(events, 10_000) == []
    assert events.polls == 10


def test_who_found_nothing_sleeps_at_once_for_twice_as_many_calls_each_time(clock: Clock) -> None:
    """So one who is idle, or whose peer is slow, does not burn its core."""
    looking, pauses, events = Spin(), [0], Events(0)
    while len(pauses) < 7:
        before = events.polls
        assert looking.look(events, 10_000) == []
        if events.polls > before:
            pauses.append(0)
        else:
            pauses[-1] += 1
    assert pauses[1:-1] == [16, 32, 64, 128, 128]
    assert (FIRST_PAUSE, LAST_PAUSE) == (16, 128)


def test_success_is_rewarded(clock: Clock) -> None:
    looking = Spin()
    for _ in range(1 + FIRST_PAUSE + 1 + 2 * FIRST_PAUSE):
        looking.look(Events(0), 10_000)
    assert looking.look(Events(1), 10_000) == ["event"]
    looking.look(Events(0), 10_000)
    polled = Events(0)
    for _ in range(FIRST_PAUSE):
        looking.look(polled, 10_000)
    assert polled.polls == 0
    assert looking.look(Events(1), 10_000) == ["event"]


def test_whoever_shares_its_core_does_not_spin(clock: Clock) -> None:
    clock.step = YIELD_NS + 1
    looking, events = Spin(), Events(1)
    assert looking.look(events, 1_000_000) == ["event"], "what was found is not lost"
    assert looking.look(events, 1_000_000) == []
    assert events.polls == 1
