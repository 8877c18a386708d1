"""PURE: what rounding and clipping to a range cost, in mean squared error."""

import numpy as np

from furiosa.quantizer.histogram import Distribution
from furiosa.quantizer.qparams import HIGHEST, LOWEST, Doubles, activation_parameters


class SquaredError:
    """The mean of (x - q(x))^2 and of q(x)^2, q(x) the dequantised x, as functions of the range.

    Values are taken as spread evenly within their bins; zeros are exact under every range. Each of
    the 256 cells a range makes costs a few look-ups in running sums of 1, x and x^2.
    """

    def __init__(self, values: Distribution) -> None:
        edges = values.edges
        left, right, counts = edges[:-1], edges[1:], values.counts.astype(np.float64)
        self._edges, self._width, self._counts = edges, values.width, counts
        self._sums = [
            np.concatenate([[0.0], np.cumsum(s)])
            for s in (
                counts,
                counts * (left + right) / 2,
                counts * (left * left + left * right + right * right) / 3,
            )
        ]
        self._total = max(counts.sum() + values.zeros, 1.0)

    def mean(self, lows: Doubles, highs: Doubles) -> Doubles:
        """[n] ranges -> [n] means of the squared error."""
        return np.asarray(self._moments(lows, highs)[0])

    def noise_to_signal(self, lows: Doubles, highs: Doubles) -> Doubles:
        """[n] ranges -> [n] powers of the error in shares of the quantised signal's power.

        Infinite where nothing of the signal is left. Unlike the mean it also asks that the power that
        clipping takes away stays.
        """
        noise, signal = self._moments(lows, highs)
        lost = np.where(noise > 0, np.inf, 0.0)
        return np.asarray(np.divide(noise, signal, out=lost, where=signal > 0))

    def _moments(self, lows: Doubles, highs: Doubles) -> Doubles:
        """[2, n]: the mean squared error, and the mean square of what is stored."""
        parts = [
            self._moments_of(lows[first : first + 512], highs[first : first + 512])
            for first in range(0, len(lows), 512)  # bounds the memory
        ]
        return np.concatenate(parts, axis=1)

    def _moments_of(self, lows: Doubles, highs: Doubles) -> Doubles:
        scale, zero_point = activation_parameters(lows, highs)
        step = scale.astype(np.float64)[:, None]
        levels = (np.arange(LOWEST, HIGHEST + 1) - zero_point[:, None]) * step
        sums = self._sums_below(levels[:, :-1] + step / 2)
        count, first, second = (np.diff(s, axis=1) for s in sums)
        signal = levels**2 * count
        noise = second - 2 * levels * first + signal
        return np.asarray(np.stack([noise.sum(axis=1), signal.sum(axis=1)]) / self._total)

    def _sums_below(self, bounds: Doubles) -> list[Doubles]:
        """Running sums at each bound, with those at the far ends around them."""
        last = len(self._counts)
        place = np.clip((bounds - self._edges[0]) / self._width, 0, last)
        bins = np.minimum(place.astype(np.int64), last - 1)
        part = place - bins
        left, reach = self._edges[bins], part * self._width
        mass = self._counts[bins] * part
        inside = (
            mass,
            mass * (left + reach / 2),
            mass * (left * left + left * reach + reach * reach / 3),
        )
        rows = len(bounds)
        return [
            np.concatenate(
                [np.zeros((rows, 1)), total[bins] + extra, np.full((rows, 1), total[-1])], axis=1
            )
            for total, extra in zip(self._sums, inside, strict=True)
        ]
