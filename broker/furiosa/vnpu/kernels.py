"""The arithmetic of each instruction, to the bit. docs/isa.md says the same in words.

Every kernel takes the instruction, the type of its result and its operands in the order source0,
source1, weights, bias, multiplier (those it has), and returns a new array. Operands are as the rules of
`furiosa.enf.verify` allow; nothing is checked again.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from furiosa.enf import Instruction, Opcode, Window

Array = npt.NDArray[Any]
DTypeLike = np.dtype[Any]


def convolution(
    i: Instruction, dtype: DTypeLike, x: Array, weights: Array, bias: Array, multiplier: Array
) -> Array:
    """CONV2D and DEPTHWISE_CONV2D: x [N, C, H, W], weights [O, C/group, kh, kw] to [N, O, H', W']."""
    group, results = i.window.group, weights.shape[0]
    centred = x.astype(np.float64)
    centred -= i.zero0  # so that padding with 0 adds nothing to a sum
    patches = _windows(centred, i.window, padding=0.0)  # [N, C, H', W', kh, kw]
    n, _, height, width = patches.shape[:4]
    columns = patches.transpose(0, 1, 4, 5, 2, 3).reshape(n, group, -1, height * width)
    rows = weights.reshape(group, results // group, -1).astype(np.float64)
    # float64 holds every sum exactly: all of them are integers below 2**31
    sums = np.matmul(rows, columns).reshape(n, results, height, width)
    sums += bias.reshape(-1, 1, 1)
    with np.errstate(over="ignore"):  # an infinite product is clamped like any large one
        scaled = sums.astype(np.float32) * multiplier.reshape(-1, 1, 1)
    return _store(scaled, i, dtype)


def add(i: Instruction, dtype: DTypeLike, x0: Array, x1: Array, multiplier: Array) -> Array:
    """ADD: elementwise, both sources and the result of one shape."""
    with np.errstate(over="ignore"):
        f0 = _centred(x0, i.zero0) * multiplier[0]
        f1 = _centred(x1, i.zero1) * multiplier[1]
        return _store(f0 + f1, i, dtype)


def max_pool(i: Instruction, dtype: DTypeLike, x: Array) -> Array:
    """MAX_POOL2D: padding holds the lowest value of the type."""
    patches = _windows(x, i.window, padding=np.iinfo(dtype).min)
    highest: Array = patches.max(axis=(4, 5))
    return highest.clip(i.low, i.high)


def reshape(i: Instruction, dtype: DTypeLike, x: Array) -> Array:
    """RESHAPE: the same elements; whoever stores the result knows its shape."""
    return x


def quantize(i: Instruction, dtype: DTypeLike, x: Array, multiplier: Array) -> Array:
    """QUANTIZE: float32 to int8 or uint8; NaN becomes `low`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _store(x / multiplier[0], i, dtype)


def dequantize(i: Instruction, dtype: DTypeLike, x: Array, multiplier: Array) -> Array:
    """DEQUANTIZE: int8 or uint8 to float32."""
    with np.errstate(over="ignore"):
        real: Array = _centred(x, i.zero0) * multiplier[0]
    return real


KERNELS: Final[dict[Opcode, Callable[..., Array]]] = {
    Opcode.CONV2D: convolution,
    Opcode.DEPTHWISE_CONV2D: convolution,
    Opcode.ADD: add,
    Opcode.MAX_POOL2D: max_pool,
    Opcode.RESHAPE: reshape,
    Opcode.QUANTIZE: quantize,
    Opcode.DEQUANTIZE: dequantize,
}


def _centred(x: Array, zero: int) -> Array:
    return (x.astype(np.int32) - zero).astype(np.float32)


def _store(values: Array, i: Instruction, dtype: DTypeLike) -> Array:
    """float32 to the stored type: round half to even, add the zero point, clamp.

    Clamping comes first here, which gives the same and keeps infinities away from the cast; `fmax`
    turns NaN into the lower bound.
    """
    rounded = np.rint(values)
    bounds = np.float32(i.low - i.zero_out), np.float32(i.high - i.zero_out)
    clamped = np.fmin(np.fmax(rounded, bounds[0]), bounds[1])
    return (clamped.astype(np.int32) + i.zero_out).astype(dtype)


def _windows(x: Array, w: Window, padding: float) -> Array:
    """View of x [N, C, H, W] as [N, C, H', W', kh, kw]: the values under the window at each place."""
    top, left, bottom, right = w.pads
    if any(w.pads):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    extents = tuple((k - 1) * d + 1 for k, d in zip(w.kernel, w.dilations, strict=True))
    views = sliding_window_view(x, extents, axis=(2, 3))
    return views[:, :, :: w.strides[0], :: w.strides[1], :: w.dilations[0], :: w.dilations[1]]
