"""TensorFlow Lite operators that compute, beside convolutions and pools, answer as LiteRT does.

Those that round once are within 1 of LiteRT's answer; LiteRT's own kernels compute some with integers of
few bits, which may be one more off.
"""

from typing import Any

import numpy as np
import pytest

from furiosa.enf import NpuSection, Program
from support.tflite_cases import Case, window, worst
from support.tflite_models import RELU, SAME, VALID

DTYPES = ("int8", "uint8")
ONES = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0)}
SIGNED = {"int8": (1 / 128, 0), "uint8": (1 / 128, 128)}


def close(case: Case, sources: list[int], result: int, limit: float = 1) -> Program:
    difference, compiled = worst(case.net.model(sources, [result]))
    assert difference <= limit
    assert [type(section) for section in compiled.sections] == [NpuSection]
    return compiled


UNARY: dict[str, dict[str, Any]] = {
    "ELU": {"dtypes": ("int8",)},
    "EXP": {"dtypes": ("int8",), "scale": 0.02, "result": (0.1, -128)},
    "HARD_SWISH": {},
    "LEAKY_RELU": {"Alpha": 0.3},
    "LOGISTIC": {"parameters": ONES},
    "RELU_N1_TO_1": {"dtypes": ("int8",)},
    "RELU_0_TO_1": {"dtypes": ("int8",)},
    "TANH": {"parameters": SIGNED},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", UNARY)
def test_function_of_one(kind: str, dtype: str) -> None:
    given = dict(UNARY[kind])
    if dtype not in given.pop("dtypes", DTYPES):
        pytest.skip(f"LiteRT has no {kind} of {dtype}")
    parameters = given.pop("parameters", {}).get(dtype) or given.pop("result", (0.05, None))
    case = Case(dtype)
    source = case.activation(1, 3, 4, 5, scale=given.pop("scale", 0.05))
    result = case.activation(1, 3, 4, 5, scale=parameters[0], point=parameters[1])
    case.net.node(kind, [source], result, **given)
    close(case, [source], result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("other", ["image", "channels", "constant"])
def test_function_of_two(kind: str, other: str, dtype: str) -> None:
    case = Case(dtype)
    left = case.activation(1, 3, 4, 5)
    inputs = [left]
    if other == "constant":
        data = case.net.rng.integers(0, 100, 5).astype(dtype)
        quant = case.net.tensors[case.activation(1, scale=0.03)].quant
        right = case.net.constant(data, quant)
    else:
        right = case.activation(
            *((1, 1, 1, 5) if other == "channels" else (1, 3, 4, 5)), scale=0.03
        )
        inputs.append(right)
    result = case.activation(1, 3, 4, 5, scale=0.1)
    activation = RELU if kind == "SUB" else 0
    case.net.node(kind, [left, right], result, FusedActivationFunction=activation)
    close(case, inputs, result)


@pytest.mark.parametrize("kind", ["MINIMUM", "MAXIMUM"])
def test_the_smaller_or_larger_of_two(kind: str) -> None:
    """For the host: the NPU chooses among the elements of one tensor only."""
    case = Case("int8")
    sources = [case.activation(1, 3, 4, 5) for _ in range(2)]
    result = case.net.node(kind, sources, case.activation(1, 3, 4, 5))
    difference, _ = worst(case.net.model(sources, [result]))
    assert difference == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_prelu(dtype: str) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 3, 4, 5), case.activation(1, 3, 4, 5)
    quant = case.net.tensors[case.activation(1, scale=0.01)].quant
    slopes = case.net.constant(np.array([[[9, 30, 120, 77, 0]]], dtype), quant)
    case.net.node("PRELU", [source, slopes], result)
    close(case, [source], result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [[1, 2], [3], [1], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("kind", ["MEAN", "SUM"])
def test_reduction(kind: str, axes: list[int], keep: bool, dtype: str) -> None:
    case = Case(dtype)
    source = case.activation(1, 3, 4, 5)
    ones = [1 if axis in axes else size for axis, size in enumerate((1, 3, 4, 5))]
    shape = ones if keep else [size for axis, size in enumerate(ones) if axis not in axes]
    result = case.activation(*shape, scale=0.05 if kind == "MEAN" else 0.3)
    over = case.net.constant(np.array(axes, np.int32))
    case.net.node(kind, [source, over], result, KeepDims=keep)
    close(case, [source], result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 7), (1, 3, 4, 5)])
def test_l2_normalization(shape: tuple[int, ...], dtype: str) -> None:
    case = Case(dtype)
    source = case.activation(*shape)
    scale, point = SIGNED[dtype]
    result = case.activation(*shape, scale=scale, point=point)
    case.net.node("L2_NORMALIZATION", [source], result)
    close(case, [source], result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(6, 10), (5, 7), (2, 3), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"AlignCorners": True}, {"HalfPixelCenters": True}])
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resize(kind: str, options: dict[str, Any], size: tuple[int, int], dtype: str) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 3, 5, 4), case.activation(1, *size, 4)
    sizes = case.net.constant(np.array(size, np.int32))
    case.net.node(kind, [source, sizes], result, **options)
    close(case, [source], result, 1 if kind == "RESIZE_BILINEAR" else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("padding", "stride", "kernel", "size"),
    [(SAME, 2, 3, (10, 8)), (VALID, 2, 3, (11, 9)), (SAME, 1, 3, (5, 4)), (VALID, 3, 2, (14, 11))],
)
def test_transposed_convolution(
    padding: int, stride: int, kernel: int, size: tuple[int, int], bias: bool, dtype: str
) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 5, 4, 3), case.activation(1, *size, 6, scale=0.15)
    shape = case.net.constant(np.array((1, *size, 6), np.int32))
    held, offsets = case.weights(6, kernel, kernel, 3, axis=0)
    inputs = [shape, held, source, *([offsets] if bias else [])]
    options = window(padding, stride)
    del options["DilationHFactor"], options["DilationWFactor"], options["FusedActivationFunction"]
    case.net.node("TRANSPOSE_CONV", inputs, result, **options)
    close(case, [source], result)
