"""Transposed convolution as a convolution of its own input, one output channel for each phase.

Along one axis the result at position i, counted from the uncropped beginning, is the sum over j and a of
w[a] x[j] with j stride + a dilation = i. Positions i = m stride + r of one phase r see only the taps a with
a dilation = q stride + r, and those at x[m - q]: that is a convolution with stride 1. All phases run as
output channels of one convolution, their kernels brought to one length with zeros.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import Operator, overflow
from furiosa.compiler.dfg.operators.planes import planar
from furiosa.compiler.dfg.operators.products import MAX_DILATION, MAX_GROUP, is_depthwise
from furiosa.enf.isa import Opcode


@dataclass(frozen=True, slots=True)
class Phases:
    """One axis. Tap a of the kernel becomes tap `places[a][1]` of phase `places[a][0]`.

    The convolution has `taps` taps, `dilation` apart, pads `before` and `after` and `length` positions; of
    the length * stride interleaved elements the result are those from `start` on.
    """

    stride: int
    taps: int
    dilation: int
    places: tuple[tuple[int, int], ...]
    before: int
    after: int
    length: int
    start: int


def phases(size: int, out: int, kernel: int, stride: int, dilation: int, crop: int) -> Phases:
    """`crop` is what goes at the beginning, `out` the length of the result."""
    if stride == 1:
        taps, apart = kernel, dilation
        places = tuple((0, kernel - 1 - a) for a in range(kernel))
    else:
        taps, apart = (kernel - 1) * dilation // stride + 1, 1
        places = tuple(
            (a * dilation % stride, taps - 1 - a * dilation // stride) for a in range(kernel)
        )
    reach = (taps - 1) * apart
    skipped = min(crop // stride, reach)  # whole positions that need not be computed
    after = max(0, (out - 1 + crop) // stride + 1 - size)
    return Phases(
        stride,
        taps,
        apart,
        places,
        reach - skipped,
        after,
        size - skipped + after,
        crop - skipped * stride,
    )


def axes_of(node: Node, graph: Dfg) -> tuple[Phases, ...]:
    """Height and width of a QConvTranspose."""
    source, result = (graph.values[name].shape[2:] for name in (node.inputs[0], node.outputs[0]))

    def given(key: str, one: int) -> tuple[int, ...]:
        held = node.attributes[key]
        assert isinstance(held, tuple)
        return planar(tuple(int(number) for number in held[: len(source)]), one)

    columns = zip(
        planar(source, 1),
        planar(result, 1),
        given("kernel_shape", 1),
        given("strides", 1),
        given("dilations", 1),
        given("pads", 0),
        strict=True,
    )
    return tuple(phases(*column) for column in columns)


def _conv_transpose(node: Node, graph: Dfg) -> str | None:
    weights = graph.values[node.inputs[1]]
    group = node.attributes["group"]
    assert isinstance(group, int)
    if group > MAX_GROUP and not is_depthwise(node, graph):
        return f"it has {group} groups, at most {MAX_GROUP}"
    axes = axes_of(node, graph)
    if (apart := max(axis.dilation for axis in axes)) > MAX_DILATION:
        return f"it has dilation {apart}, at most {MAX_DILATION}"
    bias = graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    most = 0.0 if bias is None else float(np.abs(bias.astype(np.int64)).max())
    assert weights.quantization is not None  # a rule of dfg
    point = weights.quantization.zero_points[0]
    taps = weights.shape[1] * math.prod(axis.taps for axis in axes)
    return overflow(taps, most, max(128 + point, 127 - point))


OPERATORS: Final[Mapping[str, Operator]] = {
    "QConvTranspose": Operator(
        ("ConvTranspose",),
        f"1-D and 2-D; constant weights with one zero point; up to {MAX_GROUP} groups, more if depthwise",
        _conv_transpose,
        stores=True,
        instructions=(
            Opcode.CONV2D,
            Opcode.DEPTHWISE_CONV2D,
            Opcode.RESHAPE,
            Opcode.TRANSPOSE,
            Opcode.SLICE,
        ),
    )
}
