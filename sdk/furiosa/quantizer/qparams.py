"""PURE: from ranges and weights to scales, zero points and stored integers.

int8 everywhere: activations asymmetric per tensor, weights symmetric per output channel, biases int32.
real = scale * (stored - zero_point), scales are float32.
Source: reference of the quantizer, section 1.1.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LOWEST: Final = -128
HIGHEST: Final = 127
WEIGHT_HIGHEST: Final = 127  # weights use -127..127

# The product of an input's and a weight's scale must not underflow in float32.
SMALLEST_SCALE: Final = 2.0**-60


def checked_range(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """Raises: ValueError naming the tensor when this is no finite (minimum, maximum)."""
    if len(ends) != 2:
        raise ValueError(f"the range of tensor {name!r} is no range: it has {len(ends)} ends")
    low, high = map(float, ends)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the range of tensor {name!r} is no range: ({low}, {high})")
    return low, high


def activation_parameters(
    low: npt.ArrayLike, high: npt.ArrayLike
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Scales and zero points of ranges, elementwise; 0 is always exactly representable.

    A range is widened to contain 0. A range symmetric around 0 gets zero point 0 and uses
    -127..127. The empty range [0, 0] gets scale 1.
    """
    low = np.minimum(np.asarray(low, np.float64), 0)
    high = np.maximum(np.asarray(high, np.float64), 0)
    symmetric = low == -high
    steps = np.where(symmetric, 2 * HIGHEST, HIGHEST - LOWEST)
    scale = np.maximum((high - low) / steps, SMALLEST_SCALE).astype(np.float32)
    scale = np.where(high == low, np.float32(1), scale)
    zero_point = np.clip(np.rint(LOWEST - low / scale), LOWEST, HIGHEST)
    return scale, np.where(symmetric, 0, zero_point).astype(np.int32)


def quantize(values: npt.ArrayLike, scale: npt.ArrayLike, zero_point: int) -> npt.NDArray[np.int8]:
    """round(values / scale) + zero point, half to even, clamped to int8."""
    stored = np.rint(np.asarray(values, np.float32) / np.asarray(scale, np.float32)) + zero_point
    return np.asarray(np.clip(stored, LOWEST, HIGHEST), np.int8)


class Layer(NamedTuple):
    """Integers of a layer's constants, and their scales: [C] each, or () for one scale in all."""

    weights: npt.NDArray[np.int8]
    weight_scale: Floats
    bias: npt.NDArray[np.int32] | None
    bias_scale: Floats


def layer_parameters(
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None,
    input_scale: np.float32,
    axis: int | None = 0,
) -> Layer:
    """Quantise a layer's weights, whose output channels are `axis`, and its bias [C].

    Without an axis all channels share one scale. A bias has the scale input_scale * weight_scale.
    Where that would make its integer, together with the largest sum the taps can reach, leave int32,
    the weight scale is widened instead. A channel without weights gets the scale that is best for its
    bias, or 1. Weights and bias are finite.
    """
    turned = weights[None] if axis is None else np.moveaxis(weights, axis, 0)
    flat = turned.reshape(len(turned), -1).astype(np.float64)
    scale = np.abs(flat).max(axis=1, initial=0) / WEIGHT_HIGHEST
    if bias is not None:
        worst_sum = flat.shape[1] * (HIGHEST - LOWEST) * (WEIGHT_HIGHEST + 1)
        # beyond 24 bits a bias gains nothing: the sum becomes float32 before it is rescaled
        largest = max(2**31 - 1 - worst_sum, 2**24)
        heights = np.abs(bias.astype(np.float64)).reshape(len(flat), -1).max(axis=1)
        scale = np.maximum(scale, heights / (float(input_scale) * largest))
    scale = np.where(scale == 0, 1, np.maximum(scale, SMALLEST_SCALE))
    weight_scale = scale.astype(np.float32)
    stored = np.clip(np.rint(flat / weight_scale[:, None]), -WEIGHT_HIGHEST, WEIGHT_HIGHEST)
    stored = stored.reshape(turned.shape).astype(np.int8)
    if axis is None:
        stored, weight_scale = stored[0], weight_scale.reshape(())
    else:
        stored = np.moveaxis(stored, 0, axis)
    bias_scale = np.asarray(weight_scale * np.float32(input_scale), np.float32)
    stored_bias = None
    if bias is not None:
        wide = np.rint(bias.astype(np.float64) / bias_scale.astype(np.float64))
        stored_bias = np.clip(wide, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return Layer(stored, weight_scale, stored_bias, bias_scale)
