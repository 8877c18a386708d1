"""Convolutions and matrix products answer as onnxruntime does within 1 LSB: it rounds float sums of
dequantised values where the NPU rounds once, after sums of integers."""

from typing import Any

import numpy as np
import onnx
import pytest

from furiosa.enf import Opcode, Program
from support.qdq_nets import BATCHES, TARGETS, Qdq, opcodes, program, worst


def last(net: Qdq) -> onnx.ModelProto:
    return net.model(net.nodes[-1].output[0])


def convolution(compiled: Program) -> Any:
    (found,) = (i for i in compiled.instructions if "CONV2D" in i.opcode.name)
    return found


def conv(
    size: tuple[int, ...] = (7, 6),
    *,
    group: int = 1,
    weights: dict[str, Any] | None = None,
    **more: Any,
) -> Qdq:
    net = Qdq()
    w = net.stored(8, 4 // group, *[3] * len(size), **{"scale": 0.01, **(weights or {})})
    b = net.constant(net.rng.normal(size=8).astype(np.float32))
    net.quantized(net.node("Conv", net.input(1, 4, *size), w, b, group=group, **more), 0.1)
    return net


CHANNELS = tuple((0.005 * np.arange(1, 9)).tolist())
WEIGHTS: dict[str, tuple[dict[str, Any], int]] = {
    "symmetric": ({}, 0),
    "by channel": ({"scale": CHANNELS}, 0),
    "asymmetric": ({"zero": 11}, 11),
    "lowest": ({"zero": -128}, -128),
    "by channel, asymmetric": ({"scale": CHANNELS, "zero": 127}, 127),
    "unsigned": ({"dtype": np.uint8, "zero": 128}, 0),
    "unsigned, asymmetric": ({"dtype": np.uint8, "zero": 100}, -28),
    "unsigned, positive": ({"dtype": np.uint8}, -128),
}


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_have_a_zero_point(name: str, group: int) -> None:
    given, point = WEIGHTS[name]
    made = last(conv(weights=given, group=group, pads=[1, 0, 1, 2]))
    assert opcodes(made) == ["DEPTHWISE_CONV2D" if group == 4 else "CONV2D"]
    assert convolution(program(made)).zero1 == point
    assert worst(made) <= 1


def test_zero_points_by_channel_go_into_weights_that_stay_int8() -> None:
    net = Qdq()
    data = net.constant(net.rng.integers(-60, 60, (8, 4, 3, 3), np.int8))
    given = [net.constant(np.full(8, 0.01, np.float32)), net.constant(np.arange(8, dtype=np.int8))]
    w = net.node("DequantizeLinear", data, *given, axis=0)
    net.quantized(net.node("Conv", net.input(1, 4, 7, 6), w), 0.1)
    made = last(net)
    assert convolution(program(made)).zero1 == 0
    assert worst(made) <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [(7, 6), (9,)])
def test_targets_and_batches_change_nothing(size: tuple[int, ...], batch: int, target: str) -> None:
    assert worst(last(conv(size, weights={"zero": 5})), target, batch) <= 1


LINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"pads": [2, 1]},
    "strided": {"strides": [2]},
    "dilated": {"dilations": [3]},
    "groups": {"group": 2},
    "depthwise": {"group": 4},
}


@pytest.mark.parametrize("name", LINES)
def test_lines_are_images_of_one_row(name: str) -> None:
    made = last(conv((9,), **LINES[name]))
    kind = "DEPTHWISE_CONV2D" if name == "depthwise" else "CONV2D"
    assert opcodes(made) == ["RESHAPE", kind, "RESHAPE"]
    assert worst(made) <= 1


GEMMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "transB": {"transB": 1},
    "transA": {"transA": 1},
    "alpha": {"alpha": 0.37},
    "beta": {"beta": -2.5},
    "all": {"alpha": 1.7, "beta": 0.3, "transA": 1, "transB": 1},
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", GEMMS)
def test_gemm(name: str, stored: bool) -> None:
    given, net = GEMMS[name], Qdq()
    x = net.input(*((20, 3) if given.get("transA") else (3, 20)))
    w = net.stored(*((7, 20) if given.get("transB") else (20, 7)), zero=9)
    if stored:
        data = net.constant(net.rng.integers(-5000, 5000, 7, np.int32))
        zero = net.constant(np.int32(0))
        b = net.node("DequantizeLinear", data, net.constant(np.float32(0.05 * 0.02)), zero)
    else:
        b = net.constant(net.rng.normal(size=7).astype(np.float32))
    net.quantized(net.node("Gemm", x, w, b, **given), 0.3)
    made = last(net)
    assert opcodes(made).count("CONV2D") == 1
    assert ("TRANSPOSE" in opcodes(made)) == ("transA" in given)
    assert worst(made) <= 1


def test_a_negative_alpha_stays_on_the_host() -> None:
    net = Qdq()
    net.quantized(net.node("Gemm", net.input(3, 20), net.stored(20, 7), alpha=-1.0), 0.3)
    assert "CONV2D" not in opcodes(last(net))


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5, 7), (7, 6)),
    ((1, 3, 5, 7), (1, 3, 7, 6)),
    ((1, 3, 5, 7), (7, 6)),
    ((5, 7), (1, 3, 7, 6)),
    ((2, 1, 5, 7), (3, 7, 6)),
    ((7,), (7, 6)),
    ((2, 5, 7), (7,)),
    ((7,), (7,)),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], constant: bool) -> None:
    net = Qdq()
    x = net.input(*left)
    y = net.stored(*right, zero=4) if constant else net.input(*right, scale=0.02, dtype=np.uint8)
    net.quantized(net.node("MatMul", x, y), 0.1)
    made = last(net)
    used = set(opcodes(made))
    if constant and len(left) > 1 and len(right) == 2:
        assert used == {"CONV2D", "RESHAPE"}
    else:
        assert "MATMUL" in used
        assert ("LOAD" in used) == constant
    assert worst(made) <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_of_matrices(batch: int, target: str) -> None:
    net = Qdq()
    net.quantized(net.node("MatMul", net.input(1, 3, 5, 7), net.input(1, 3, 7, 6)), 0.1)
    assert worst(last(net), target, batch) <= 1


def test_a_product_with_relu_is_one_operation() -> None:
    net = Qdq()
    net.quantized(net.node("Relu", net.node("MatMul", net.input(5, 7), net.input(7, 6))), 0.1)
    made = last(net)
    (product,) = program(made).instructions
    assert (product.opcode, product.low) == (Opcode.MATMUL, -5)
    assert worst(made) <= 1


def behind_conv(weights: dict[str, Any], *ops: str) -> onnx.ModelProto:
    """Conv, then what scales and shifts its channels, which may be negative."""
    net = Qdq()
    w = net.stored(8, 4, 3, 3, **{"scale": 0.01, **weights})
    b = net.constant(net.rng.normal(size=8).astype(np.float32))
    y = net.node("Conv", net.input(1, 4, 7, 6), w, b)
    for op in ops:
        factors = net.rng.uniform(0.5, 2, (8, 1, 1)) * net.rng.choice([-1, 1], (8, 1, 1))
        if op == "BatchNormalization":
            var = net.constant(net.rng.uniform(0.5, 2, 8).astype(np.float32))
            rest = [net.constant(net.rng.normal(size=8).astype(np.float32)) for _ in range(3)]
            y = net.node(op, y, *rest, var)
        else:
            y = net.node(op, y, net.constant(factors.astype(np.float32)))
    net.quantized(y, 0.2)
    return last(net)


@pytest.mark.parametrize(
    "ops", [("BatchNormalization",), ("Mul",), ("Add",), ("Mul", "Add"), ("Add", "Mul", "Add")]
)
@pytest.mark.parametrize("name", ["symmetric", "by channel"])
def test_what_scales_and_shifts_channels_goes_into_the_convolution(
    name: str, ops: tuple[str, ...]
) -> None:
    weights = {**WEIGHTS[name][0], "dtype": np.int8}
    model = behind_conv(weights, *ops)
    stored = next(t for t in model.graph.initializer if list(t.dims) == [8, 4, 3, 3])
    data = np.maximum(onnx.numpy_helper.to_array(stored), -127)  # -128 has no negative
    stored.CopyFrom(onnx.numpy_helper.from_array(data, stored.name))
    assert opcodes(model) == ["CONV2D"]
    assert worst(model) <= 1


def test_numbers_without_a_negative_are_not_turned() -> None:
    model = behind_conv({}, "Mul")
    assert opcodes(model) != ["CONV2D"]


def test_a_product_that_each_reader_quantises_for_itself_is_one_operation() -> None:
    net = Qdq()
    x = net.node("Conv", net.input(1, 4, 6, 6), net.stored(8, 4, 1, 1))
    left, right = (net.node(op, net.rounded(x)) for op in ("Abs", "Neg"))
    made = net.model(net.quantized(net.node("Add", net.rounded(left), net.rounded(right))))
    assert worst(made) <= 1
    assert opcodes(made).count("CONV2D") == 1
