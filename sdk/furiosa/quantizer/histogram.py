"""PURE: how often which values occur, in bounded memory and one pass.

Bins are 2**e wide and aligned to 0. When the values outgrow the bins, e grows and bins merge in
pairs, so that what is counted is exactly what one pass over all values with the final width would
have counted, in any order.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BINS: Final = 1 << 15  # 256 KiB a tensor; a value 100 times the others leaves them over 160 bins
_MANTISSA: Final = 30  # finer bins than float32 can tell apart would only overflow their index


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Bin `i` counts the values other than 0 in [start + i, start + i + 1) * width.

    `minimum`, `maximum`: of all values. When there are zeros, 0 is the lower edge of a bin.
    """

    minimum: float
    maximum: float
    zeros: int
    start: int
    width: float
    counts: npt.NDArray[np.int64]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """[bins + 1]"""
        return np.asarray((self.start + np.arange(len(self.counts) + 1)) * self.width, np.float64)

    def magnitudes(self) -> "Distribution":
        """Of the absolute values."""
        indices = self.start + np.arange(len(self.counts))
        mirrored = np.where(indices < 0, -1 - indices, indices)
        first = int(mirrored.min())
        counts = np.zeros(int(mirrored.max()) - first + 1, np.int64)
        np.add.at(counts, mirrored - first, self.counts)
        lowest, highest = max(self.minimum, -self.maximum, 0.0), max(-self.minimum, self.maximum)
        return Distribution(lowest, highest, self.zeros, first, self.width, counts)

    def coarsened(self, bins: int) -> "Distribution":
        """With the finest bins of which at most `bins` are needed."""
        start, width, counts = self.start, self.width, self.counts
        while len(counts) > bins:
            merged = ((start + np.arange(len(counts))) >> 1) - (start >> 1)
            halved = np.zeros(int(merged[-1]) + 1, np.int64)
            np.add.at(halved, merged, counts)
            start, width, counts = start >> 1, width * 2, halved
        return Distribution(self.minimum, self.maximum, self.zeros, start, width, counts)


class Extremes:
    """The least and the greatest of all values."""

    def __init__(self) -> None:
        self.minimum = np.inf
        self.maximum = -np.inf

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count more values. Raises: ValueError, and counts nothing, when one is not finite."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a value is not finite")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)

    def distribution(self) -> Distribution:
        return Distribution(self.minimum, self.maximum, 0, 0, 1.0, np.zeros(0, np.int64))


class Histogram(Extremes):
    """Extremes with the distribution between them."""

    def __init__(self) -> None:
        super().__init__()
        self._zeros = 0
        self._exponent = 0
        self._start = 0
        self._counts = np.zeros(0, np.int64)  # grows to BINS with the first value

    def add(self, values: npt.NDArray[Any]) -> None:
        super().add(values)
        if not values.size:
            return
        self._make_room()
        others = values[values != 0]
        self._zeros += values.size - others.size
        indices = _indices(others, self._exponent) - self._start
        self._counts += np.bincount(indices, minlength=BINS)

    def _make_room(self) -> None:
        """Move the counts to the bins that the extremes now ask for."""
        exponent = _exponent(self.minimum, self.maximum)
        start = int(_indices(self.minimum, exponent))
        if len(self._counts) and (exponent, start) == (self._exponent, self._start):
            return
        counts = np.zeros(BINS, np.int64)
        occupied = np.flatnonzero(self._counts)
        shift = min(exponent - self._exponent, 62)
        moved = ((self._start + occupied) >> shift) - start
        np.add.at(counts, moved, self._counts[occupied])
        self._exponent, self._start, self._counts = exponent, start, counts

    def distribution(self) -> Distribution:
        last = int(_indices(self.maximum, self._exponent))
        counts = self._counts[: last - self._start + 1].copy()
        width = 2.0**self._exponent
        return Distribution(self.minimum, self.maximum, self._zeros, self._start, width, counts)


def _indices(values: npt.ArrayLike, exponent: int) -> npt.NDArray[np.int64]:
    """Numbers of the bins; exact, since dividing by a power of two is."""
    return np.floor(np.ldexp(np.asarray(values, np.float64), -exponent)).astype(np.int64)


def _exponent(minimum: float, maximum: float) -> int:
    """The least e for which BINS bins of width 2**e hold both extremes; never falls as they move apart."""
    exponent = int(np.frexp(max(abs(minimum), abs(maximum)))[1]) - _MANTISSA
    if maximum > minimum:
        exponent = max(exponent, int(np.frexp((maximum - minimum) / BINS)[1]) - 1)
    while _indices(maximum, exponent) - _indices(minimum, exponent) >= BINS:
        exponent += 1
    return exponent
