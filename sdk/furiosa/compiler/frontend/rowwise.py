"""Which ONNX operators never mix entries of dimension 0, and under which conditions: one table.

Shapes alone do not tell: a Softmax over axis 0 keeps its shape. Where a shape would show the mixing (a
constant as tall as the batch, a reshape across it), the condition leaves it to the shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import onnx

from furiosa.compiler.value import Array, Attribute


@dataclass(frozen=True, slots=True)
class Use:
    """A node that reads activations. `ranks` are those of the activations it reads, by position.

    `keeps_rows`: dimension 0 of its first result is as long as that of the first of them.
    """

    node: onnx.NodeProto
    attributes: Mapping[str, Attribute]
    ranks: Mapping[int, int]
    constants: Mapping[str, Array]
    keeps_rows: bool

    def constant(self, position: int) -> Array | None:
        names = self.node.input
        return self.constants.get(names[position]) if position < len(names) else None

    @property
    def rank(self) -> int:
        return next(iter(self.ranks.values()))

    def inner(self, axis: object) -> bool:
        """Whether `axis` is one other than 0."""
        return isinstance(axis, int) and bool(self.rank) and axis % self.rank != 0


Condition = Callable[[Use], bool]


def _always(use: Use) -> bool:
    """Broadcasting aligns the last dimensions, so activations of different rank would not match up."""
    return len(set(use.ranks.values())) == 1


def _axis(default: int) -> Condition:
    return lambda use: use.inner(use.attributes.get("axis", default))


def _linear(use: Use) -> bool:
    scale = use.constant(1)
    whole = scale is not None and scale.size == 1
    return list(use.ranks) == [0] and (whole or use.inner(use.attributes.get("axis", 1)))


def _reduce(use: Use) -> bool:
    given = use.constant(1)
    axes = use.attributes.get("axes") if given is None else tuple(given.ravel().tolist())
    return isinstance(axes, tuple) and bool(axes) and all(map(use.inner, axes))


def _transpose(use: Use) -> bool:
    perm = use.attributes.get("perm")
    return isinstance(perm, tuple) and perm[:1] == (0,)


def _slice(use: Use) -> bool:
    axes = use.constant(3)
    return (
        list(use.ranks) == [0] and axes is not None and all(map(use.inner, axes.ravel().tolist()))
    )


def _pad(use: Use) -> bool:
    pads, axes = use.constant(1), use.constant(3)
    if pads is None or len(use.node.input) > 3:
        return axes is not None and all(map(use.inner, axes.ravel().tolist()))
    return pads.size == 2 * use.rank and not pads.ravel()[[0, use.rank]].any()


def _gather(use: Use) -> bool:
    """From each row, or rows of a constant for the indices of each row."""
    axis = use.attributes.get("axis", 0)
    if list(use.ranks) == [1]:
        return axis == 0 and use.rank > 0
    return list(use.ranks) == [0] and use.inner(axis)


def _resize(use: Use) -> bool:
    return use.keeps_rows


def _gemm(use: Use) -> bool:
    return list(use.ranks) == [0] and not use.attributes.get("transA", 0)


def _matmul(use: Use) -> bool:
    """A stack of matrices, or rows on the left of a constant."""
    return _always(use) and use.rank > (1 if list(use.ranks) == [0] else 2)


def _tile(use: Use) -> bool:
    times = use.constant(1)
    return list(use.ranks) == [0] and times is not None and times.ravel()[:1].tolist() == [1]


_ALWAYS: Final = """
    Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Conv ConvTranspose Cos DepthToSpace Div
    Dropout Elu Equal Erf Exp Expand Flatten Floor Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    HardSigmoid HardSwish Identity InstanceNormalization LRN LeakyRelu Less LessOrEqual Log Max MaxPool
    Mean Min Mish Mul Neg Not PRelu Pow Reciprocal Relu Reshape Round Selu Sigmoid Sign Sin
    Softplus Softsign SpaceToDepth Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Unsqueeze Where
"""
_REDUCTIONS: Final = (
    "L1",
    "L2",
    "LogSum",
    "LogSumExp",
    "Max",
    "Mean",
    "Min",
    "Prod",
    "Sum",
    "SumSquare",
)

CONDITIONS: Final[Mapping[str, Condition]] = {
    **dict.fromkeys(_ALWAYS.split(), _always),
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCTIONS), _reduce),
    "ArgMax": _axis(0),
    "ArgMin": _axis(0),
    "Concat": _axis(0),
    "DequantizeLinear": _linear,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _axis(-1),
    "LogSoftmax": _axis(-1),
    "LpNormalization": _axis(-1),
    "MatMul": _matmul,
    "Pad": _pad,
    "QuantizeLinear": _linear,
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _axis(-1),
    "Split": _axis(0),
    "Tile": _tile,
    "Transpose": _transpose,
}


def is_rowwise(use: Use) -> bool:
    condition = CONDITIONS.get(use.node.op_type)
    return condition is not None and condition(use)
