"""What is due when."""

import math
import random

from furiosa.broker.lease.deadlines import Deadlines


def test_the_next_is_the_earliest() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.next() == math.inf
    deadlines.set("late", 9.0)
    deadlines.set("soon", 2.0)
    assert deadlines.next() == 2.0


def test_what_is_due_is_given_once_in_the_order_of_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, time in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        deadlines.set(key, time)
    assert list(deadlines.due(2.0)) == ["a", "b"]
    assert list(deadlines.due(2.0)) == []
    assert deadlines.next() == 3.0


def test_a_deadline_can_be_moved_back_and_forth_dropped_and_made_never() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for time in (5.0, 7.0, 5.0, 6.0):
        deadlines.set("a", time)
    assert list(deadlines.due(5.5)) == []
    assert list(deadlines.due(6.0)) == ["a"]
    deadlines.set("b", 8.0)
    deadlines.drop("b")
    deadlines.set("c", 8.0)
    deadlines.set("c", math.inf)
    deadlines.drop("unknown")
    assert deadlines.next() == math.inf


def test_a_key_that_is_set_again_while_due_ones_are_taken_comes_up_again() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    for key in deadlines.due(1.0):
        deadlines.set(key, 2.0)
    assert list(deadlines.due(2.0)) == ["a"]


def test_renewing_for_ever_does_not_grow_it() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for time in range(100_000):
        deadlines.set(time % 10, 1e6 + time)
    assert len(deadlines._heap) <= 64 + 4 * 10
    assert deadlines.next() == 1e6 + 99_990


def test_it_agrees_with_a_dictionary_whatever_happens() -> None:
    choose = random.Random(5)
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, float] = {}
    for now in range(2000):
        key = choose.randrange(20)
        if choose.random() < 0.2:
            deadlines.drop(key)
            plain.pop(key, None)
        else:
            plain[key] = now + choose.randrange(50)
            deadlines.set(key, plain[key])
        assert deadlines.next() == min(plain.values(), default=math.inf)
        due = list(deadlines.due(now))
        assert sorted(due) == sorted(key for key, time in plain.items() if time <= now)
        assert [plain[key] for key in due] == sorted(plain.pop(key) for key in due)
