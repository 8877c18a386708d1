"""Scales, zero points and stored integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.quantizer.qparams import activation_parameters, layer_parameters, quantize

ENDS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(ENDS, ENDS)
def test_a_range_is_covered_and_zero_is_exact(first: float, second: float) -> None:
    low, high = sorted((first, second))
    scale, zero_point = activation_parameters(low, high)
    assert scale.dtype == np.float32
    assert scale > 0
    assert -128 <= zero_point <= 127
    assert quantize(0.0, scale, int(zero_point)) == zero_point
    for value in (low, high):
        restored = float(scale) * (int(quantize(value, scale, int(zero_point))) - int(zero_point))
        assert abs(restored - value) <= 0.501 * float(scale) + 1e-6 * abs(value)


@pytest.mark.parametrize(
    ("ends", "scale", "zero_point"),
    [
        ((0, 255), 1, -128),
        ((-255, 0), 1, 127),
        ((-127, 127), 1, 0),
        ((-128, 127), 1, 0),
        ((-0.5, 254.5), 1, -128),
        ((51, 102), 0.4, -128),  # widened to [0, 102]
        ((-102, -51), 0.4, 127),
        ((0, 0), 1, 0),
        ((0, 1e-40), 2.0**-60, -128),
    ],
)
def test_parameters_of_a_range(ends: tuple[float, float], scale: float, zero_point: int) -> None:
    found, point = activation_parameters(*ends)
    assert (float(found), int(point)) == (float(np.float32(scale)), zero_point)


def test_parameters_of_many_ranges_are_those_of_each() -> None:
    lows, highs = np.array([-1.0, 0.0, -3.0]), np.array([1.0, 5.0, 0.5])
    scales, points = activation_parameters(lows, highs)
    for i, ends in enumerate(zip(lows, highs, strict=True)):
        scale, point = activation_parameters(*ends)
        assert (scales[i], points[i]) == (scale, point)


def test_rounding_is_half_to_even_and_clamps() -> None:
    stored = quantize([0.5, 1.5, 2.5, -0.5, 1000, -1000], 1, 0)
    assert stored.tolist() == [0, 2, 2, 0, 127, -128]


def test_weights_are_symmetric_per_output_channel() -> None:
    weights = np.array([[[1.27, -0.635]], [[-254, 127]]], np.float32)
    layer = layer_parameters(weights, None, np.float32(0.5))
    np.testing.assert_allclose(layer.weight_scale, [0.01, 2])
    assert layer.weights.tolist() == [[[127, -64]], [[-127, 64]]]
    assert layer.bias is None


def test_a_bias_has_the_scale_of_the_sum() -> None:
    weights, bias = np.array([[1.27], [2.54]], np.float32), np.array([3, -3], np.float32)
    layer = layer_parameters(weights, bias, np.float32(0.5))
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias_scale, layer.weight_scale * np.float32(0.5))
    assert layer.bias.tolist() == [600, -300]


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    weights, bias = np.zeros((3, 4), np.float32), np.array([0, 0.3, -1e9], np.float32)
    layer = layer_parameters(weights, bias, np.float32(1))
    assert layer.bias is not None
    assert layer.weight_scale[0] == 1
    np.testing.assert_allclose(layer.bias * layer.bias_scale.astype(float), bias, rtol=1e-6)
    assert not layer.weights.any()


@pytest.mark.parametrize("taps", [9, 4608])
def test_a_huge_bias_widens_the_scale_until_no_sum_overflows(taps: int) -> None:
    weights = np.full((2, taps), 1e-6, np.float32)
    bias = np.array([5e4, -5e4], np.float32)
    layer = layer_parameters(weights, bias, np.float32(1e-4))
    assert layer.bias is not None
    np.testing.assert_allclose(layer.bias * layer.bias_scale.astype(float), bias, rtol=1e-6)
    largest = np.abs(layer.bias.astype(np.int64)) + np.abs(layer.weights.astype(int)).sum(1) * 255
    assert (largest < 2**31).all()
    assert (np.abs(layer.bias.astype(np.int64)) + taps * 255 * 127 < 2**31).all()
