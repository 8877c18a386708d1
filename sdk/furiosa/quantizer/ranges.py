"""PURE: from the distribution of a tensor's values to the range that is quantised.

Five methods, each asymmetric (both ends free) or quasi-symmetric: [-a, a], but [0, a] when no value is
negative. Apart from min-max and percentile every range contains 0, and lies within the values seen.
Source: reference of the quantizer, sections 1.1 and 3.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

import numpy as np

from furiosa.quantizer.divergence import Divergence
from furiosa.quantizer.histogram import Distribution
from furiosa.quantizer.qparams import Doubles
from furiosa.quantizer.search import Cost, Snap, least_cost, least_symmetric_cost
from furiosa.quantizer.squared_error import SquaredError

Range = tuple[float, float]


class CalibrationMethod(IntEnum):
    """How ranges are chosen. `_SYM`: quasi-symmetric. Numbers are those of the reference."""

    MIN_MAX_ASYM = 0
    MIN_MAX_SYM = 1
    ENTROPY_ASYM = 2
    ENTROPY_SYM = 3
    PERCENTILE_ASYM = 4
    PERCENTILE_SYM = 5
    MSE_ASYM = 6
    MSE_SYM = 7
    SQNR_ASYM = 8
    SQNR_SYM = 9

    @property
    def needs_histogram(self) -> bool:
        return self not in (CalibrationMethod.MIN_MAX_ASYM, CalibrationMethod.MIN_MAX_SYM)


def range_of(values: Distribution, method: CalibrationMethod, percentage: float = 99.99) -> Range:
    """The (minimum, maximum) to quantise. `percentage` concerns the percentile methods only."""
    return _RANGES[method](values, percentage)


def _min_max(values: Distribution, _: float) -> Range:
    return values.minimum, values.maximum


def _min_max_symmetric(values: Distribution, _: float) -> Range:
    return _around_zero(values, max(-values.minimum, values.maximum))


def _percentile(values: Distribution, percentage: float) -> Range:
    """Half of what may lie outside lies below, half above."""
    outside = (1 - percentage / 100) / 2
    low, high = _quantiles(values, np.array([outside, 1 - outside]))
    return float(low), float(high)


def _percentile_symmetric(values: Distribution, percentage: float) -> Range:
    high = _quantiles(values.magnitudes(), np.array([percentage / 100]))[0]
    return _around_zero(values, float(high))


def _least_error(values: Distribution, _: float) -> Range:
    return least_cost(SquaredError(values), values.minimum, values.maximum, lambda axis: axis)


def _least_error_symmetric(values: Distribution, _: float) -> Range:
    return _least_symmetric(values, SquaredError(values), lambda axis: axis)


def _least_divergence(values: Distribution, _: float) -> Range:
    cost = Divergence(values)
    low, high = least_cost(cost, values.minimum, values.maximum, cost.snap)
    return max(low, min(values.minimum, 0.0)), min(high, max(values.maximum, 0.0))


def _least_divergence_symmetric(values: Distribution, _: float) -> Range:
    cost = Divergence(values)
    return _least_symmetric(values, cost, cost.snap)


def _least_symmetric(values: Distribution, cost: Cost, snap: Snap) -> Range:
    highest = max(-values.minimum, values.maximum)
    _, high = least_symmetric_cost(cost, highest, snap, one_sided=values.minimum >= 0)
    return _around_zero(values, min(high, highest))


def _around_zero(values: Distribution, high: float) -> Range:
    return (0.0 if values.minimum >= 0 else -high), high


def _quantiles(values: Distribution, shares: Doubles) -> Doubles:
    """Where the given shares of all values lie below; linear within a bin."""
    edges = values.edges
    below = np.concatenate([[0], np.cumsum(values.counts)]).astype(np.float64)
    if values.zeros:  # a step at 0
        at = -values.start
        edges = np.insert(edges, at, 0.0)
        below = np.insert(below, at, below[at])
        below[at + 1 :] += values.zeros
    found = np.interp(shares * below[-1], below, edges)
    return np.asarray(np.clip(found, values.minimum, values.maximum))


# The signal-to-quantisation-noise ratio is E[x^2] / E[(x - q(x))^2]. Its numerator does not depend on
# the range, so the range with the greatest ratio is the one with the least mean squared error.
_RANGES: Final[Mapping[CalibrationMethod, Callable[[Distribution, float], Range]]] = {
    CalibrationMethod.MIN_MAX_ASYM: _min_max,
    CalibrationMethod.MIN_MAX_SYM: _min_max_symmetric,
    CalibrationMethod.ENTROPY_ASYM: _least_divergence,
    CalibrationMethod.ENTROPY_SYM: _least_divergence_symmetric,
    CalibrationMethod.PERCENTILE_ASYM: _percentile,
    CalibrationMethod.PERCENTILE_SYM: _percentile_symmetric,
    CalibrationMethod.MSE_ASYM: _least_error,
    CalibrationMethod.MSE_SYM: _least_error_symmetric,
    CalibrationMethod.SQNR_ASYM: _least_error,
    CalibrationMethod.SQNR_SYM: _least_error_symmetric,
}
