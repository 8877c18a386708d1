"""PURE: find the range with the least cost, from coarse to fine."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from furiosa.quantizer.qparams import Doubles

Cost = Callable[[Doubles, Doubles], Doubles]  # [n] lows, [n] highs -> [n] costs
Snap = Callable[[Doubles], Doubles]  # candidates -> those the cost is defined for, descending

_STEPS: Final = 48  # candidates per end in the first round
_FINER_STEPS: Final = 12  # on each side of the best, in every later round
_ROUNDS: Final = 4
_TIE: Final = 1e-12  # of the greatest finite cost: within the rounding of its sum
_NARROWEST: Final = 2.0**-10  # of the extreme: where the first round starts


def least_cost(cost: Cost, lowest: float, highest: float, snap: Snap) -> tuple[float, float]:
    """The range [low, high] with lowest <= low <= 0 <= high <= highest that costs least.

    Both ends are searched together: a grid of all pairs, then finer grids around the best pair. The
    wider range wins a tie.
    """
    axes = _candidates(-lowest), _candidates(highest)
    return _search(cost, axes, lambda low, high: (-low, high), snap)


def least_symmetric_cost(
    cost: Cost, highest: float, snap: Snap, *, one_sided: bool
) -> tuple[float, float]:
    """As `least_cost`, among the ranges [-a, a], or [0, a] if one-sided, with a <= highest."""
    sign = 0 if one_sided else -1
    return _search(cost, (_candidates(highest),), lambda high: (sign * high, high), snap)


def _search(
    cost: Cost,
    axes: Sequence[Doubles],
    ends: Callable[..., tuple[Doubles, Doubles]],
    snap: Snap,
) -> tuple[float, float]:
    found = 0.0, 0.0
    for _ in range(_ROUNDS):
        axes = [snap(axis) for axis in axes]
        grid = (points.reshape(-1) for points in np.meshgrid(*axes, indexing="ij"))
        lows, highs = ends(*grid)
        costs = cost(lows, highs)
        greatest = np.abs(costs[np.isfinite(costs)]).max(initial=0)
        best = int(np.argmax(costs <= costs.min() + _TIE * greatest))
        found = float(lows[best]) + 0.0, float(highs[best])  # never -0.0
        places = np.unravel_index(best, [len(axis) for axis in axes])
        axes = [_between(axis, int(at)) for axis, at in zip(axes, places, strict=True)]
    return found


def _candidates(extreme: float) -> Doubles:
    """From the extreme down in equal ratios; a single 0 when there is nothing on this side."""
    if extreme <= 0:
        return np.zeros(1)
    return np.asarray(extreme * np.geomspace(1, _NARROWEST, _STEPS))


def _between(axis: Doubles, best: int) -> Doubles:
    """Finer candidates between the neighbours of the best, which stays among them."""
    outer, inner = axis[max(best - 1, 0)], axis[min(best + 1, len(axis) - 1)]
    return np.unique(
        np.concatenate(
            [
                np.linspace(outer, axis[best], _FINER_STEPS),
                np.linspace(axis[best], inner, _FINER_STEPS),
            ]
        )
    )[::-1]
