"""PURE: what rounding and clipping to a range cost, in information."""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from furiosa.quantizer.histogram import Distribution
from furiosa.quantizer.qparams import HIGHEST, LOWEST, Doubles, activation_parameters

_BINS: Final = 4096  # 16 a level when nothing is clipped
_OCCUPANCY: Final = 4  # values a bin, on average: finer bins would show noise and no shape


# A spike: a bin with so many times the values of the densest around it, leaving out the two next to it,
# between which a value that jitters may fall; and so large that it is no accident and matters.
_SPIKE_RATIO: Final = 16
_SPIKE_REACH: Final = 8
_SPIKE_COUNT: Final = 32
_SPIKE_SHARE: Final = 2.0**-10


class Divergence:
    """Kullback-Leibler divergence of the quantised from the clipped distribution, in nats.

    The reference P is the histogram inside the range, with what lies outside added to the outermost
    occupied bins, where clipping puts it. Q is what the stored integers still tell of the inside: how
    many values fell to each level, spread evenly over the occupied bins of the level's cell. So
    clipping costs by the mass it moves and rounding by the shape it blurs. Empty bins have no part in
    P or Q; zeros are exact under every range and count in neither.

    Three things differ from the usual recipe, which fails when both ends move or values are few:
    Q is not scaled up to the mass of P (sum P log(P/Q) - P + Q is the divergence of unequal masses),
    or a range with nearly everything outside would look perfect. The sampling noise that merging bins
    evens out, half a value each on average, is no loss and is taken off; where the bins are wider
    than the levels nothing is blurred: with little data the whole range is best. And one value that
    is very frequent is no shape that a level could blur: such spikes count only where they are
    clipped, else they would draw the range so tight that a cell is a single bin.
    """

    def __init__(self, values: Distribution) -> None:
        smooth = replace(values, counts=_without_spikes(values))
        total = int(smooth.counts.sum())
        bins = max(min(_BINS, total // _OCCUPANCY), 2)
        smooth, values = smooth.coarsened(bins), values.coarsened(bins)
        occupied = smooth.counts > 0
        self._edges, self._width = smooth.edges, smooth.width
        self._counts = smooth.counts[occupied].astype(np.float64)
        self._scale = max(float(total), 1.0)
        # at each edge: how many occupied bins, values and values with spikes lie below it
        self._bins_below = np.concatenate([[0], np.cumsum(occupied)])
        self._below = np.concatenate([[0.0], np.cumsum(smooth.counts)])
        self._all_below = np.concatenate([[0.0], np.cumsum(values.counts)])

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest end of a range worth trying: outer edges, with 0 in between."""
        return min(float(self._edges[0]), 0.0), max(float(self._edges[-1]), 0.0)

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
        clipped = self._all_below[first], self._all_below[-1] - self._all_below[last]
        reference = self._counts[bins[:-1]]
        reference[0] += clipped[0]
        reference[-1] += clipped[1]

        scale, zero_point = activation_parameters(low, high)
        bounds = (np.arange(LOWEST, HIGHEST) - zero_point + 0.5) * scale.astype(np.float64)
        bounds = np.concatenate([[low], np.clip(bounds, low, high), [high]])
        places = np.interp(bounds, self._edges, self._bins_below)
        quantized = np.diff(np.interp(bins, places, np.interp(bounds, self._edges, self._below)))
        merged = np.maximum(np.diff(places) - 1, 0).sum()
        loss = np.sum(reference * np.log(reference / quantized)) - sum(clipped)
        return float((loss - merged / 2) / self._scale)


def _without_spikes(values: Distribution) -> npt.NDArray[np.int64]:
    """The counts with every spike lowered to what is around it.

    The bins next to 0 have none: what is frequent there need not be one value, many distributions are
    densest at 0, and it is nearly exact under every range.
    """
    counts = values.counts
    padded = np.pad(counts, _SPIKE_REACH)
    around = np.zeros_like(counts)
    for distance in range(2, _SPIKE_REACH + 1):
        for at in (_SPIKE_REACH - distance, _SPIKE_REACH + distance):
            np.maximum(around, padded[at : at + len(counts)], out=around)
    least = max(_SPIKE_SHARE * float(counts.sum()), _SPIKE_COUNT)
    spikes = (counts >= least) & (counts >= _SPIKE_RATIO * around)
    places = values.start + np.arange(len(counts))
    spikes &= (places < -1) | (places > 0)
    return np.where(spikes, around, counts)
