"""Reductions along random axes."""

import math
from typing import Any

import numpy as np

from support.random_graph import RandomGraph


def over_axes(g: RandomGraph) -> None:
    x = g.one(2, 3, 4, 5)
    op = g.pick("ReduceSum", "ReduceMean", "ReduceL2")
    rank = len(x.shape)
    possible = range(1 if g.batched else 0, rank)
    axes = sorted(g.rng.permutation(list(possible))[: g.upto(len(possible))].tolist())
    kept = g.pick(0, 1)
    given = [axis - rank if g.chance(0.3) else axis for axis in axes]
    more: dict[str, Any] = {"keepdims": kept}
    operands = [g.real(x)]
    if g.net.opset >= (13 if op == "ReduceSum" else 18):
        operands.append(g.ints(given))
    else:
        more["axes"] = given
    shape = tuple(
        1 if i in axes else size for i, size in enumerate(x.shape) if kept or i not in axes
    )
    count = math.prod(x.shape[axis] for axis in axes)
    reach = {"ReduceSum": math.sqrt(count), "ReduceMean": 1, "ReduceL2": math.sqrt(count)}[op]
    g.store(g.net.node(op, *operands, **more), shape, x.reach * reach)


def normalized(g: RandomGraph) -> None:
    x = g.one(2, 3, 4)
    axis = g.pick(-1, 1, len(x.shape) - 1)
    g.store(g.net.node("LpNormalization", g.real(x), axis=axis, p=2), x.shape, 1)


def softmax(g: RandomGraph) -> None:
    """Stored as finely as probabilities are: steps of 1/256 or more."""
    x = g.one(2, 3, 4)
    axis = g.pick(-1, 1, len(x.shape) - 1)
    made = g.net.node("Softmax", g.real(x), axis=axis)
    dtype = g.pick(np.int8, np.uint8)
    like = g.one()
    lowest = int(np.iinfo(dtype).min)
    g.store(made, x.shape, 1, like=type(like)("", x.shape, 1 / 256, lowest, dtype))
