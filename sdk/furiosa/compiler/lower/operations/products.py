"""Products with constant weights, and of two activations."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.operator import ints
from furiosa.compiler.dfg.operators.planes import planar
from furiosa.compiler.dfg.operators.products import is_depthwise
from furiosa.compiler.lower.operations.emit import Emit, Lowered, clamp, points, whole
from furiosa.enf.isa import Opcode, Window


def _product(emit: Emit, node: Node) -> dict[str, Any]:
    """Constants of QConv and QGemm: multiplier = (input scale * weight scale) / output scale."""
    source, weights = emit.value(node.inputs[0]), emit.value(node.inputs[1])
    result = emit.value(node.outputs[0])
    assert weights.data is not None  # both by rules of dfg
    assert weights.quantization is not None
    channels = weights.shape[0]
    scales = np.array(weights.quantization.scales, np.float32)
    multiplier = (np.float32(whole(source).scale) * scales) / np.float32(whole(result).scale)
    bias = emit.graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    return {
        "weights": weights.data,
        "bias": np.zeros(channels, np.int32) if bias is None else bias,
        "multiplier": np.broadcast_to(multiplier, (channels,)).copy(),
        "zero1": weights.quantization.zero_points[0],
        **points(source, result),
        **clamp(node),
    }


def conv(emit: Emit, node: Node) -> None:
    """Lines [N, C, L] are images of one row."""
    opcode = Opcode.DEPTHWISE_CONV2D if is_depthwise(node, emit.graph) else Opcode.CONV2D
    fields = _product(emit, node)
    weights, (source, result) = (
        fields["weights"],
        (emit.value(name).shape for name in (node.inputs[0], node.outputs[0])),
    )
    axes = len(source) - 2
    pads, group = ints(node, "pads"), node.attributes.get("group", 1)
    assert isinstance(group, int)
    kernel = planar(weights.shape[2:], 1)
    fields["weights"] = weights.reshape(*weights.shape[:2], *kernel)
    fields["window"] = Window(
        kernel,
        planar(ints(node, "strides"), 1),
        (*planar(pads[:axes], 0), *planar(pads[axes:], 0)),
        planar(ints(node, "dilations"), 1),
        group,
    )
    image = emit.reshaped(node, node.inputs[0], (*source[:2], *planar(source[2:], 1)))
    made = emit.in_shape(node, (*result[:2], *planar(result[2:], 1)))
    emit.add(node, opcode, (image,), made, **fields)
    emit.deliver(node, made)


def gemm(emit: Emit, node: Node) -> None:
    """Rows become images of one pixel: [.., K] -> [M, K, 1, 1] -> conv 1x1 -> [M, O, 1, 1] -> [.., O]."""
    fields = _product(emit, node)
    fields["weights"] = fields["weights"][:, :, None, None]
    source = node.inputs[0]
    if node.attributes.get("transA"):
        source = _transposed(emit, node, source)
    shape = emit.value(source).shape
    rows = math.prod(shape[:-1])
    pixels = emit.reshaped(node, source, (rows, shape[-1], 1, 1))
    result = emit.in_shape(node, (rows, fields["weights"].shape[0], 1, 1))
    emit.add(node, Opcode.CONV2D, (pixels,), result, **fields)
    emit.deliver(node, result)


def _transposed(emit: Emit, node: Node, name: str) -> str:
    value = emit.value(name)
    other = replace(value, name=emit.graph.fresh(f"{name}/transposed"), shape=value.shape[::-1])
    emit.graph.add(other)
    parameters = np.array([1, 0], np.int32)
    emit.add(node, Opcode.TRANSPOSE, (name,), other.name, parameters=parameters)
    return other.name


def matmul(emit: Emit, node: Node) -> None:
    """Stacks of matrices; a vector is a row on the left and a column on the right.

    multiplier = (left scale * right scale) / output scale
    """
    left, right, result = (emit.value(name) for name in (*node.inputs, node.outputs[0]))
    shapes = [
        left.shape if len(left.shape) > 1 else (1, *left.shape),
        right.shape if len(right.shape) > 1 else (*right.shape, 1),
    ]
    stack = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    scale = np.float32(whole(left).scale) * np.float32(whole(right).scale)
    made = emit.in_shape(node, (*stack, shapes[0][-2], shapes[1][-1]))
    emit.add(
        node,
        Opcode.MATMUL,
        tuple(
            _spread(emit, node, name, shape, stack)
            for name, shape in zip(node.inputs, shapes, strict=True)
        ),
        made,
        multiplier=np.array([scale / np.float32(whole(result).scale)], np.float32),
        zero1=whole(right).zero_point,
        **points(left, result),
        **clamp(node),
    )
    emit.deliver(node, made)


def _spread(
    emit: Emit, node: Node, name: str, shape: tuple[int, ...], stack: tuple[int, ...]
) -> str:
    """The operand, whose matrices are the last two of `shape`, as a stack of that shape."""
    whole_rank = (1,) * (len(stack) + 2 - len(shape)) + shape
    source = emit.reshaped(node, name, whole_rank)
    if whole_rank[:-2] == stack:
        return source
    value = emit.value(name)
    wide = replace(
        value, name=emit.graph.fresh(f"{name}/wide"), shape=(*stack, *shape[-2:]), data=None
    )
    emit.add(node, Opcode.EXPAND, (source,), emit.graph.add(wide))
    return wide.name


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "QConv": conv,
    "QGemm": gemm,
    "QMatMul": matmul,
}
