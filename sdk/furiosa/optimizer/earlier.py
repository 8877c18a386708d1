"""Operators of later opsets in terms of earlier ones, where onnx's converter has no way or a wrong one.

Each function takes a node and gives the nodes that compute the same in the earlier opset.
Source: ONNX operator changelog.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from onnx import NodeProto, helper

from furiosa.optimizer.graph import CONTRIB, Graph

Rewrite = Callable[[Graph, NodeProto, int], list[NodeProto]]


class NoCounterpart(Exception):
    """The reason why a node cannot be said in the earlier opset."""


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _reduce(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    """Axes were an attribute before opset 18."""
    given = _attributes(node)
    axes = graph.array(node.input[1]) if len(node.input) > 1 and node.input[1] else np.zeros(0)
    if axes is None:
        raise NoCounterpart("form: its axes are not constant")
    noop = given.pop("noop_with_empty_axes", 0)
    if noop and not axes.size:
        return [helper.make_node("Identity", node.input[:1], node.output, node.name)]
    if axes.size:
        given["axes"] = [int(axis) for axis in axes]
    return [helper.make_node(node.op_type, node.input[:1], node.output, node.name, **given)]


def _split(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    """The number of outputs follows from the node; parts that differ are given by size."""
    given = _attributes(node)
    if given.pop("num_outputs", None) is None:
        return [node]
    shape = graph.shape(node.input[0])
    if shape is None:
        raise NoCounterpart("form: the size of its operand is not known")
    count = len(node.output)
    length = shape[given.get("axis", 0)]
    most = -(-length // count)
    sizes = [min(most, max(length - i * most, 0)) for i in range(count)]
    operands = [node.input[0]]
    if version < 13:
        given["split"] = sizes
    else:
        operands.append(graph.add_constant(np.array(sizes), f"{node.output[0]}_sizes"))
    return [helper.make_node("Split", operands, node.output, node.name, **given)]


def _softmax(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    """Before opset 13 it went over all axes from the given one on, so that must be the last."""
    shape = graph.shape(node.input[0])
    if shape is None:
        raise NoCounterpart("form: the shape of its operand is not known")
    rank = len(shape)
    axis = _attributes(node).get("axis", -1) % rank
    if math.prod(shape[axis:]) == shape[axis]:
        return [helper.make_node(node.op_type, node.input, node.output, node.name, axis=axis)]
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    turned, result = (graph.fresh(f"{node.output[0]}_{part}") for part in ("turned", "result"))
    return [
        helper.make_node("Transpose", node.input, [turned], f"{node.name}_turn", perm=order),
        helper.make_node(node.op_type, [turned], [result], node.name, axis=rank - 1),
        helper.make_node("Transpose", [result], node.output, f"{node.name}_back", perm=back),
    ]


def _hard_swish(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    gate = graph.fresh(f"{node.output[0]}_gate")
    return [
        helper.make_node("HardSigmoid", node.input, [gate], f"{node.name}_gate", alpha=1 / 6),
        helper.make_node("Mul", [node.input[0], gate], node.output, node.name),
    ]


def _gelu(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    if _attributes(node).get("approximate", b"none") != b"none":
        raise NoCounterpart("form: it approximates")
    return [helper.make_node("Gelu", node.input, node.output, node.name, domain=CONTRIB)]


def _resize(graph: Graph, node: NodeProto, version: int) -> list[NodeProto]:
    """Operands that do not count were empty tensors before they could be left out."""
    for position in (1, 2):
        if len(node.input) <= position or not node.input[position]:
            empty = graph.add_constant(np.zeros(0, np.float32), f"{node.output[0]}_empty")
            graph.set_input(node, position, empty)
    return [node]


# by operator, the opset from which on it differs
EARLIER: Final[Mapping[str, tuple[int, Rewrite]]] = {
    "Gelu": (20, _gelu),
    "HardSwish": (14, _hard_swish),
    "LogSoftmax": (13, _softmax),
    "ReduceL1": (18, _reduce),
    "ReduceL2": (18, _reduce),
    "ReduceLogSum": (18, _reduce),
    "ReduceLogSumExp": (18, _reduce),
    "ReduceMax": (18, _reduce),
    "ReduceMean": (18, _reduce),
    "ReduceMin": (18, _reduce),
    "ReduceProd": (18, _reduce),
    "ReduceSumSquare": (18, _reduce),
    "Resize": (13, _resize),
    "Softmax": (13, _softmax),
    "Split": (18, _split),
}
