"""PURE: from the distribution of a tensor's values to the range that is quantised.

Five methods, each asymmetric (both ends free) or quasi-symmetric: [-a, a], but [0, a] when no value is
negative. Apart from min-max and percentile every range contains 0, and lies within the values seen.

MSE and SQNR: the first takes the range with the least E[(x - q(x))^2], where q(x) is what the integer of x
stands for; the second the one with the greatest E[q(x)^2] / E[(x - q(x))^2]. (With the power of x itself
above, which no range changes, the ratio would be the error again.) So SQNR clips a little less.
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

    @property
    def is_symmetric(self) -> bool:
        return self % 2 == 1


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
    return _least(values, SquaredError(values).mean)


def _least_error_symmetric(values: Distribution, _: float) -> Range:
    return _least_symmetric(values, SquaredError(values).mean, _extremes(values), _anywhere)


def _least_noise(values: Distribution, _: float) -> Range:
    return _least(values, SquaredError(values).noise_to_signal)


def _least_noise_symmetric(values: Distribution, _: float) -> Range:
    return _least_symmetric(
        values, SquaredError(values).noise_to_signal, _extremes(values), _anywhere
    )


def _least_divergence(values: Distribution, _: float) -> Range:
    cost = Divergence(values)
    low, high = least_cost(cost, *cost.ends, cost.snap)
    return max(low, min(values.minimum, 0.0)), min(high, max(values.maximum, 0.0))


def _least_divergence_symmetric(values: Distribution, _: float) -> Range:
    cost = Divergence(values)
    return _least_symmetric(values, cost, cost.ends, cost.snap)


def _anywhere(candidates: Doubles) -> Doubles:
    return candidates


def _least(values: Distribution, cost: Cost) -> Range:
    return least_cost(cost, values.minimum, values.maximum, _anywhere)


def _least_symmetric(values: Distribution, cost: Cost, ends: Range, snap: Snap) -> Range:
    low, high = ends
    _, high = least_symmetric_cost(cost, max(-low, high), snap, one_sided=values.minimum >= 0)
    return _around_zero(values, min(high, max(-values.minimum, values.maximum)))


def _extremes(values: Distribution) -> Range:
    return values.minimum, values.maximum


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


_RANGES: Final[Mapping[CalibrationMethod, Callable[[Distribution, float], Range]]] = {
    CalibrationMethod.MIN_MAX_ASYM: _min_max,
    CalibrationMethod.MIN_MAX_SYM: _min_max_symmetric,
    CalibrationMethod.ENTROPY_ASYM: _least_divergence,
    CalibrationMethod.ENTROPY_SYM: _least_divergence_symmetric,
    CalibrationMethod.PERCENTILE_ASYM: _percentile,
    CalibrationMethod.PERCENTILE_SYM: _percentile_symmetric,
    CalibrationMethod.MSE_ASYM: _least_error,
    CalibrationMethod.MSE_SYM: _least_error_symmetric,
    CalibrationMethod.SQNR_ASYM: _least_noise,
    CalibrationMethod.SQNR_SYM: _least_noise_symmetric,
}
