"""Convolutions and pooling against values worked out by hand and against slow integers."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from furiosa.enf import Instruction, Opcode, Window
from furiosa.vnpu.kernels import KERNELS, Result
from support.kernels import I8, U8, Array, f32, i8, i32, run


def one_pixel(acc: int, multiplier: float, *, dtype: np.dtype[Any] = I8, **fields: Any) -> int:
    """A convolution whose only sum is `acc`."""
    x, w = np.zeros((1, 1, 1, 1), np.int8), np.zeros((1, 1, 1, 1), np.int8)
    bias = np.array([acc], np.int32)
    return int(
        run(Opcode.CONV2D, dtype, (1, 1, 1, 1), x, w, bias, f32(multiplier), **fields)[0, 0, 0, 0]
    )


@pytest.mark.parametrize(
    ("acc", "multiplier", "fields", "expected"),
    [
        (5, 0.5, {}, 2),  # 2.5, a tie: to even
        (7, 0.5, {}, 4),  # 3.5
        (-5, 0.5, {}, -2),
        (-7, 0.5, {}, -4),
        (5, 0.5, {"zero_out": 3}, 5),  # rounding comes before the zero point
        (3, 0.3, {}, 1),  # 0.9
        (1000, 1.0, {}, 127),
        (-1000, 1.0, {}, -128),
        (1000, 1.0, {"zero_out": -100}, 127),
        (1000, 1.0, {"high": 60}, 60),
        (-1000, 1.0, {"low": -60}, -60),
        (4, 1.0, {"low": 5, "high": 5}, 5),
        (2**31 - 32641, 3e38, {}, 127),  # beyond float32
        (-(2**31) + 32641, 3e38, {}, -128),
        (123, 0.0, {"zero_out": 9}, 9),
        # 16777217 is no float32: it becomes 16777216 before it is multiplied
        (16777217, 2.0**-24 * 1.5, {}, 2),  # 1.5 exactly, to even
        (16777219, 2.0**-24 * 1.5, {}, 2),
        (50331651, 2.0**-25, {}, 2),  # 50331652 * 2**-25 = 1.50000012
    ],
)
def test_requantisation(acc: int, multiplier: float, fields: dict[str, Any], expected: int) -> None:
    assert one_pixel(acc, multiplier, **fields) == expected


def test_requantisation_multiplies_in_single_precision() -> None:
    """25 * float32(0.1) is 2.5 in float32, and 2.5000000372529 in double."""
    assert one_pixel(25, 0.1) == 2
    assert round(25 * float(np.float32(0.1))) == 3


def test_unsigned_results() -> None:
    assert one_pixel(-3, 1.0, dtype=U8, zero_out=128) == 125
    assert one_pixel(300, 1.0, dtype=U8, zero_out=0) == 255


def test_a_convolution_by_hand() -> None:
    x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], np.uint8)
    w = np.array([[[[1, 0], [0, -1]]], [[[1, 1], [1, 1]]]], np.int8)
    bias = np.array([10, -20], np.int32)
    found = run(Opcode.CONV2D, I8, (1, 2, 2, 2), x, w, bias, f32(1, 1), window=Window((2, 2)))
    assert found.tolist() == [[[[6, 6], [6, 6]], [[-8, -4], [4, 8]]]]


def test_padding_counts_as_the_zero_point() -> None:
    x = np.full((1, 1, 1, 1), 7, np.int8)
    w = np.ones((1, 1, 3, 3), np.int8)
    fields = {"zero0": 5, "window": Window((3, 3), pads=(1, 1, 1, 1))}
    assert run(Opcode.CONV2D, I8, (1, 1, 1, 1), x, w, i32(0), f32(1), **fields) == 2


def slow_convolution(
    x: Array, w: Array, bias: Array, multiplier: Array, i: Instruction, dtype: np.dtype[Any]
) -> Array:
    """The definition in docs/isa.md in whole numbers and fractions, one element at a time."""
    top, left, bottom, right = i.window.pads
    n, _, height, width = x.shape
    results, per_group, kh, kw = w.shape
    (sh, sw), (dh, dw) = i.window.strides, i.window.dilations
    oh = (height + top + bottom - (kh - 1) * dh - 1) // sh + 1
    ow = (width + left + right - (kw - 1) * dw - 1) // sw + 1
    out = np.zeros((n, results, oh, ow), dtype)
    for b, o, r, c in itertools.product(range(n), range(results), range(oh), range(ow)):
        acc = int(bias[o])
        first = o // (results // i.window.group) * per_group
        for k, u, v in itertools.product(range(per_group), range(kh), range(kw)):
            row, column = r * sh + u * dh - top, c * sw + v * dw - left
            if 0 <= row < height and 0 <= column < width:
                value = int(x[b, first + k, row, column]) - i.zero0
                acc += value * (int(w[o, k, u, v]) - i.zero1)
        assert -(2**31) <= acc < 2**31
        # Python's float division and rounding are exact here; round() rounds half to even
        product = np.float32(np.float32(acc) * np.float32(multiplier[o]))
        rounded = round(Fraction(float(product)))
        out[b, o, r, c] = min(max(rounded + i.zero_out, i.low), i.high)
    return out


@pytest.mark.parametrize("seed", range(25))
def test_convolutions_against_whole_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = int(rng.integers(1, 4))
    per_group, per_result = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    pads = tuple(int(p) for p in rng.integers(0, 4, 4))
    dilations = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    source, dtype = (I8, U8)[rng.integers(2)], (I8, U8)[rng.integers(2)]
    ranges = {I8: (-128, 127), U8: (0, 255)}
    size = [int(s) for s in rng.integers(5, 8, 2)]
    x = rng.integers(*ranges[source], (2, group * per_group, *size), endpoint=True).astype(source)
    w = rng.integers(-128, 128, (group * per_result, per_group, *kernel)).astype(np.int8)
    bias = rng.integers(-3000, 3000, len(w)).astype(np.int32)
    usual = 1 / (60 * math.sqrt(per_group * math.prod(kernel)))
    multiplier = (rng.choice([usual, 2 * usual, 2.0**-8, 2.0**-7], len(w))).astype(np.float32)
    low, high = ranges[dtype]
    i = Instruction(
        Opcode.CONV2D,
        0,
        1,
        zero0=int(rng.integers(*ranges[source], endpoint=True)),
        zero1=int(rng.integers(2)) * int(rng.integers(-128, 128)),
        zero_out=(low + high) // 2 + int(rng.integers(-40, 40)),
        low=low + int(rng.integers(3)) * 30,
        high=high,
        window=Window(kernel, strides, pads, dilations, group),  # type: ignore[arg-type]  # four pads
    )
    found = KERNELS[i.opcode](i, Result(dtype, ()), x, w, bias, multiplier)
    assert np.array_equal(found, slow_convolution(x, w, bias, multiplier, i, dtype))
    assert ((found > i.low) & (found < high)).any()  # not all of it is clamped


def test_depthwise_with_a_channel_multiplier() -> None:
    """Result channels 0 and 1 come from source channel 0, 2 and 3 from channel 1."""
    x = np.array([[[[3]], [[5]]]], np.int8)
    w = np.array([1, 10, 2, 20], np.int8).reshape(4, 1, 1, 1)
    window = Window(group=2)
    bias = np.zeros(4, np.int32)
    found = run(
        Opcode.DEPTHWISE_CONV2D, I8, (1, 4, 1, 1), x, w, bias, f32(1, 1, 1, 1), window=window
    )
    assert found.ravel().tolist() == [3, 30, 10, 100]


def test_a_maximum_by_hand() -> None:
    x = np.array([[[[-9, -8, -7], [-6, -5, -4], [-3, -2, -1]]]], np.int8)
    window = Window((2, 2), strides=(2, 2), pads=(1, 1, 0, 0))
    found = run(Opcode.MAX_POOL2D, I8, (1, 1, 2, 2), x, window=window)
    assert found.tolist() == [[[[-9, -7], [-3, -1]]]]  # the padding never wins
    clamped = run(Opcode.MAX_POOL2D, I8, (1, 1, 2, 2), x, window=window, low=-8, high=-3)
    assert clamped.tolist() == [[[[-8, -7], [-3, -3]]]]


def test_a_window_of_nothing_but_padding_holds_the_lowest_value() -> None:
    x = np.full((1, 1, 3, 1), 50, np.int8)
    shape = (1, 1, 1, 1)
    window = Window((2, 1), strides=(1, 1), pads=(1, 0, 1, 0), dilations=(4, 1))
    assert run(Opcode.MAX_POOL2D, I8, shape, x, window=window) == -128
    assert run(Opcode.MAX_POOL2D, U8, shape, x.astype(np.uint8), window=window) == 0


def test_averages_have_a_factor_for_each_place() -> None:
    x = i8([[[10, 20, 30]]])
    window = Window((1, 2), strides=(1, 2), pads=(0, 0, 0, 1))
    found = run(
        Opcode.AVERAGE_POOL2D,
        I8,
        (1, 1, 1, 2),
        x,
        f32([0.5, 1]),
        window=window,
        zero0=4,
        zero_out=4,
    )
    assert found.tolist() == [[[[15, 30]]]]  # (6 + 16) / 2 + 4, and 26 alone
