"""Scales of a drawing: from a value to a place, and the values worth a label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Axis:
    """`low` < `high` are shown at `start` and `end`, in pixels."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """In pixels; what lies beyond the axis is at its end."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> Sequence[float]:
        """At most so many round values."""
        return self._decades(most) if self.is_log else self._steps(most)

    def _steps(self, most: int) -> Sequence[float]:
        size = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(s * size for s in (1, 2, 5, 10) if (self.high - self.low) / (s * size) <= most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _decades(self, most: int) -> Sequence[float]:
        """1, 2 and 5 times powers of ten, or only powers, or every other one ..., as there is room."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps, every in ((_STEPS, 1), ((1,), 1), ((1,), 2), ((1,), 4)):
            found = [
                step * 10.0**power for power in range(first, last + 1, every) for step in steps
            ]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= most:
                break
        return found if len(found) > 1 else self._steps(most)
