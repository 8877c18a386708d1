"""Convolutions, pools and interpolation of random geometry."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from support.random_graph import RandomGraph, Shape, Stored, fits


@dataclass(frozen=True)
class _Window:
    """What a convolution or a pool with these `attributes` makes of an image or a line."""

    attributes: dict[str, Any]
    kernel: Shape
    result: Shape


def _window(g: RandomGraph, size: Shape, *, pool: bool = False, dilated: bool = True) -> _Window:
    """For a `pool` without what onnxruntime refuses, which is SAME where strides skip elements."""
    kernel = tuple(min(g.upto(4), side) for side in size)
    strides = tuple(g.pick(1, 1, 2, 3) for _ in size)
    dilations = tuple(
        g.pick(1, 2) if dilated and (k - 1) * 2 + 1 <= side and g.chance(0.3) else 1
        for k, side in zip(kernel, size, strict=True)
    )
    skips = pool and any(s > k for s, k in zip(strides, kernel, strict=True))
    given: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if max(dilations) > 1:
        given["dilations"] = dilations
    pads, up = (0,) * (2 * len(size)), False
    auto = g.pick("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if auto.startswith("SAME") and max(dilations) == 1 and not skips:
        given["auto_pad"] = auto
        return _Window(
            given, kernel, tuple(-(-side // s) for side, s in zip(size, strides, strict=True))
        )
    if auto == "VALID":
        given["auto_pad"] = auto
    elif pool and not skips and g.chance(0.3):
        given["ceil_mode"], up = 1, True
    else:
        given["pads"] = pads = tuple(g.pick(0, 0, 1, 2) % k for k in (*kernel, *kernel))
    result = []
    for i, side in enumerate(size):
        room = side + pads[i] + pads[len(size) + i] - (kernel[i] - 1) * dilations[i] - 1
        result.append((-(-room // strides[i]) if up else room // strides[i]) + 1)
    return _Window(given, kernel, tuple(result))


def _bias(g: RandomGraph, out: int, units: np.ndarray[Any, Any]) -> list[str]:
    """Whole multiples of the units, stored as int32 or written out as float32; or none."""
    if g.chance(0.3):
        return []
    numbers = g.rng.integers(-2000, 2000, out).astype(np.int32)
    if g.chance(0.5):
        return [g.floats(numbers * units)]
    stored = g.net.constant(numbers)
    scale = g.floats(units if units.ndim else float(units))
    zero = g.net.constant(np.zeros(units.shape, np.int32))
    more: dict[str, Any] = {"axis": 0} if units.ndim else {}
    return [g.net.node("DequantizeLinear", stored, scale, zero, **more)]


def weights(
    g: RandomGraph, shape: Shape, axis: int, channels: int
) -> tuple[str, np.ndarray[Any, Any]]:
    """A constant, dequantised, and its scale, which may be one for each place on `axis`."""
    if g.chance(0.5):
        each = [g.scale(g.rng.uniform(0.005, 0.04)) for _ in range(channels)]
        scales = np.array(each, np.float32)
    else:
        scales = np.array(g.scale(g.rng.uniform(0.005, 0.04)), np.float32)
    dtype = g.pick(np.int8, np.int8, np.uint8)
    zero = g.point(dtype) if g.chance(0.4) else (0 if dtype is np.int8 else 128)
    return g.net.stored(*shape, scale=scales, zero=zero, dtype=dtype, axis=axis), scales


def convolution(g: RandomGraph) -> None:
    x = g.one(3, 4)
    channels = x.shape[1]
    group = g.pick(*(n for n in (1, 1, 2, 4) if channels % n == 0))
    _convolve(g, x, group, group * g.upto(8 if len(x.shape) == 3 else 4))


def depthwise(g: RandomGraph) -> None:
    x = g.one(4)
    _convolve(g, x, x.shape[1], x.shape[1] * g.pick(1, 1, 2))


def _convolve(g: RandomGraph, x: Stored, group: int, out: int) -> None:
    n, channels, *size = x.shape
    window = _window(g, tuple(size))
    shape = (n, out, *window.result)
    if not fits(shape):
        return
    w, scales = weights(g, (out, channels // group, *window.kernel), 0, out)
    bias = _bias(g, out, np.float32(x.scale) * scales)
    y = g.net.node("Conv", g.real(x), w, *bias, group=group, **window.attributes)
    taps = channels // group * math.prod(window.kernel)
    reach = x.reach * float(scales.max()) * 100 * math.sqrt(taps)
    if g.chance(0.2):
        y, reach = _affine(g, y, shape, reach)
    if g.chance(0.15) and len(shape) == 4:
        y = g.net.node("GlobalMaxPool", y)
        shape = (*shape[:2], 1, 1)
    g.store(y, shape, reach)


def _affine(g: RandomGraph, y: str, shape: Shape, reach: float) -> tuple[str, float]:
    """Scaled and shifted by channel, as batch normalisation does."""
    out = shape[1]
    if g.chance(0.5):
        given = [g.factors(out), g.factors(out), g.factors(out), np.abs(g.factors(out)) + 0.1]
        return g.net.node("BatchNormalization", y, *map(g.floats, given)), reach * 2
    column = (out, *(1,) * (len(shape) - 2))
    y = g.net.node("Mul", y, g.floats(g.factors(*column)))
    return g.net.node("Add", y, g.floats(g.factors(*column) * 8)), reach * 2


def transposed(g: RandomGraph) -> None:
    x = g.one(3, 4)
    n, channels, *size = x.shape
    group = g.pick(*(k for k in (1, 1, 2, channels) if channels % k == 0))
    out = group * g.upto(3)
    axes = range(len(size))
    kernel = tuple(g.upto(4) for _ in axes)
    strides = tuple(g.pick(1, 2, 3) for _ in axes)
    dilations = tuple(g.pick(1, 1, 2) for _ in axes)
    adjust = tuple(int(g.rng.integers(strides[i])) for i in axes)
    whole = tuple(
        strides[i] * (size[i] - 1) + (kernel[i] - 1) * dilations[i] + 1 + adjust[i] for i in axes
    )
    pads = tuple(
        int(g.rng.integers(2)) if whole[i % len(size)] > 2 else 0 for i in range(2 * len(size))
    )
    result = tuple(whole[i] - pads[i] - pads[len(size) + i] for i in axes)
    shape = (n, out, *result)
    if not fits(shape):
        return
    w, scales = weights(g, (channels, out // group, *kernel), 1, out // group)
    units = np.float32(x.scale) * scales
    bias = _bias(g, out, np.tile(units, group) if units.ndim else units)
    y = g.net.node(
        "ConvTranspose",
        g.real(x),
        w,
        *bias,
        group=group,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        output_padding=adjust,
        pads=pads,
    )
    taps = channels // group * math.prod(kernel)
    g.store(y, shape, x.reach * float(scales.max()) * 100 * math.sqrt(taps))


def max_pool(g: RandomGraph) -> None:
    x = g.one(3, 4)
    window = _window(g, x.shape[2:], pool=True)
    y = g.net.node("MaxPool", g.real(x), **window.attributes)
    g.store(y, (*x.shape[:2], *window.result), x.reach, like=g.pick(x, None))


def average_pool(g: RandomGraph) -> None:
    x = g.one(3, 4)
    window = _window(g, x.shape[2:], pool=True, dilated=g.net.opset >= 19)
    counted = g.pick(0, 1)
    y = g.net.node("AveragePool", g.real(x), count_include_pad=counted, **window.attributes)
    g.store(y, (*x.shape[:2], *window.result), x.reach)


def global_pool(g: RandomGraph) -> None:
    x = g.one(3, 4)
    op = g.pick("GlobalMaxPool", "GlobalAveragePool")
    shape = (*x.shape[:2], *(1,) * (len(x.shape) - 2))
    g.store(g.net.node(op, g.real(x)), shape, x.reach)


def resize_linear(g: RandomGraph) -> None:
    x = g.one(4)
    n, c, h, w = x.shape
    mode = g.pick("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
    scales = [g.pick(0.5, 1, 1.5, 2, 2.7) for _ in range(2)]
    size = [
        max(1, math.floor(np.float32(side) * np.float32(s)))
        for side, s in zip((h, w), scales, strict=True)
    ]
    if min(math.floor(side * s) for side, s in zip((h, w), scales, strict=True)) < 1 or not fits(
        (n, c, *size)
    ):
        return
    y = g.net.node(
        "Resize",
        g.real(x),
        "",
        g.floats([1, 1, *scales]),
        mode="linear",
        coordinate_transformation_mode=mode,
    )
    g.store(y, (n, c, *size), x.reach)
