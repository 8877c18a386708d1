"""Sums, products, tables and conversions of random activations."""

from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf import Opcode
from support.random_values import Random, Value, fits

Array = npt.NDArray[Any]
_FACTORS = (0.5, 0.25, 1.0, 0.7, 1.5, 1 / 3, 0.0, -0.3, -1.0, 1e15)


def add(r: Random) -> None:
    _two_sources(r, Opcode.ADD)


def multiply(r: Random) -> None:
    _two_sources(r, Opcode.MULTIPLY)


def _two_sources(r: Random, opcode: Opcode) -> None:
    """Two values of one rank that broadcast, or one and a constant."""
    a = r.activation()
    others = [v for v in r.values if v.dtype in (DType.INT8, DType.UINT8) and _combine(a, v)]
    b = r.pick(*others) if r.pick(True, False) else _constant_for(r, a)
    shape = tuple(max(m, n) for m, n in zip(a.shape, b.shape, strict=True))
    if fits(shape):
        factors = r.rng.choice(_FACTORS, 2)
        r.emit(opcode, r.result(shape), *r.pick((a, b), (b, a)), multiplier=r.floats(*factors))


def _combine(a: Value, b: Value) -> bool:
    return len(a.shape) == len(b.shape) and all(
        m == n or 1 in (m, n) for m, n in zip(a.shape, b.shape, strict=True)
    )


def _constant_for(r: Random, a: Value) -> Value:
    shape = tuple(r.pick(n, n, 1, r.upto(3) if n == 1 else n) for n in a.shape)
    value = r.result(shape)
    constant = r.draft.constant(r.stored(value.dtype, shape), value.dtype)
    r.emit(Opcode.LOAD, value, weights=constant)
    return value


def table(r: Random) -> None:
    """Of random entries, for all or for each place on an axis; or of lines, with random flaws."""
    x = r.activation()
    out = r.result(x.shape)
    if x.shape and r.pick(True, False):
        axis = int(r.rng.integers(len(x.shape)))
        entries, fields = r.stored(out.dtype, (x.shape[axis], 256)), {"axis": axis}
    else:
        entries, fields = r.pick(r.stored(out.dtype, (256,)), _lines(r, out), _lines(r, out)), {}
    r.emit(Opcode.TABLE, out, x, weights=r.draft.constant(entries, out.dtype), **fields)


def _lines(r: Random, out: Value) -> Array:
    """Two lines that meet somewhere, clamped."""
    d = np.arange(256) - r.rng.integers(256)
    slopes = r.rng.choice([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0, 1.7, 40.0, -0.2, -1.0], 2)
    low, high = (-128, 127) if out.dtype is DType.INT8 else (0, 255)
    a, b = sorted(r.rng.integers(low, high + 1, 2))
    entries: Array = np.rint(np.where(d < 0, d * slopes[0], d * slopes[1])) + out.zero
    entries = np.clip(entries, *r.pick((low, high), (a, b)))
    if r.pick(True, False, False):
        entries[r.rng.integers(256)] = r.rng.integers(low, high + 1)
    return entries


def requantise(r: Random) -> None:
    x = r.activation()
    quantize(r, dequantize(r, x))


def quantize(r: Random, x: Value) -> None:
    scale = r.floats(r.pick(0.5, 1.0, 0.1, 1 / 3, 2.0))
    r.emit(Opcode.QUANTIZE, r.result(x.shape), x, multiplier=scale)


def dequantize(r: Random, x: Value) -> Value:
    out = r.result(x.shape, DType.FLOAT32)
    r.emit(Opcode.DEQUANTIZE, out, x, multiplier=r.floats(r.pick(0.5, 1.0, 0.1, 1 / 3)))
    return out
