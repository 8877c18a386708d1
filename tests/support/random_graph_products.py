"""Products of random matrices."""

import math

import numpy as np

from support.random_graph import DEEPEST, RandomGraph, Stored, fits
from support.random_graph_windows import weights


def _matrix(g: RandomGraph) -> tuple[str, Stored]:
    """Of any value, its elements in rows; dequantised before or after that."""
    x = g.one()
    if len(x.shape) == 2 and g.chance(0.7):
        return g.real(x), x
    rows = x.shape[0] if x.shape else 1
    flat = (rows, math.prod(x.shape) // rows)
    if x.shape and g.chance(0.5):
        y = g.net.node("Flatten", g.real(x), axis=1)
    else:
        y = g.net.node("Reshape", g.real(x), g.ints((rows, -1)))
    return y, Stored("", flat, x.scale, x.zero, x.dtype)


def gemm(g: RandomGraph) -> None:
    x, form = _matrix(g)
    rows, depth = form.shape
    turned = not g.batched and g.chance(0.3)
    if turned:
        rows, depth = depth, rows
    out, flipped = g.upto(8), g.pick(0, 1)
    if not fits((rows, out)) or depth > DEEPEST:
        return
    w, scales = weights(g, (out, depth) if flipped else (depth, out), 0 if flipped else 1, out)
    bias, given = [], {}
    if g.chance(0.6):
        units = np.float32(form.scale) * scales
        bias = [g.floats(g.rng.integers(-2000, 2000, out).astype(np.int32) * units)]
        given["beta"] = g.pick(1.0, 2.0, -3.0)
    given["alpha"] = g.pick(1.0, 0.5, 0.25 if g.exact else 0.37)
    y = g.net.node("Gemm", x, w, *bias, transA=int(turned), transB=flipped, **given)
    g.store(y, (rows, out), form.reach * float(scales.max()) * 150 * math.sqrt(depth))


def matmul_of_constant(g: RandomGraph) -> None:
    """On the right or, of two axes less, on the left."""
    x = g.one(2, 3, 4)
    rows, depth = x.shape[-2:]
    if len(x.shape) > 2 and g.chance(0.3):
        w, scales = weights(g, (5, rows), 1, rows)
        if scales.ndim:
            w, scales = g.net.stored(5, rows, scale=float(scales[0])), scales[:1]
        y, shape, depth = g.net.node("MatMul", w, g.real(x)), (*x.shape[:-2], 5, depth), rows
    else:
        out = g.upto(8)
        w, scales = weights(g, (depth, out), 1, out)
        y, shape = g.net.node("MatMul", g.real(x), w), (*x.shape[:-1], out)
    if fits(shape):
        g.store(y, shape, x.reach * float(scales.max()) * 100 * math.sqrt(depth))


def matmul(g: RandomGraph) -> None:
    """Of a value and what fits: another, or its own transpose."""
    x = g.one(3, 4) if g.batched else g.one(2, 3, 4)
    order = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
    partners = [
        v for v in g.values if v.shape[:-2] == x.shape[:-2] and len(v.shape) == len(x.shape)
    ]
    partners = [v for v in partners if v.shape[-2] == x.shape[-1]]
    if partners and g.chance(0.7):
        y = g.pick(*partners)
        right, columns, reach = g.real(y), y.shape[-1], y.reach
    else:
        right, columns, reach = g.net.node("Transpose", g.real(x), perm=order), x.shape[-2], x.reach
    shape = (*x.shape[:-1], columns)
    if fits(shape):
        product = g.net.node("MatMul", g.real(x), right)
        g.store(product, shape, x.reach * reach * 0.7 * math.sqrt(x.shape[-1]))
