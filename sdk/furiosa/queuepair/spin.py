"""Looking for an event awake before sleeping for it, as long as that pays.

A CPU that sleeps takes 25 us and more to wake, which is most of a short run. But whoever stays awake on
a core that it shares with the very peer it waits for keeps that peer from working: sched_yield(2) need
not switch to a task that has had more than its share. So a spin that found nothing, or in which
another task took the core, is not repeated for a while, each time for twice as long.
"""

import os
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Final

YIELD_NS: Final = 15_000  # a longer one says that somebody else has run
FIRST_PAUSE: Final = 16  # calls that do not spin, after one that did not pay
LAST_PAUSE: Final = 128


class Spin:
    """For one thread at a time."""

    __slots__ = ("_next", "_pause")

    def __init__(self) -> None:
        self._pause = 0
        self._next = FIRST_PAUSE

    def look(self, poll: Callable[[int], list[Any]], limit_ns: int) -> list[Any]:
        """What `poll(0)` finds within about `limit_ns`; [] when the caller had better sleep."""
        if self._pause:
            self._pause -= 1
            return []
        now = perf_counter_ns()
        end = now + limit_ns
        found: list[Any] = []
        while now < end and not found:
            before = now
            os.sched_yield()
            now = perf_counter_ns()
            found = poll(0)
            if now - before > YIELD_NS:
                break
        else:
            if found:
                self._next = FIRST_PAUSE
                return found
        self._pause = self._next
        self._next = min(2 * self._next, LAST_PAUSE)
        return found
