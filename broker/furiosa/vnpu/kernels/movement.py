"""Elements go to other places; none is changed."""

import numpy as np

from furiosa.enf import Instruction
from furiosa.vnpu.kernels.store import Array, Result


def load(i: Instruction, result: Result, constant: Array) -> Array:
    """LOAD"""
    return constant


def reshape(i: Instruction, result: Result, x: Array) -> Array:
    """RESHAPE: the same elements in the same order."""
    return x.reshape(result.shape)


def concat(i: Instruction, result: Result, x0: Array, x1: Array) -> Array:
    """CONCAT"""
    return np.concatenate((x0, x1), axis=i.axis)


def transpose(i: Instruction, result: Result, x: Array, parameters: Array) -> Array:
    """TRANSPOSE: axis n of the result is axis parameters[n] of the source."""
    return x.transpose(parameters)


def slice_(i: Instruction, result: Result, x: Array, parameters: Array) -> Array:
    """SLICE: parameters [2, rank] are the first element and the step, on each axis."""
    starts, steps = parameters.tolist()
    columns = zip(starts, steps, result.shape, strict=True)
    # the last element is what counts: a step may reach beyond the source behind it
    return x[tuple(slice(a, a + step * (size - 1) + 1, step) for a, step, size in columns)]


def pad(i: Instruction, result: Result, x: Array, parameters: Array) -> Array:
    """PAD: parameters [rank] elements of `zero0` before, and what is missing after."""
    padded = np.full(result.shape, i.zero0, result.dtype)
    before = parameters.tolist()
    padded[tuple(slice(a, a + size) for a, size in zip(before, x.shape, strict=True))] = x
    return padded


def expand(i: Instruction, result: Result, x: Array) -> Array:
    """EXPAND"""
    return np.broadcast_to(x, result.shape)


def gather(i: Instruction, result: Result, x: Array, parameters: Array) -> Array:
    """GATHER: along `axis`, the elements that parameters [n] names."""
    return x.take(parameters, axis=i.axis)
