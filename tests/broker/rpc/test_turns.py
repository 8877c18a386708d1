"""Whose turn it is: one call of each, however many each has."""

import itertools
from types import SimpleNamespace

import pytest

from furiosa.broker.rpc import turns as turns_module
from furiosa.broker.rpc.turns import Turns
from support.waiting import until


@pytest.fixture(autouse=True)
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine is busy with, all that a test makes ready comes at the same moment."""
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=lambda: 100.0))


class Client:
    """Has `calls` to be taken, and notes in `order` when they are."""

    def __init__(self, name: str, calls: int, order: list[str]) -> None:
        self.name, self.left, self.order = name, calls, order

    def take(self) -> bool:
        self.left -= 1
        self.order.append(self.name)
        return self.left > 0


async def drained(order: list[str], total: int) -> None:
    await until(lambda: len(order) >= total)


async def test_one_that_floods_delays_another_by_one_call() -> None:
    turns, order = Turns(), list[str]()
    for _ in range(16):
        turns.ready("flooder", Client("a", 50, order).take)
    turns.ready("other", Client("b", 3, order).take)
    await drained(order, 803)
    first = order.index("b")
    assert first <= 2, "not behind the flood"
    assert [order[first + step] for step in (0, 2, 4)] == ["b"] * 3, "then every second one"


async def test_connections_of_one_client_share_its_turns() -> None:
    turns, order = Turns(), list[str]()
    turns.ready("x", Client("warm", 1, order).take)
    for name in "abc":
        turns.ready("x", Client(name, 2, order).take)
    await drained(order, 7)
    assert order == ["warm", "a", "b", "c", "a", "b", "c"]


async def test_a_call_that_comes_alone_is_taken_at_once() -> None:
    order: list[str] = []
    Turns().ready("x", Client("a", 1, order).take)
    assert order == ["a"]


async def test_what_a_call_makes_ready_waits_for_its_turn_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = itertools.count(1000)
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    turns, order = Turns(), list[str]()

    def nested() -> bool:
        order.append("outer")
        turns.ready("y", Client("inner", 1, order).take)
        order.append("after")
        return False

    turns.ready("w", Client("first", 1, order).take)
    turns.ready("x", nested)
    await drained(order, 4)
    assert order == ["first", "outer", "after", "inner"]
