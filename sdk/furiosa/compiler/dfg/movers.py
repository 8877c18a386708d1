"""Operators that quantising and dequantising may pass: they move elements or choose the largest.

Both keep order and touch each element by itself, so it is the same to the bit on which side they are.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from furiosa.compiler.dfg.fold_kernels import dequantize, quantize
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import uncovered
from furiosa.compiler.dfg.operators.movement import MOVES, pad_value
from furiosa.compiler.value import Array, Value, constant

MOVERS: Final = frozenset({*MOVES, "Concat", "GlobalMaxPool", "MaxPool", "Resize", "Split"})


def data_operands(mover: Node) -> tuple[str, ...]:
    """The inputs whose elements it moves; the others are parameters."""
    return mover.inputs if mover.op == "Concat" else mover.inputs[:1]


def on_stored(
    graph: Dfg, mover: Node, operands: tuple[Value, ...], like: Value, *, exactly: bool
) -> Node | None:
    """The mover on `operands`, stored in the way of `like`, with results of its own; None if the NPU cannot.

    What a Pad puts around is rounded, or with `exactly` must be a stored number. New values, and
    `operands`, are in the graph afterwards; the graph is unchanged when None is returned.
    """
    added = [value for value in operands if value.name not in graph.values]
    inputs = (*(value.name for value in operands), *mover.inputs[len(operands) :])
    if mover.op == "Pad":
        point = _point(graph, mover, like, exactly)
        if point is None:
            return None
        added.append(constant(graph.fresh(f"{mover.name}/point"), point))
        inputs = (*inputs[:2], added[-1].name, *inputs[3:])
    outputs = [
        replace(
            graph.values[name],
            name=graph.fresh(f"{name}/stored"),
            dtype=like.dtype,
            quantization=like.quantization,
        )
        for name in mover.outputs
    ]
    node = replace(mover, inputs=inputs, outputs=tuple(value.name for value in outputs))
    for value in (*added, *outputs):
        graph.add(value)
    if uncovered(node, graph) is None:
        return node
    for value in (*added, *outputs):
        graph.values.pop(value.name, None)
    return None


def _point(graph: Dfg, pad: Node, like: Value, exactly: bool) -> Array | None:
    value = pad_value(pad, graph)
    if value is None or np.isnan(value):
        return None
    return integers(np.array(value, np.float32), like, exactly=exactly)


def integers(data: Array, like: Value, *, exactly: bool) -> Array | None:
    """`data`, float32, as stored in the way of `like`; None if that must be exact and is not."""
    assert like.quantization is not None
    stored = quantize(data, like.quantization, like)
    if exactly and not np.array_equal(dequantize(stored, like.quantization), data):
        return None
    return stored
