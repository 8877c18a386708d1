"""Sums over axes, softmax and products of matrices of random activations."""

import math

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import Opcode
from support.random_values import Random, fits


def over_axes(r: Random) -> None:
    x = r.activation()
    if not x.shape:
        return
    opcode = r.pick(Opcode.REDUCE_SUM, Opcode.REDUCE_L2, Opcode.L2_NORMALIZE)
    axes = np.sort(r.rng.permutation(len(x.shape))[: r.upto(len(x.shape))])
    sizes = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    r.emit(
        opcode,
        r.result(x.shape if opcode is Opcode.L2_NORMALIZE else sizes),
        x,
        parameters=r.ints(axes),
        multiplier=r.floats(r.pick(0.5, 0.01, 1 / 3, 100.0, 0.0, 1e30)),
    )


def softmax(r: Random) -> None:
    x = r.activation()
    if not x.shape:
        return
    axis = int(r.rng.integers(len(x.shape)))
    top = (1 << 24) // x.shape[axis]
    terms = np.rint(top * np.exp(-np.arange(256) * r.pick(0.001, 0.01, 0.1, 1.0)))
    r.emit(
        Opcode.SOFTMAX,
        r.result(x.shape),
        x,
        axis=axis,
        weights=r.draft.constant(terms, DType.FLOAT32),
        multiplier=r.floats(r.pick(1 / 256, 0.001, 0.1, 1e-30)),
    )


def matmul(r: Random) -> None:
    """With a constant, or with another value, which may be the same, turned."""
    x = r.activation()
    if len(x.shape) < 2:
        return
    *stack, rows, inner = x.shape
    if r.pick(True, False):
        order = [*range(len(stack)), len(stack) + 1, len(stack)]
        y = r.result((*stack, inner, rows), x.dtype)
        r.emit(Opcode.TRANSPOSE, y, x, parameters=r.ints(order))
    else:
        y = r.result((*stack, inner, r.upto(9)))
        constant = r.draft.constant(r.stored(y.dtype, y.shape), y.dtype)
        r.emit(Opcode.LOAD, y, weights=constant)
    shape = (*stack, rows, y.shape[-1])
    factor = r.pick(0.001, 0.01, 1 / 3, 1e30, 1 / (100 * math.sqrt(inner)))
    if fits(shape):
        r.emit(Opcode.MATMUL, r.result(shape), x, y, multiplier=r.floats(factor))
