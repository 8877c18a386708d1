"""Which operators compute on integers, and under which conditions.

What the table lacks stays float32 and runs beside the NPU.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final

from onnx import NodeProto, TensorProto, helper

from furiosa.optimizer.graph import CONTRIB, Graph, is_standard


class Kind(Enum):
    LAYER = auto()  # an activation, constant weights and a constant bias
    OWN = auto()  # one activation; the result has a range of its own
    ARITHMETIC = auto()  # every operand is an activation, or a constant stored by its own range
    MOVE = auto()  # takes elements of its first operand, which the result is stored as
    JOIN = auto()  # takes elements of all operands, which share the result's scale where they may


Rule = Callable[[Graph, NodeProto], Kind | None]

# The values a result can have, whatever the data: they are its range.
NATURAL_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "Erf": (-1.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
}

# A Relu or Clip right behind these is computed together with them.
FUSING: Final = ("Add", "Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "Sub")


def kind_of(graph: Graph, node: NodeProto) -> Kind | None:
    """None for a node that stays float."""
    known = is_standard(node, node.op_type) or (node.domain, node.op_type) == (CONTRIB, "Gelu")
    rule = OPERATORS.get(node.op_type) if known else None
    results = [name for name in node.output if name]
    if rule is None or (len(results) != 1 and node.op_type != "Split"):
        return None
    for name in results:
        if graph.element_type(name) != TensorProto.FLOAT or 0 in (graph.shape(name) or ()):
            return None
    kind = rule(graph, node)
    if kind not in (Kind.ARITHMETIC, Kind.JOIN, None) and node.input[0] in graph.constants:
        return None
    return kind


def output_axis(node: NodeProto) -> int | None:
    """The axis of a layer's weights that holds its output channels; None when no axis does."""
    match node.op_type:
        case "ConvTranspose":
            return 1 if _attributes(node).get("group", 1) == 1 else None
        case "MatMul":
            return 1
    return 0


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _always(kind: Kind) -> Rule:
    return lambda graph, node: kind


def _constant_rest(kind: Kind) -> Rule:
    """All operands but the first are constants."""
    return lambda graph, node: (
        kind if all(name in graph.constants for name in node.input[1:] if name) else None
    )


def _gemm(graph: Graph, node: NodeProto) -> Kind | None:
    """Output channels are axis 0 of the weights, and the bias is [N]: the optimizer's form."""
    defaults = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    if {**defaults, **_attributes(node)} != {**defaults, "transB": 1}:
        return None
    if any(len(graph.shape(name) or ()) != 1 for name in node.input[2:] if name):
        return None
    return _constant_rest(Kind.LAYER)(graph, node)


def _matmul(graph: Graph, node: NodeProto) -> Kind | None:
    left, right = (graph.shape(name) for name in node.input)
    if left is None or right is None or min(len(left), len(right)) < 2:
        return None
    is_layer = node.input[1] in graph.constants and len(right) == 2
    return Kind.LAYER if is_layer else Kind.ARITHMETIC


def _power(graph: Graph, node: NodeProto) -> Kind | None:
    exponent = graph.array(node.input[1])
    return Kind.OWN if exponent is not None and exponent.size == 1 else None


def _sum(graph: Graph, node: NodeProto) -> Kind | None:
    without_axes = len(node.input) < 2 or not node.input[1]
    if without_axes and _attributes(node).get("noop_with_empty_axes", 0):
        return None
    return _constant_rest(Kind.OWN)(graph, node)


def _norm(graph: Graph, node: NodeProto) -> Kind | None:
    return Kind.OWN if _attributes(node).get("p", 2) == 2 else None


def _pad(graph: Graph, node: NodeProto) -> Kind | None:
    """0 is among the integers of every tensor, other values may not be."""
    if _attributes(node).get("mode", b"constant") == b"constant":
        value = graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if value is not None and value.any():
            return None
    return _constant_rest(Kind.MOVE)(graph, node)


def _resize(graph: Graph, node: NodeProto) -> Kind | None:
    given = _attributes(node)
    if given.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        return None  # fills in a value from outside
    kinds = {b"nearest": Kind.MOVE, b"linear": Kind.OWN}
    kind = kinds.get(given.get("mode", b"nearest"))
    return kind and _constant_rest(kind)(graph, node)


OPERATORS: Final[Mapping[str, Rule]] = {
    "Conv": _constant_rest(Kind.LAYER),
    "ConvTranspose": _constant_rest(Kind.LAYER),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "LpNormalization": _norm,
    "Pow": _power,
    "ReduceSum": _sum,
    "Pad": _pad,
    "Resize": _resize,
    "Clip": _constant_rest(Kind.OWN),
    "Concat": _always(Kind.JOIN),
    **dict.fromkeys(("Add", "Mean", "Mul", "Sub"), _always(Kind.ARITHMETIC)),
    **dict.fromkeys(
        (
            "AveragePool",
            "Elu",
            "Erf",
            "Exp",
            "Gelu",
            "GlobalAveragePool",
            "HardSigmoid",
            "LeakyRelu",
            "Log",
            "ReduceL2",
            "ReduceMean",
            "Relu",
            "Sigmoid",
            "Softmax",
            "Softplus",
            "Sqrt",
            "Tanh",
        ),
        _always(Kind.OWN),
    ),
    **dict.fromkeys(
        (
            "DepthToSpace",
            "Expand",
            "Flatten",
            "Gather",
            "MaxPool",
            "Reshape",
            "Slice",
            "SpaceToDepth",
            "Split",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ),
        _constant_rest(Kind.MOVE),
    ),
}
