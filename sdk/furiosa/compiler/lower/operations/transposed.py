"""Transposed convolutions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.movement import depth_to_space
from furiosa.compiler.dfg.operators.moves import Crop, Reshape
from furiosa.compiler.dfg.operators.planes import planar
from furiosa.compiler.dfg.operators.transposed import Phases, axes_of
from furiosa.compiler.lower.operations.emit import Emit, Lowered, clamp, points, whole
from furiosa.compiler.lower.operations.movement import chain
from furiosa.compiler.value import Array
from furiosa.enf.isa import Opcode, Window


def conv_transpose(emit: Emit, node: Node) -> None:
    """A convolution with a channel for each output channel and phase; phases side by side; the crop.

    multiplier = (input scale * weight scale) / output scale
    """
    source, weights, result = (
        emit.value(name) for name in (node.inputs[0], node.inputs[1], node.outputs[0])
    )
    assert weights.data is not None  # both by rules of dfg
    assert weights.quantization is not None
    down, right = axes = axes_of(node, emit.graph)
    each = down.stride * right.stride
    outputs = len(weights.data)
    point = weights.quantization.zero_points[0]
    scales = np.array(weights.quantization.scales, np.float32)
    multiplier = (np.float32(whole(source).scale) * scales) / np.float32(whole(result).scale)
    bias = emit.graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = np.zeros(outputs, np.int32) if bias is None else bias
    n, channels = source.shape[:2]
    group = node.attributes["group"]
    assert isinstance(group, int)
    image = emit.reshaped(node, source.name, (n, channels, *planar(source.shape[2:], 1)))
    made, shape = result.name, (n, outputs * each, down.length, right.length)
    if each > 1 or shape != result.shape:
        name = emit.graph.fresh(f"{result.name}/phases")
        made = emit.graph.add(replace(result, name=name, shape=shape))
    emit.add(
        node,
        Opcode.DEPTHWISE_CONV2D if group == channels > 1 else Opcode.CONV2D,
        (image,),
        made,
        weights=_kernels(weights.data, axes, point),
        bias=np.repeat(bias, each),
        multiplier=np.repeat(np.broadcast_to(multiplier, (outputs,)), each),
        window=Window(
            (down.taps, right.taps),
            (1, 1),
            (down.before, right.before, down.after, right.after),
            (down.dilation, right.dilation),
            group,
        ),
        zero1=point,
        **points(source, result),
        **clamp(node),
    )
    if made != result.name:
        pixels = depth_to_space(shape, down.stride, right.stride, depth_first=False)
        final = (n, outputs, *planar(result.shape[2:], 1))
        crop = Crop((0, 0, down.start, right.start), (1, 1, 1, 1), final)
        chain(emit, node, made, result.name, (*pixels, crop, Reshape(result.shape)))


def _kernels(weights: Array, axes: Sequence[Phases], point: int) -> Array:
    """int8 [outputs * phases, inputs of a group, taps down, taps right]; what is in no phase is `point`."""
    down, right = axes
    outputs, inputs = weights.shape[:2]
    flat = weights.reshape(outputs, inputs, *planar(weights.shape[2:], 1))
    shape = (outputs, down.stride, right.stride, inputs, down.taps, right.taps)
    kernels = np.full(shape, point, np.int8)
    for (a, (row, up)), (b, (column, left)) in product(
        enumerate(down.places), enumerate(right.places)
    ):
        kernels[:, row, column, :, up, left] = flat[:, :, a, b]
    return kernels.reshape(math.prod(shape[:3]), *shape[3:])


OPERATIONS: Final[Mapping[str, Lowered]] = {"QConvTranspose": conv_transpose}
