"""PURE: what rounding and clipping to a range cost, in information."""

from typing import Final

import numpy as np

from furiosa.quantizer.histogram import Distribution
from furiosa.quantizer.qparams import HIGHEST, LOWEST, Doubles, activation_parameters

_BINS: Final = 4096  # 16 a level when nothing is clipped
_OCCUPANCY: Final = 4  # values a bin, on average: finer bins would show noise and no shape


class Divergence:
    """Kullback-Leibler divergence of the quantised from the clipped distribution, in nats.

    The reference P is the histogram inside the range, with what lies outside added to the outermost
    occupied bins, where clipping puts it. Q is what the stored integers still tell of the inside: how
    many values fell to each level, spread evenly over the occupied bins of the level's cell. So
    clipping costs by the mass it moves and rounding by the shape it blurs. Empty bins have no part in
    P or Q; zeros are exact under every range and count in neither.

    Two things differ from the usual recipe, which fails when both ends move or values are few:
    Q is not scaled up to the mass of P (sum P log(P/Q) - P + Q is the divergence of unequal masses),
    or a range with nearly everything outside would look perfect. And the sampling noise that merging
    bins evens out, half a value each on average, is no loss and is taken off. Where the bins are wider
    than the levels nothing is blurred: with little data the whole range is best.
    """

    def __init__(self, values: Distribution) -> None:
        self._total = max(float(values.counts.sum()), 1.0)
        values = values.coarsened(max(min(_BINS, int(self._total) // _OCCUPANCY), 2))
        occupied = values.counts > 0
        self._edges, self._width = values.edges, values.width
        self._counts = values.counts[occupied].astype(np.float64)
        # at each edge: how many occupied bins, and how many values, lie below it
        self._bins_below = np.concatenate([[0], np.cumsum(occupied)])
        self._below = np.concatenate([[0.0], np.cumsum(values.counts)])

    def snap(self, candidates: Doubles) -> Doubles:
        """The next greater edges, descending."""
        return np.unique(np.ceil(candidates / self._width) * self._width)[::-1]

    def __call__(self, lows: Doubles, highs: Doubles) -> Doubles:
        """[n] ranges with ends on edges of bins -> [n] divergences."""
        return np.array([self._of(low, high) for low, high in zip(lows, highs, strict=True)])

    def _of(self, low: float, high: float) -> float:
        ends = np.searchsorted(self._edges, (low, high))
        first, last = np.minimum(ends, len(self._edges) - 1)
        bins = np.arange(self._bins_below[first], self._bins_below[last] + 1)
        if len(bins) < 2:
            return np.inf if len(self._counts) else 0.0
        inside = self._below[last] - self._below[first]
        reference = self._counts[bins[:-1]]
        reference[0] += self._below[first]
        reference[-1] += self._below[-1] - self._below[last]

        scale, zero_point = activation_parameters(low, high)
        bounds = (np.arange(LOWEST, HIGHEST) - zero_point + 0.5) * scale.astype(np.float64)
        bounds = np.concatenate([[low], np.clip(bounds, low, high), [high]])
        places = np.interp(bounds, self._edges, self._bins_below)
        quantized = np.diff(np.interp(bins, places, np.interp(bounds, self._edges, self._below)))
        merged = np.maximum(np.diff(places) - 1, 0).sum()
        loss = np.sum(reference * np.log(reference / quantized)) - (self._total - inside)
        return float((loss - merged / 2) / self._total)
