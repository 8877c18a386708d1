"""One result for each element, of one source or of two that are broadcast against each other."""

import numpy as np

from furiosa.enf import Instruction
from furiosa.vnpu.kernels.store import Array, Result, centred, store


def add(i: Instruction, result: Result, x0: Array, x1: Array, multiplier: Array) -> Array:
    """ADD"""
    with np.errstate(over="ignore"):
        f0 = centred(x0, i.zero0) * multiplier[0]
        f1 = centred(x1, i.zero1) * multiplier[1]
        return store(f0 + f1, i, result)


def multiply(i: Instruction, result: Result, x0: Array, x1: Array, multiplier: Array) -> Array:
    """MULTIPLY"""
    with np.errstate(over="ignore"):
        f0 = centred(x0, i.zero0) * multiplier[0]
        f1 = centred(x1, i.zero1) * multiplier[1]
        return store(f0 * f1, i, result)


def table(i: Instruction, result: Result, x: Array, entries: Array) -> Array:
    """TABLE: entries [256], or [C, 256] with a row for each place on `axis`."""
    index = x.astype(np.int32) - np.iinfo(x.dtype).min
    if entries.ndim == 1:
        return entries[index]
    rows = np.arange(entries.shape[0]).reshape([-1 if a == i.axis else 1 for a in range(x.ndim)])
    found: Array = entries[rows, index]
    return found


def quantize(i: Instruction, result: Result, x: Array, multiplier: Array) -> Array:
    """QUANTIZE: float32 to int8 or uint8; NaN becomes `low`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return store(x / multiplier[0], i, result)


def dequantize(i: Instruction, result: Result, x: Array, multiplier: Array) -> Array:
    """DEQUANTIZE: int8 or uint8 to float32."""
    with np.errstate(over="ignore"):
        real: Array = centred(x, i.zero0) * multiplier[0]
    return real
