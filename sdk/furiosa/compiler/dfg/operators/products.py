"""Products: convolutions and matrix products with constant weights, and of two activations."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import Operator, every, ints, overflow
from furiosa.enf.isa import Opcode

MAX_GROUP: Final = 128
MAX_DILATION: Final = 12


def is_depthwise(node: Node, graph: Dfg) -> bool:
    """One input channel a group."""
    channels = graph.values[node.inputs[0]].shape[1]
    return channels > 1 and node.attributes.get("group", 1) == channels


def _sums(node: Node, graph: Dfg, taps: int) -> str | None:
    weights = graph.values[node.inputs[1]]
    data = graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = 0.0 if data is None else float(np.abs(data.astype(np.int64)).max())
    assert weights.quantization is not None  # a rule of dfg
    point = weights.quantization.zero_points[0]
    return overflow(taps, bias, max(128 + point, 127 - point))


def _conv(node: Node, graph: Dfg) -> str | None:
    source, weights = (graph.values[name] for name in node.inputs[:2])
    if len(source.shape) not in (3, 4):
        return f"its input has {len(source.shape)} dimensions, not 3 or 4"
    group = node.attributes.get("group", 1)
    if isinstance(group, int) and group > MAX_GROUP and not is_depthwise(node, graph):
        return f"it has {group} groups, at most {MAX_GROUP}"
    if max(ints(node, "dilations")) > MAX_DILATION:
        return f"it has dilation {max(ints(node, 'dilations'))}, at most {MAX_DILATION}"
    return _sums(node, graph, math.prod(weights.shape[1:]))


def _gemm(node: Node, graph: Dfg) -> str | None:
    return _sums(node, graph, graph.values[node.inputs[1]].shape[1])


def _matmul(node: Node, graph: Dfg) -> str | None:
    left = graph.values[node.inputs[0]].shape
    return overflow(left[-1], 0, 255)


OPERATORS: Final[Mapping[str, Operator]] = {
    "QConv": Operator(
        ("Conv",),
        f"1-D and 2-D; constant weights with one zero point; up to {MAX_GROUP} groups, more if depthwise; "
        f"dilation up to {MAX_DILATION}",
        _conv,
        stores=True,
        instructions=(Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D),
    ),
    "QGemm": Operator(
        ("Gemm", "MatMul"),
        "constant weights on the right with one zero point; alpha above 0, a constant bias along the columns",
        _gemm,
        stores=True,
        instructions=(Opcode.CONV2D,),
    ),
    "QMatMul": Operator(
        ("MatMul",),
        "two activations, or one and a constant of 8 bits",
        _matmul,
        every,
        stores=True,
        instructions=(Opcode.EXPAND, Opcode.MATMUL),
    ),
}
