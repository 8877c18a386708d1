"""Convolutions and pooling."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from furiosa.enf import Instruction, Opcode, Window
from furiosa.vnpu.npugraph.carriers import FLIP, name
from furiosa.vnpu.npugraph.graph import Array, Graph, Lowering


def _geometry(w: Window) -> dict[str, Any]:
    return {
        "kernel_shape": w.kernel,
        "strides": w.strides,
        "pads": w.pads,
        "dilations": w.dilations,
    }


def _convolution(g: Graph, i: Instruction) -> None:
    """QLinearConv's factor is `1 * multiplier / 1`: the multiplier itself."""
    results = g.shape(i.out)[1]
    shift = np.uint8(i.zero1 + FLIP) if g.machine.wide_weights else np.int8(i.zero1)
    g.clamped(
        i,
        "QLinearConv",
        name(i.source0),
        g.one,
        g.point(i.source0, i.zero0),
        g.held(i.weights, "weights", _widened if g.machine.wide_weights else None),
        g.held(i.multiplier, "multiplier"),
        g.once(("shift", i.zero1, results), lambda: g.constant(np.full(results, shift), "shift")),
        g.one,
        g.point(i.out, i.zero_out),
        g.held(i.bias, "bias"),
        **_geometry(i.window),
        group=i.window.group,
    )


def _widened(weights: Array) -> Array:
    return weights.view(np.uint8) ^ np.uint8(FLIP)


def _max_pool(g: Graph, i: Instruction) -> None:
    g.clamped(i, "MaxPool", name(i.source0), **_geometry(i.window))


def _average_pool(g: Graph, i: Instruction) -> None:
    """float32 holds every sum, in whatever order onnxruntime's convolution adds.

    The multiplier has two axes, which keeps it from being multiplied into the weights.
    """
    channels, kernel = g.shape(i.source0)[1], i.window.kernel
    sums = g.real(name(i.source0), i.source0, i.zero0)
    # with a large kernel over much padding, ones for every channel would be more than anything else
    group = channels if math.prod(kernel) <= math.prod(g.shape(i.source0)[2:]) else 1
    ones = g.once(
        ("ones", group, kernel),
        lambda: g.constant(np.ones((group, 1, *kernel), np.float32), "ones"),
    )
    if group < channels:
        sums = g.node("Reshape", sums, g.integers([-1, 1, *g.shape(i.source0)[2:]], "images"))
    sums = g.node("Conv", sums, ones, **_geometry(i.window), group=group)
    if group < channels:
        sums = g.node("Reshape", sums, g.integers(g.shape(i.out), "shape"))
    factors = g.held(i.multiplier, "multiplier")
    g.stored(i, g.node("Mul", sums, factors))


LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.MAX_POOL2D: _max_pool,
    Opcode.AVERAGE_POOL2D: _average_pool,
}
