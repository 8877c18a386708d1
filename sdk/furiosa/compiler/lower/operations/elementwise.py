"""Elementwise operators."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from furiosa.compiler.dfg.elementwise import every_value, quantized
from furiosa.compiler.dfg.fold_kernels import dequantize
from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.lower.operations.emit import (
    Emit,
    Lowered,
    clamp,
    full_rank,
    points,
    whole,
)
from furiosa.compiler.value import Array
from furiosa.enf.isa import Opcode


def table(emit: Emit, node: Node) -> None:
    axis = node.attributes.get("axis", 0)
    weights = emit.graph.data(node.inputs[1])
    emit.add(node, Opcode.TABLE, node.inputs[:1], node.outputs[0], weights=weights, axis=axis)


def requantize(emit: Emit, node: Node) -> None:
    """A table. (A depthwise convolution of one pixel would do for most, but one of few channels is slow.)"""
    source, result = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    assert source.quantization is not None  # a rule of dfg
    limits = clamp(node)
    stored = quantized(dequantize(every_value(source.dtype), source.quantization), result)
    entries = np.clip(stored, limits["low"], limits["high"])
    emit.add(node, Opcode.TABLE, (source.name,), result.name, weights=entries)


def _two(emit: Emit, node: Node, opcode: Opcode, multiplier: Array) -> None:
    left, right, result = (emit.value(name) for name in (*node.inputs, node.outputs[0]))
    emit.add(
        node,
        opcode,
        tuple(full_rank(emit, node, name) for name in node.inputs),
        result.name,
        multiplier=multiplier,
        zero1=whole(right).zero_point,
        **points(left, result),
        **clamp(node),
    )


def _scales(emit: Emit, node: Node) -> tuple[Array, np.float32]:
    """Of the operands and of the result."""
    found = [whole(emit.value(name)).scale for name in (*node.inputs, node.outputs[0])]
    return np.array(found[:-1], np.float32), np.float32(found[-1])


def add(emit: Emit, node: Node) -> None:
    """multiplier = input scale / output scale"""
    sources, result = _scales(emit, node)
    _two(emit, node, Opcode.ADD, sources / result)


def subtract(emit: Emit, node: Node) -> None:
    """As a sum of the left and minus the right operand."""
    sources, result = _scales(emit, node)
    _two(emit, node, Opcode.ADD, sources / result * np.array([1, -1], np.float32))


def multiply(emit: Emit, node: Node) -> None:
    """multiplier = left scale, right scale / output scale"""
    (left, right), result = _scales(emit, node)
    _two(emit, node, Opcode.MULTIPLY, np.array([left, right / result], np.float32))


def total(emit: Emit, node: Node) -> None:
    """QSum and QMean: two are added; more, of one scale, are stacked and summed as integers."""
    count = len(node.inputs) if node.op == "QMean" else 1
    sources, result = _scales(emit, node)
    multiplier = sources / (np.float32(count) * result)
    if len(node.inputs) == 2:
        _two(emit, node, Opcode.ADD, multiplier)
        return
    first, made = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    stack = emit.reshaped(node, node.inputs[0], (1, *first.shape))
    for height, name in enumerate(node.inputs[1:], 2):
        layer = emit.reshaped(node, name, (1, *first.shape))
        taller = replace(first, shape=(height, *first.shape), data=None)
        taller = replace(taller, name=emit.graph.fresh(f"{made.name}/stack"))
        emit.add(node, Opcode.CONCAT, (stack, layer), emit.graph.add(taller))
        stack = taller.name
    flat = emit.in_shape(node, (1, *made.shape))
    emit.add(
        node,
        Opcode.REDUCE_SUM,
        (stack,),
        flat,
        parameters=np.zeros(1, np.int32),
        multiplier=multiplier[:1],
        **points(first, made),
        **clamp(node),
    )
    emit.deliver(node, flat)


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "QAdd": add,
    "QMean": total,
    "QMul": multiply,
    "QSub": subtract,
    "QSum": total,
    "QTable": table,
    "Requantize": requantize,
}
