"""Sides that take turns, a few calls each.

A worker looks for more work for 0.1 ms after an answer and shares its CPU meanwhile, and each side leaves
the caches full of its own data. So the first call of a turn is not counted, and before it this process
waits, awake, until the worker sleeps.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.efforts import Effort
from benchmarks.inference.setting import on

SETTLE_NS = 500_000
TURN_SECONDS = 0.01  # so many calls, but at least one
MAX_CALLS = 100
MIN_TURNS = 10

Side = Callable[[int], list[float]]  # makes so many calls and says how many us each took


def blocking(run: Callable[[], object], cpus: frozenset[int]) -> Side:
    clock = time.perf_counter_ns

    def side(calls: int) -> list[float]:
        samples = []
        with on(cpus):
            for _ in range(calls):
                start = clock()
                run()
                samples.append((clock() - start) / 1e3)
        return samples

    return side


def awaited(
    run: Callable[[], Awaitable[object]], loop: asyncio.AbstractEventLoop, cpus: frozenset[int]
) -> Side:
    """Calls one after the other in a task of `loop`, which runs only meanwhile."""
    clock = time.perf_counter_ns

    async def timed(calls: int) -> list[float]:
        samples = []
        for _ in range(calls):
            start = clock()
            await run()
            samples.append((clock() - start) / 1e3)
        return samples

    def side(calls: int) -> list[float]:
        with on(cpus):
            return loop.run_until_complete(timed(calls))

    return side


@dataclass(frozen=True, slots=True)
class Turns:
    """The median of each turn, in us, for each side."""

    sides: tuple[list[float], ...]
    calls: int

    def added(self, ours: int = 0, theirs: int = 1) -> list[float]:
        """By how much ours took longer, turn by turn."""
        pairs = zip(self.sides[ours], self.sides[theirs], strict=True)
        return [a - b for a, b in pairs]

    @property
    def conditions(self) -> str:
        return f"{len(self.sides[0])} turns of {self.calls} calls"


def take(sides: Sequence[Side], effort: Effort) -> Turns:
    """As many turns as fit into the slots of an effort."""
    for side in sides:  # pages, caches, first calls
        side(5)
    slowest = max(statistics.median(side(3)) for side in sides) / 1e6
    calls = max(min(int(TURN_SECONDS / slowest), MAX_CALLS), 1)
    turn = (calls + 1) * slowest * len(sides)
    turns = max(int(effort.slots * effort.slot_seconds / turn), MIN_TURNS)
    medians: tuple[list[float], ...] = tuple([] for _ in sides)
    for _ in range(turns):
        for side, found in zip(sides, medians, strict=True):
            _settle()
            found.append(statistics.median(side(calls + 1)[1:]))
    return Turns(medians, calls)


def _settle() -> None:
    end = time.perf_counter_ns() + SETTLE_NS
    while time.perf_counter_ns() < end:
        pass
