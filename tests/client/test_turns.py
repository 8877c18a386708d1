"""Who reads for all: exactly one leads while anybody waits."""

import os
import select
from collections.abc import Iterator

import pytest

from furiosa.client._core.turns import Turns, Waiter


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    turns.close()


@pytest.fixture
def waiters() -> list[Waiter]:
    return [Waiter() for _ in range(3)]


def is_rung(waiter: Waiter) -> bool:
    assert waiter.bell is not None
    return bool(select.select([waiter.bell], [], [], 0)[0])


def test_first_leads_and_the_others_get_a_bell(turns: Turns, waiters: list[Waiter]) -> None:
    assert turns.idle
    for waiter in waiters:
        turns.enter(waiter)
    assert [turns.leads(waiter) for waiter in waiters] == [True, False, False]
    assert waiters[0].bell is None
    assert not is_rung(waiters[1])


def test_leader_that_leaves_names_and_wakes_the_next(turns: Turns, waiters: list[Waiter]) -> None:
    for waiter in waiters:
        turns.enter(waiter)
    turns.leave(waiters[0])
    assert turns.leads(waiters[1])
    assert is_rung(waiters[1])
    assert not is_rung(waiters[2])


def test_follower_that_leaves_changes_nothing(turns: Turns, waiters: list[Waiter]) -> None:
    for waiter in waiters:
        turns.enter(waiter)
    turns.leave(waiters[1])
    assert turns.leads(waiters[0])
    turns.leave(waiters[0])
    assert turns.leads(waiters[2])


def test_leaving_twice_or_without_having_entered_has_no_effect(
    turns: Turns, waiters: list[Waiter]
) -> None:
    turns.leave(waiters[0])
    turns.enter(waiters[1])
    turns.enter(waiters[2])
    turns.leave(waiters[1])
    turns.leave(waiters[1])
    assert turns.leads(waiters[2])
    turns.leave(waiters[2])
    assert turns.idle


def test_hushed_bell_is_silent_until_it_is_rung_again(turns: Turns, waiters: list[Waiter]) -> None:
    turns.enter(waiters[0])
    turns.enter(waiters[1])
    waiters[1].hush()
    turns.ring_all()
    turns.ring_all()
    assert is_rung(waiters[1])
    waiters[1].hush()
    assert not is_rung(waiters[1])


def test_bell_is_used_again_and_silent_for_its_next_owner(
    turns: Turns, waiters: list[Waiter]
) -> None:
    turns.enter(waiters[0])
    turns.enter(waiters[1])
    bell = waiters[1].bell
    waiters[1].ring()
    turns.leave(waiters[1])
    turns.enter(waiters[2])
    assert waiters[2].bell == bell
    assert not is_rung(waiters[2])


def test_who_enters_after_the_end_gets_a_bell_of_its_own(
    turns: Turns, waiters: list[Waiter]
) -> None:
    """The number of the old bell is another file's by then."""
    turns.enter(waiters[0])
    turns.enter(waiters[1])
    turns.leave(waiters[0])
    turns.leave(waiters[1])
    turns.close()
    other = os.memfd_create("other")
    try:
        os.write(other, b"somebody else's")
        os.lseek(other, 0, os.SEEK_SET)
        turns.enter(waiters[0])
        turns.enter(waiters[1])
        turns.ring_all()
        assert is_rung(waiters[1])
        assert waiters[1].bell != other
        assert os.read(other, 100) == b"somebody else's"
    finally:
        os.close(other)
        turns.leave(waiters[0])
        turns.leave(waiters[1])


def test_a_waiter_that_was_interrupted_while_leaving_still_counts(
    turns: Turns, waiters: list[Waiter]
) -> None:
    """Until it leaves a second time nobody may close the bells: it may have one in its hands."""

    class Interrupted(Exception):
        pass

    class Interrupting(list[int]):
        def append(self, item: int) -> None:
            super().append(item)
            raise Interrupted

    turns.enter(waiters[0])
    turns.enter(waiters[1])
    turns._free = Interrupting()
    with pytest.raises(Interrupted):
        turns.leave(waiters[1])
    turns.leave(waiters[0])
    assert not turns.idle
    turns.leave(waiters[1])
    assert turns.idle
