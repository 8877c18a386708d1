"""Many elements become one, or are weighed against each other."""

import numpy as np

from furiosa.enf import Instruction
from furiosa.vnpu.kernels.store import Array, Result, centred, store


def reduce_sum(
    i: Instruction, result: Result, x: Array, multiplier: Array, parameters: Array
) -> Array:
    """REDUCE_SUM over the axes in `parameters`, which keep the size 1."""
    sums = (x.astype(np.int32) - i.zero0).sum(
        axis=tuple(parameters.tolist()), dtype=np.int32, keepdims=True
    )
    with np.errstate(over="ignore"):
        return store(sums.astype(np.float32) * multiplier[0], i, result)


def reduce_l2(
    i: Instruction, result: Result, x: Array, multiplier: Array, parameters: Array
) -> Array:
    """REDUCE_L2: the square root of the sum of squares."""
    with np.errstate(over="ignore"):
        return store(_norm(x, i, parameters) * multiplier[0], i, result)


def l2_normalize(
    i: Instruction, result: Result, x: Array, multiplier: Array, parameters: Array
) -> Array:
    """L2_NORMALIZE: only a vector of zeros has a norm below 1, and it stays one of zeros."""
    norm = np.maximum(_norm(x, i, parameters), np.float32(1))
    with np.errstate(over="ignore"):
        return store((centred(x, i.zero0) / norm) * multiplier[0], i, result)


def _norm(x: Array, i: Instruction, parameters: Array) -> Array:
    squares = np.square(x.astype(np.int32) - i.zero0)
    sums = squares.sum(axis=tuple(parameters.tolist()), dtype=np.int32, keepdims=True)
    norm: Array = np.sqrt(sums.astype(np.float32))
    return norm


def softmax(i: Instruction, result: Result, x: Array, weights: Array, multiplier: Array) -> Array:
    """SOFTMAX along `axis`: weights[d] stands for an element d below the largest one."""
    below = x.max(axis=i.axis, keepdims=True).astype(np.int32) - x
    terms = weights[below]
    shares = terms / terms.sum(axis=i.axis, dtype=np.float32, keepdims=True)
    with np.errstate(over="ignore"):
        return store(shares / multiplier[0], i, result)


def matmul(i: Instruction, result: Result, x0: Array, x1: Array, multiplier: Array) -> Array:
    """MATMUL of the last two axes."""
    # float64 holds every sum exactly: all of them are integers below 2**31
    sums = np.matmul(x0.astype(np.float64) - i.zero0, x1.astype(np.float64) - i.zero1)
    with np.errstate(over="ignore"):
        return store(sums.astype(np.float32) * multiplier[0], i, result)


def resize_linear(
    i: Instruction, result: Result, x: Array, multiplier: Array, parameters: Array
) -> Array:
    """RESIZE_LINEAR of images: each element lies between two rows, and then between two columns."""
    height, width = result.shape[2:]
    upper, lower, left, right = np.split(parameters, np.cumsum([height, height, width]))
    down, across = multiplier[:height, None], multiplier[height : height + width]
    one = np.float32(1)
    real = centred(x, i.zero0)
    rows = real[:, :, upper] * (one - down) + real[:, :, lower] * down
    both = rows[..., left] * (one - across) + rows[..., right] * across
    with np.errstate(over="ignore"):
        return store(both * multiplier[-1], i, result)
