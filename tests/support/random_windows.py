"""Convolutions, pooling and resizing of random images."""

import math
from dataclasses import replace

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Window
from support.random_values import Random, fits


def convolution(r: Random) -> None:
    channels = r.image().shape[1]
    _convolution(r, Opcode.CONV2D, r.pick(*(g for g in (1, 1, 2, 4) if channels % g == 0)))


def depthwise(r: Random) -> None:
    _convolution(r, Opcode.DEPTHWISE_CONV2D, 0)


def _convolution(r: Random, opcode: Opcode, group: int) -> None:
    """In as many groups as there are channels if `group` is 0, or does not divide them."""
    x = r.image()
    n, c, h, w = x.shape
    if opcode is Opcode.DEPTHWISE_CONV2D or c % group:
        opcode, group, results = Opcode.DEPTHWISE_CONV2D, c, c * r.pick(1, 1, 2, 3)
    else:
        results = group * r.pick(1, 2, 4, 5, 16)
    window = replace(_window(r, h, w, 2), group=group)
    shape = (n, results, *_size(window, (h, w)))
    taps = c // group * math.prod(window.kernel)
    if not fits(shape) or taps > 10_000:
        return
    usual = 1.0 / (100 * math.sqrt(taps))
    multiplier = r.rng.choice(
        [usual, usual / 3, usual * 4, 0.5, 0.25, 2.0**-7, 1 / 3, 0.0, 1e30], results
    )
    weights = r.rng.integers(-128, 128, (results, c // group, *window.kernel))
    if r.pick(True, False, False):
        weights = np.sign(weights) * 127 - (weights < 0)  # every product as large as it gets
    bias = r.rng.integers(-(10**4), 10**4, results) * r.pick(0, 1, 10**4)
    r.emit(
        opcode,
        r.result(shape),
        x,
        weights=r.draft.constant(weights, DType.INT8),
        bias=r.ints(bias),
        multiplier=r.floats(*multiplier),
        zero1=r.pick(0, 0, 0, -128, 127, int(r.rng.integers(-128, 128))),
        window=window,
    )


def max_pool(r: Random) -> None:
    x = r.image()
    n, c, h, w = x.shape
    window = _window(r, h, w, 1)
    while any(p >= k for p, k in zip(window.pads, window.kernel * 2, strict=True)):
        window = _window(r, h, w, 1)
    shape = (n, c, *_size(window, (h, w)))
    if fits(shape):
        r.emit(Opcode.MAX_POOL2D, r.result(shape, x.dtype), x, window=window)


def average_pool(r: Random) -> None:
    x = r.image()
    n, c, h, w = x.shape
    window = r.pick(_window(r, h, w, 2), Window((h, w)))
    size = _size(window, (h, w))
    if not fits((n, c, *size)):
        return
    factor = r.pick(1.0, 1 / 3, 1 / math.prod(window.kernel), 1e30)
    factors = factor / r.rng.integers(1, r.pick(2, 4), size)
    multiplier = r.draft.constant(factors, DType.FLOAT32)
    r.emit(Opcode.AVERAGE_POOL2D, r.result((n, c, *size)), x, window=window, multiplier=multiplier)


def resize_linear(r: Random) -> None:
    x = r.image()
    sizes = (r.upto(9), r.upto(9))
    if not fits((*x.shape[:2], *sizes)):
        return
    pairs = [r.rng.integers(n, size=(2, m)) for n, m in zip(x.shape[2:], sizes, strict=True)]
    weights = r.rng.choice([0.0, 0.25, 0.5, 1 / 3, 0.9, 1.0, float(r.rng.random())], sum(sizes))
    r.emit(
        Opcode.RESIZE_LINEAR,
        r.result((*x.shape[:2], *sizes)),
        x,
        parameters=r.ints(np.concatenate([pair.reshape(-1) for pair in pairs])),
        multiplier=r.floats(*weights, r.pick(0.5, 1.0, 1 / 3, 1.7, 0.0, 1e30)),
    )


def _window(r: Random, height: int, width: int, most: int) -> Window:
    while True:
        kernel = (r.upto(3), r.upto(3))
        pads = tuple(int(p) for p in r.rng.integers(0, most + 1, 4))
        dilations = (r.pick(1, 1, 2), r.pick(1, 1, 2))
        w = Window(kernel, (r.upto(3), r.upto(2)), pads, dilations)  # type: ignore[arg-type]  # four pads
        if min(_size(w, (height, width))) >= 1:
            return w


def _size(w: Window, size: tuple[int, int]) -> tuple[int, int]:
    room = [
        size[axis] + w.pads[axis] + w.pads[axis + 2] - (w.kernel[axis] - 1) * w.dilations[axis] - 1
        for axis in (0, 1)
    ]
    return room[0] // w.strides[0] + 1, room[1] // w.strides[1] + 1
