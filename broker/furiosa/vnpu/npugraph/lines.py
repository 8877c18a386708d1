"""Tables that are two straight lines: rescaling, LeakyRelu, clamps and magnitudes are.

onnxruntime has one operator that looks bytes up in a table of 256, QLinearLeakyRelu, and it makes that
table itself, of two lines. It takes a quarter of the time of a lookup by indices.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_INDEX: Final = np.arange(256)
_AWAY: Final = _INDEX - _INDEX[:, None]  # [corner, index]
_NEAR: Final = np.where(_AWAY == 0, 1, _AWAY)
_HALF: Final = np.where(_AWAY == 0, np.inf, 0.5 / np.abs(_NEAR))  # a corner bounds no slope
_STEEPEST: Final = 256.0  # no steeper line differs from it
_SLACK: Final = 1e-9  # of slopes that only one number fits, such as 1/2


@dataclass(frozen=True, slots=True)
class Lines:
    """Two lines that meet at the index `corner`: of `slope` from there on, of `slope * ratio` before it."""

    corner: int
    slope: float
    ratio: float


def two_lines(entries: npt.NDArray[np.uint8]) -> Lines | None:
    """Lines that give exactly these 256 entries, once clamped to their least and largest.

    An entry that is `rise` higher than the corner's holds the slope to (rise -+ 1/2) / distance, or to one
    side of it if it may have been clamped. All entries on one side of a corner together leave a range.
    """
    slopes = (entries.astype(np.int64) - entries.astype(np.int64)[:, None]) / _NEAR
    least, most = slopes - _HALF, slopes + _HALF
    lowest, highest = entries == entries.min(), entries == entries.max()
    ranges = []
    for side, below, above in ((_AWAY > 0, lowest, highest), (_AWAY < 0, highest, lowest)):
        low = np.where(side & ~below, least, -_STEEPEST).max(axis=1)
        high = np.where(side & ~above, most, _STEEPEST).min(axis=1)
        # not the middle, which is 0 where the entries stay the same
        ranges.append((low <= high + _SLACK, low / 4 + high * 3 / 4))
    (fits_after, after), (fits_before, before) = ranges
    for corner in np.flatnonzero(fits_after & fits_before & (after > 0)):
        ratio = np.float32(before[corner] / after[corner])
        lines = Lines(int(corner), float(np.float32(after[corner])), float(ratio))
        if np.array_equal(_drawn(lines, entries), entries):
            return lines
    return None


def _drawn(lines: Lines, entries: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The table of these lines in onnxruntime's arithmetic."""
    real = (_INDEX - lines.corner).astype(np.float32) * np.float32(lines.slope)
    bent = np.where(real >= 0, real, real * np.float32(lines.ratio))
    table: npt.NDArray[np.float32] = np.rint(bent) + np.float32(entries[lines.corner])
    return table.clip(entries.min(), entries.max())
