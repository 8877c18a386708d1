"""Operators that sum along axes."""

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.operator import ints
from furiosa.compiler.dfg.operators.reduction import reduced
from furiosa.compiler.lower.operations.emit import Emit, Lowered, clamp, points, whole
from furiosa.compiler.value import Array
from furiosa.enf.isa import Opcode

_EXACT: Final = Context(prec=40)
_MANTISSA: Final = 24  # bits of a float32


def _reduce(emit: Emit, node: Node, opcode: Opcode, scale: np.float32) -> None:
    """The result has ones at the reduced axes until it is delivered."""
    source, result = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    axes = ints(node, "axes")
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
    made = emit.in_shape(node, result.shape if opcode is Opcode.L2_NORMALIZE else shape)
    emit.add(
        node,
        opcode,
        (source.name,),
        made,
        parameters=np.array(axes, np.int32),
        multiplier=np.array([scale], np.float32),
        **points(source, result),
        **clamp(node),
    )
    emit.deliver(node, made)


def _scale(emit: Emit, name: str) -> np.float32:
    return np.float32(whole(emit.value(name)).scale)


def reduce_sum(emit: Emit, node: Node) -> None:
    """QReduceSum and QReduceMean: multiplier = input scale / (count * output scale)"""
    count = reduced(node, emit.graph) if node.op == "QReduceMean" else 1
    unit = np.float32(count) * _scale(emit, node.outputs[0])
    _reduce(emit, node, Opcode.REDUCE_SUM, _scale(emit, node.inputs[0]) / unit)


def reduce_l2(emit: Emit, node: Node) -> None:
    """multiplier = input scale / output scale"""
    scale = _scale(emit, node.inputs[0]) / _scale(emit, node.outputs[0])
    _reduce(emit, node, Opcode.REDUCE_L2, scale)


def l2_normalize(emit: Emit, node: Node) -> None:
    """multiplier = 1 / output scale; the input's scale is in numerator and denominator"""
    _reduce(emit, node, Opcode.L2_NORMALIZE, np.float32(1) / _scale(emit, node.outputs[0]))


def softmax(emit: Emit, node: Node) -> None:
    source, result = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    (axis,) = ints(node, "axes")
    emit.add(
        node,
        Opcode.SOFTMAX,
        (source.name,),
        result.name,
        weights=exponentials(whole(source).scale, source.shape[axis]),
        multiplier=np.array([whole(result).scale], np.float32),
        axis=axis,
        zero_out=whole(result).zero_point,
        **clamp(node),
    )


def exponentials(scale: float, count: int) -> Array:
    """exp(-d * scale) for d = 0..255 as whole numbers, the largest the power of 2 that `count` times is
    at most 2^24: their sum is exact in float32. Computed in decimal, so equal on any machine."""
    top = 1 << (_MANTISSA - (count - 1).bit_length())
    step = Decimal(float(np.float32(scale)))
    powers = (_EXACT.exp(_EXACT.multiply(-d, step)) for d in range(256))
    return np.array([round(_EXACT.multiply(power, top)) for power in powers], np.float32)


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "QL2Normalize": l2_normalize,
    "QReduceL2": reduce_l2,
    "QReduceMean": reduce_sum,
    "QReduceSum": reduce_sum,
    "QSoftmax": softmax,
}
