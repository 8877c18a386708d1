"""Each TensorFlow Lite operator, compiled, answers like LiteRT.

One operator on 8-bit numbers rounds once: LiteRT's kernels and the NPU may differ by 1 where that is a
tie. Where values are only moved or chosen they are equal.
"""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import HostSection, NpuSection, read
from furiosa.vnpu.interpreter import Interpreter
from support.tflite_cases import Case, check, random_input, window, worst
from support.tflite_models import RELU, RELU6, RELU_N1_TO_1, SAME, VALID, Quant


def conv(
    dtype: str,
    kind: str = "CONV_2D",
    shape: tuple[int, ...] = (1, 9, 8, 4),
    out: int = 6,
    kernel: tuple[int, int] = (3, 3),
    point: int = 140,
    **options: Any,
) -> tuple[Case, bytes]:
    case = Case(dtype)
    source = case.activation(*shape)
    if kind == "CONV_2D":
        held = case.weights(out, *kernel, shape[3] // options.pop("groups", 1), axis=0, point=point)
    else:
        held = case.weights(1, *kernel, out, axis=3, point=point)
    given = window(**options)
    stride, dilation = given["StrideH"], given["DilationHFactor"]
    covered = [dilation * (k - 1) * (given["Padding"] == VALID) for k in kernel]
    size = [-(-(n - c) // stride) for n, c in zip(shape[1:3], covered, strict=True)]
    result = case.activation(shape[0], *size, out, scale=0.15)
    extra = {} if kind == "CONV_2D" else {"DepthMultiplier": out // shape[3]}
    case.net.node(kind, [source, *held], result, **given, **extra)
    return case, case.net.model([source], [result])


DTYPES = ("int8", "uint8", "float32")
SECTIONS = {"int8": [NpuSection], "uint8": [NpuSection], "float32": [HostSection]}
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"padding": VALID},
    "same, stride 2": {"stride": 2},
    "valid, stride 2": {"padding": VALID, "stride": 2, "kernel": (2, 3)},
    "dilated": {"dilation": 2},
    "relu": {"activation": RELU},
    "relu6": {"activation": RELU6},
    "relu -1 to 1": {"activation": RELU_N1_TO_1},
    "depthwise": {"kind": "DEPTHWISE_CONV_2D", "out": 4},
    "depthwise, twice": {"kind": "DEPTHWISE_CONV_2D", "out": 8, "stride": 2},
    "depthwise of one channel": {"kind": "DEPTHWISE_CONV_2D", "shape": (1, 9, 8, 1), "out": 3},
    "depthwise, wide": {"kind": "DEPTHWISE_CONV_2D", "shape": (1, 5, 6, 260), "out": 260},
    "groups": {"groups": 2},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str, dtype: str) -> None:
    case, model = conv(dtype, **CONVOLUTIONS[name])
    check(case, model, SECTIONS[dtype])


@pytest.mark.parametrize(("point", "zero"), [(128, 0), (129, 1), (0, -128), (255, 127)])
def test_uint8_weights_are_int8_with_a_zero_point(point: int, zero: int) -> None:
    case, model = conv("uint8", point=point)
    found = [i for i in check(case, model).instructions if "CONV2D" in i.opcode.name]
    assert [(i.opcode.name, i.zero1) for i in found] == [("CONV2D", zero)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flat", ["reshape", "image", "rows"])
def test_fully_connected(flat: str, dtype: str) -> None:
    """After an image its weights go by the image's own order, so nothing is transposed between."""
    case = Case(dtype)
    source = case.activation(*((2, 3, 60) if flat == "rows" else (1, 4, 5, 3)))
    middle, rows = source, 6 if flat == "rows" else 1
    if flat != "rows":
        middle = case.activation(1, 4, 5, 3)
        options = {**window(), "FilterHeight": 1, "FilterWidth": 1}
        del options["DilationHFactor"], options["DilationWFactor"]
        case.net.node("MAX_POOL_2D", [source], middle, **options)
    if flat == "reshape":
        shape = case.net.constant(np.array([1, 60], np.int32))
        middle = case.net.node("RESHAPE", [middle, shape], case.activation(1, 60))
    held = case.weights(7, 60, axis=0)
    if dtype == "int8":  # LiteRT has channels of their own here for some kernels only
        quant = Quant((0.002,))
        data = case.net.rng.integers(-127, 128, (7, 60), np.int8)
        bias = np.arange(-300, 400, 100, dtype=np.int32)
        held = case.net.constant(data, quant), case.net.constant(bias, Quant((0.0001,)))
    result = case.activation(rows, 7, scale=0.15)
    case.net.node("FULLY_CONNECTED", [middle, *held], result, FusedActivationFunction=RELU)
    check(case, case.net.model([source], [result]), SECTIONS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [0, RELU])
def test_add(activation: int, dtype: str) -> None:
    case = Case(dtype)
    left, right = case.activation(1, 3, 4, 5), case.activation(1, 3, 4, 5, scale=0.02, point=7)
    result = case.activation(1, 3, 4, 5, scale=0.06)
    case.net.node("ADD", [left, right], result, FusedActivationFunction=activation)
    check(case, case.net.model([left, right], [result]), SECTIONS[dtype])


def test_add_broadcasts_by_the_last_dimensions_of_the_file() -> None:
    case = Case("float32")
    left, result = case.activation(1, 4, 4, 4), case.activation(1, 4, 4, 4)
    right = case.net.constant(np.arange(4, dtype=np.float32))
    case.net.node("ADD", [left, right], result)
    check(case, case.net.model([left], [result]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("padding", "size"), [(SAME, 4), (VALID, 3)])
def test_pooling(kind: str, padding: int, size: int, dtype: str) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 8, 8, 3), case.activation(1, size, size, 3)
    options = {"Padding": padding, "StrideH": 2, "StrideW": 2, "FilterHeight": 3, "FilterWidth": 3}
    case.net.node(kind, [source], result, **options)
    check(case, case.net.model([source], [result]), SECTIONS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [False, True])
def test_spatial_mean(keep: bool, dtype: str) -> None:
    case = Case(dtype)
    source = case.activation(1, 5, 6, 3)
    result = case.activation(*((1, 1, 1, 3) if keep else (1, 3)), scale=0.01)
    axes = case.net.constant(np.array([-2, 1], np.int32))
    case.net.node("MEAN", [source, axes], result, KeepDims=keep)
    check(case, case.net.model([source], [result]), SECTIONS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 7), (1, 2, 3, 4)])
def test_softmax(shape: tuple[int, ...], dtype: str) -> None:
    case = Case(dtype)
    source = case.activation(*shape)
    result = case.activation(*shape, scale=1 / 256, point=-128 if dtype == "int8" else 0)
    case.net.node("SOFTMAX", [source], result, Beta=1.0)
    check(case, case.net.model([source], [result]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_becomes_the_convolutions_own(dtype: str) -> None:
    case = Case(dtype)
    source, padded = case.activation(1, 5, 6, 3), case.activation(1, 8, 10, 3)
    pads = case.net.constant(np.array([[0, 0], [1, 2], [3, 1], [0, 0]], np.int32))
    case.net.node("PAD", [source, pads], padded)
    result = case.activation(1, 3, 4, 4, scale=0.15)
    given = window(VALID, stride=2)
    case.net.node("CONV_2D", [padded, *case.weights(4, 3, 3, 3, axis=0)], result, **given)
    check(case, case.net.model([source], [result]), SECTIONS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_that_others_read_is_computed(dtype: str) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 5, 6, 3), case.activation(1, 8, 6, 3)
    pads = case.net.constant(np.array([[0, 0], [1, 2], [0, 0], [0, 0]], np.int32))
    case.net.node("PAD", [source, pads], result)
    difference, _ = worst(case.net.model([source], [result]))
    assert difference == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["RELU", "RELU6"])
def test_activation_by_itself(kind: str, dtype: str) -> None:
    case = Case(dtype)
    source, result = case.activation(1, 3, 4, 5, scale=0.1), case.activation(1, 3, 4, 5, scale=0.1)
    case.net.node(kind, [source], result)
    check(case, case.net.model([source], [result]), SECTIONS[dtype])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_concatenation(axis: int, dtype: str) -> None:
    case = Case(dtype)
    left, right = case.activation(1, 2, 3, 4), case.activation(1, 2, 3, 4)
    shape = [1, 2, 3, 4]
    shape[axis] *= 2
    result = case.activation(*shape)
    case.net.node("CONCATENATION", [left, right], result, Axis=axis)
    difference, _ = worst(case.net.model([left, right], [result]))
    assert difference == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_reshape_goes_by_the_order_of_the_file(dtype: str) -> None:
    case = Case(dtype)
    source, middle = case.activation(1, 2, 3, 4), case.activation(1, 2, 3, 4)
    case.net.node("RELU", [source], middle)
    shape = case.net.constant(np.array([1, 4, 6], np.int32))
    result = case.net.node("RESHAPE", [middle, shape], case.activation(1, 4, 6))
    difference, _ = worst(case.net.model([source], [result]))
    assert difference <= (0 if dtype == "float32" else 1)


@pytest.mark.parametrize(
    ("before", "after"), [("float32", "int8"), ("uint8", "int8"), ("int8", "float32")]
)
def test_quantize_and_dequantize(before: str, after: str) -> None:
    case = Case(before)
    source = case.activation(1, 6)
    case.dtype = after
    result = case.activation(1, 6, scale=0.07)
    case.net.node("DEQUANTIZE" if after == "float32" else "QUANTIZE", [source], result)
    check(case, case.net.model([source], [result]), [NpuSection])


def test_float16_constants_are_taken_as_float32() -> None:
    case = Case("float32")
    source, result = case.activation(1, 5, 5, 2), case.activation(1, 5, 5, 3)
    halves = [case.net.rng.normal(0, 1, shape).astype(np.float16) for shape in ((3, 3, 3, 2), (3,))]
    held = []
    for data in halves:
        half, full = case.net.constant(data), case.activation(*data.shape)
        held.append(case.net.node("DEQUANTIZE", [half], full))
    case.net.node("CONV_2D", [source, *held], result, **window())
    model = case.net.model([source], [result])
    check(case, model, [HostSection])
    assert read(compile(model, CompilerOptions(batch_size=2))).input_specs[0].shape[0] == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_is_that_many_inferences(dtype: str) -> None:
    _, model = conv(dtype)
    one = Interpreter(read(compile(model)))
    batched = read(compile(model, CompilerOptions(batch_size=3)))
    assert [spec.shape for spec in batched.input_specs] == [(3, 9, 8, 4)]
    images = random_input(np.random.default_rng(2), (3, 9, 8, 4), dtype)
    (together,) = Interpreter(batched).run([images])
    apart = [one.run([images[index : index + 1]])[0] for index in range(3)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-5)
