"""How often which time was measured, in memory that does not grow with the number of measurements.

PURE. Source of the form: HDR histograms, whose buckets are as wide as their values are large.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, Self

PRECISE: Final = 11  # significant bits of a value: it is at most 0.1 % off
COARSE: Final = 6  # at most 3.2 % off


class Histogram:
    """Counts of whole numbers >= 0, of which the `bits` highest bits are kept.

    `count`, `total`, `min` and `max` are exact; the last two are 0 while there is nothing.
    """

    __slots__ = ("_bits", "_counts", "count", "max", "min", "total")

    def __init__(self, bits: int = PRECISE) -> None:
        self._bits = bits
        self._counts: dict[int, int] = {}  # by the lowest value of a bucket
        self.count = self.total = self.min = self.max = 0

    def record(self, value: int) -> None:
        self._add(value, 1, value)
        if value < self.min or self.count == 1:
            self.min = value
        if value > self.max:
            self.max = value

    def merge(self, other: Self) -> None:
        """Add all of `other`, which has as many bits."""
        if not other.count:
            return
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        for low, count in tuple(other._counts.items()):  # it may be in use by its thread
            self._counts[low] = self._counts.get(low, 0) + count
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    def percentile(self, rank: float) -> int:
        """The smallest value that `rank` percent of all do not exceed; 0 while there is nothing."""
        wanted = max(1, math.ceil(self.count * Fraction(str(rank)) / 100))
        seen = 0
        for _, high, count in self.buckets():
            seen += count
            if seen >= wanted:
                return max(self.min, min(high, self.max))
        return 0

    def buckets(self) -> Iterator[tuple[int, int, int]]:
        """Lowest and highest value and count of each that is not empty, in order."""
        for low in sorted(self._counts):
            yield low, low + (1 << self._shift(low)) - 1, self._counts[low]

    def without_omissions(self) -> Self:
        """As somebody would have seen it who begins every mean time, ready or not.

        Who begins when the one before is done, measures one long time where others would have begun and
        waited meanwhile. A value v stands for v - mean, v - 2 mean, ... down to the mean as well. Below
        twice the mean nothing is added. `min` and `max` stay.
        """
        every = max(1, round(self.mean))
        full = type(self)(self._bits)
        full.merge(self)
        for _, high, count in self.buckets():
            value = min(high, self.max) - every
            while value >= every:
                low = self._low(value)
                # all of them that fall into this bucket at once
                times = (value - max(low, every)) // every + 1
                full._add(
                    value,
                    times * count,
                    (times * value - every * (times * (times - 1) // 2)) * count,
                )
                value -= times * every
        return full

    def _add(self, value: int, times: int, total: int) -> None:
        low = self._low(value)
        self._counts[low] = self._counts.get(low, 0) + times
        self.count += times
        self.total += total

    def _low(self, value: int) -> int:
        shift = self._shift(value)
        return value >> shift << shift

    def _shift(self, value: int) -> int:
        return max(0, value.bit_length() - self._bits)
