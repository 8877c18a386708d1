"""Random elements go to other places. All take values of any type but PAD, which takes activations."""

import math

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import Opcode
from support.random_values import ACTIVATIONS, Random, Value, fits


def load(r: Random) -> None:
    shape = tuple(r.upto(5) for _ in range(r.pick(0, 1, 2, 3, 4, 4, 5, 6, 8)))
    if not fits(shape):
        return
    dtype = r.pick(*ACTIVATIONS, DType.FLOAT32, DType.INT32)
    out = r.result(shape, dtype)
    values = r.rng.normal(size=shape) * 100 if dtype not in ACTIVATIONS else r.stored(dtype, shape)
    r.emit(Opcode.LOAD, out, weights=r.draft.constant(values, dtype))


def reshape(r: Random) -> None:
    """Into a random number of axes, 0 to 8."""
    x = r.anything()
    rest = math.prod(x.shape)
    sizes = []
    for _ in range(r.pick(0, 1, 2, 3, 3, 3, 4, 5, 7)):
        sizes.append(r.pick(*(d for d in range(1, min(rest, 32) + 1) if rest % d == 0)))
        rest //= sizes[-1]
    if rest > 1 or r.pick(True, False):
        sizes.insert(r.rng.integers(len(sizes) + 1), rest)
    _move(r, Opcode.RESHAPE, x, tuple(sizes))


def concat(r: Random) -> None:
    """Several in a row, some of them of what the one before made: a tree."""
    x = r.anything()
    if not x.shape:
        return
    axis = int(r.rng.integers(len(x.shape)))
    for _ in range(r.upto(4)):
        fitting = [v for v in r.values if v.dtype is x.dtype and _alike(v, x, axis)]
        other = r.pick(*fitting)
        sizes = list(x.shape)
        sizes[axis] += other.shape[axis]
        if not fits(tuple(sizes)):
            return
        out = r.result(tuple(sizes), x.dtype)
        r.emit(Opcode.CONCAT, out, *r.pick((x, other), (other, x)), axis=axis)
        x = r.pick(out, out, x)


def _alike(v: Value, x: Value, axis: int) -> bool:
    return len(v.shape) == len(x.shape) and all(
        a == b for k, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if k != axis
    )


def transpose(r: Random) -> None:
    x = r.anything()
    if not x.shape:
        return
    order = r.rng.permutation(len(x.shape))
    _move(r, Opcode.TRANSPOSE, x, tuple(x.shape[a] for a in order), parameters=r.ints(order))


def slice_(r: Random) -> None:
    x = r.anything()
    if not x.shape:
        return
    starts = [int(r.rng.integers(size)) for size in x.shape]
    steps = [r.pick(1, 1, 2, 3, 99) for _ in x.shape]
    columns = zip(x.shape, starts, steps, strict=True)
    shape = tuple(r.upto((n - a - 1) // step + 1) for n, a, step in columns)
    _move(r, Opcode.SLICE, x, shape, parameters=r.ints(np.array([starts, steps])))


def pad(r: Random) -> None:
    x = r.activation()
    if not x.shape:
        return
    before = [r.pick(0, 0, 1, 2) for _ in x.shape]
    shape = tuple(a + n + r.pick(0, 0, 1, 3) for a, n in zip(before, x.shape, strict=True))
    _move(r, Opcode.PAD, x, shape, parameters=r.ints(before))


def expand(r: Random) -> None:
    x = r.anything()
    shape = tuple(r.pick(1, 2, 3, 17) if n == 1 else n for n in x.shape)
    _move(r, Opcode.EXPAND, x, shape)


def gather(r: Random) -> None:
    x = r.anything()
    if not x.shape:
        return
    axis = int(r.rng.integers(len(x.shape)))
    indices = r.rng.integers(x.shape[axis], size=r.upto(9))
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    _move(r, Opcode.GATHER, x, shape, axis=axis, parameters=r.ints(indices))


def _move(r: Random, opcode: Opcode, x: Value, shape: tuple[int, ...], **fields: int) -> None:
    if fits(shape):
        r.emit(opcode, r.result(shape, x.dtype), x, **fields)
