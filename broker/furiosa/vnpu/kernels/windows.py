"""Convolutions and pooling: one result for each place of a window over images [N, C, H, W]."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from furiosa.enf import Instruction, Window
from furiosa.vnpu.kernels.store import Array, Result, store


def convolution(
    i: Instruction, result: Result, x: Array, weights: Array, bias: Array, multiplier: Array
) -> Array:
    """CONV2D and DEPTHWISE_CONV2D: x [N, C, H, W], weights [O, C/group, kh, kw] to [N, O, H', W']."""
    group, results = i.window.group, weights.shape[0]
    centred = x.astype(np.float64)
    centred -= i.zero0  # so that padding with 0 adds nothing to a sum
    patches = _windows(centred, i.window, padding=0.0)  # [N, C, H', W', kh, kw]
    n, _, height, width = patches.shape[:4]
    columns = patches.transpose(0, 1, 4, 5, 2, 3).reshape(n, group, -1, height * width)
    rows = weights.reshape(group, results // group, -1).astype(np.float64)
    rows -= i.zero1
    # float64 holds every sum exactly: all of them are integers below 2**31
    sums = np.matmul(rows, columns).reshape(n, results, height, width)
    sums += bias.reshape(-1, 1, 1)
    with np.errstate(over="ignore"):  # an infinite product is clamped like any large one
        scaled = sums.astype(np.float32) * multiplier.reshape(-1, 1, 1)
    return store(scaled, i, result)


def max_pool(i: Instruction, result: Result, x: Array) -> Array:
    """MAX_POOL2D: padding holds the lowest value of the type."""
    patches = _windows(x, i.window, padding=np.iinfo(result.dtype).min)
    highest: Array = patches.max(axis=(4, 5))
    return highest.clip(i.low, i.high)


def average_pool(i: Instruction, result: Result, x: Array, multiplier: Array) -> Array:
    """AVERAGE_POOL2D: multiplier [H', W'], one for each place of the window."""
    patches = _windows(x.astype(np.int32) - i.zero0, i.window, padding=0)
    sums = patches.sum(axis=(4, 5), dtype=np.int32)
    with np.errstate(over="ignore"):
        return store(sums.astype(np.float32) * multiplier, i, result)


def _windows(x: Array, w: Window, padding: float) -> Array:
    """View of x [N, C, H, W] as [N, C, H', W', kh, kw]: the values under the window at each place."""
    top, left, bottom, right = w.pads
    if any(w.pads):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    extents = tuple((k - 1) * d + 1 for k, d in zip(w.kernel, w.dilations, strict=True))
    views = sliding_window_view(x, extents, axis=(2, 3))
    return views[:, :, :: w.strides[0], :: w.strides[1], :: w.dilations[0], :: w.dilations[1]]
