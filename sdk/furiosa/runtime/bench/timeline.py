"""What was measured when, in memory that does not grow with time. PURE."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from furiosa.runtime.bench.histogram import COARSE, Histogram

SLOTS: Final = 128
FIRST_WIDTH: Final = 1_000_000  # nanoseconds: slots are never shorter


@dataclass(frozen=True, slots=True)
class Slot:
    """Times in nanoseconds since the start; latencies of what ended in it."""

    start: int
    end: int
    latencies: Histogram


class Timeline:
    """At most SLOTS slots of one width, which doubles when they are full."""

    __slots__ = ("_slots", "_width")

    def __init__(self) -> None:
        self._width = FIRST_WIDTH
        self._slots: dict[int, Histogram] = {}

    def record(self, at: int, latency: int) -> None:
        """`at`: nanoseconds since the start, at which it ended."""
        number = at // self._width
        while number >= SLOTS:
            self._widen()
            number = at // self._width
        self._slot(number).record(latency)

    def merge(self, other: Self) -> None:
        """Add all of `other`, which began at the same time."""
        while self._width < other._width:
            self._widen()
        for number, latencies in tuple(other._slots.items()):  # it may be in use by its thread
            self._slot(number * other._width // self._width).merge(latencies)

    def slots(self, end: int) -> Iterator[Slot]:
        """All of them up to `end`, in order, also those in which nothing ended.

        What would be less than half a slot belongs to the last one.
        """
        last = max(0, (end + self._width // 2) // self._width - 1)
        for number in range(last + 1):
            found = Histogram(COARSE)
            for part in (number, number + 1) if number == last else (number,):
                found.merge(self._slots.get(part, Histogram(COARSE)))
            start = number * self._width
            yield Slot(start, end if number == last else start + self._width, found)

    def _slot(self, number: int) -> Histogram:
        found = self._slots.get(number)
        if found is None:
            found = self._slots[number] = Histogram(COARSE)
        return found

    def _widen(self) -> None:
        narrow, self._slots = self._slots, {}
        self._width *= 2
        for number, latencies in narrow.items():
            self._slot(number // 2).merge(latencies)
