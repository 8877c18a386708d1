"""Convolutions and pooling."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from furiosa.enf import Instruction, Opcode, Window
from furiosa.vnpu.npugraph.graph import FLIP, Graph, Lowering, name


def _geometry(w: Window) -> dict[str, Any]:
    return {
        "kernel_shape": w.kernel,
        "strides": w.strides,
        "pads": w.pads,
        "dilations": w.dilations,
    }


def _convolution(g: Graph, i: Instruction) -> None:
    """QLinearConv's factor is `1 * multiplier / 1`: the multiplier itself."""
    constants = g.program.constants
    weights, shift = constants[i.weights], np.array(i.zero1, np.int8)
    if g.wide_weights:
        weights, shift = weights.view(np.uint8) ^ np.uint8(FLIP), np.array(i.zero1 + FLIP, np.uint8)
    g.clamped(
        i,
        "QLinearConv",
        name(i.source0),
        g.one,
        g.point(i.source0, i.zero0),
        g.constant(weights, "weights"),
        g.constant(constants[i.multiplier], "multiplier"),
        g.constant(np.broadcast_to(shift, weights.shape[:1]), "shift"),
        g.one,
        g.point(i.out, i.zero_out),
        g.constant(constants[i.bias], "bias"),
        **_geometry(i.window),
        group=i.window.group,
    )


def _max_pool(g: Graph, i: Instruction) -> None:
    g.clamped(i, "MaxPool", name(i.source0), **_geometry(i.window))


def _average_pool(g: Graph, i: Instruction) -> None:
    """float32 holds every sum, in whatever order onnxruntime's convolution adds.

    The multiplier has two axes, which keeps it from being multiplied into the weights.
    """
    channels = g.shape(i.source0)[1]
    ones = g.constant(np.ones((channels, 1, *i.window.kernel), np.float32), "ones")
    centred = g.real(name(i.source0), i.source0, i.zero0)
    sums = g.node("Conv", centred, ones, **_geometry(i.window), group=channels)
    factors = g.constant(g.program.constants[i.multiplier], "multiplier")
    g.stored(i, g.node("Mul", sums, factors))


LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.MAX_POOL2D: _max_pool,
    Opcode.AVERAGE_POOL2D: _average_pool,
}
