"""What is due when: a heap whose outdated entries are skipped."""

import heapq
import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class Deadlines(Generic[_K]):
    """At most one time for each key."""

    def __init__(self) -> None:
        self._times: dict[_K, float] = {}
        self._heap: list[tuple[float, int, _K]] = []
        self._number = 0

    def set(self, key: _K, time: float) -> None:
        """inf: never."""
        if math.isinf(time):
            self._times.pop(key, None)
        elif self._times.get(key) != time:
            self._times[key] = time
            self._number += 1
            heapq.heappush(self._heap, (time, self._number, key))
            if len(self._heap) > 64 + 4 * len(self._times):  # many were moved on and never came up
                self._heap = [
                    entry for entry in self._heap if self._times.get(entry[2]) == entry[0]
                ]
                heapq.heapify(self._heap)

    def drop(self, key: _K) -> None:
        self._times.pop(key, None)

    def next(self) -> float:
        while self._heap:
            time, _, key = self._heap[0]
            if self._times.get(key) == time:
                return time
            heapq.heappop(self._heap)
        return math.inf

    def due(self, now: float) -> Iterator[_K]:
        """Keys whose time has come, by time; each is forgotten as it is given."""
        while self.next() <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._times[key]
            yield key
