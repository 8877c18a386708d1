"""What of each operator is stored as integers, under which conditions, and with whose scale."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from support.onnx_models import Builder, random_inputs
from support.quantized import DQ, Q, Quantized

INT = np.int64
Net = Callable[[Builder, str], str]  # from a builder and [1, 4, 6, 6] to the result's name


def node(operator: str, *constants: tuple[Any, Any], **attributes: Any) -> Net:
    def build(net: Builder, x: str) -> str:
        rest = [net.constant(array, dtype) for array, dtype in constants]
        return net.node(operator, x, *rest, **attributes)

    return build


def on_positive(operator: str, *constants: tuple[Any, Any]) -> Net:
    return lambda net, x: node(operator, *constants)(net, net.node("Exp", x))


def two(operator: str, **attributes: Any) -> Net:
    return lambda net, x: net.node(operator, x, net.input("z", [1, 4, 6, 6]), **attributes)


def dense(net: Builder, x: str) -> str:
    flat = net.node("Flatten", x)
    return net.node("Gemm", flat, net.random(144, 5, spread=0.1), net.random(5))


def transposed_conv(net: Builder, x: str, group: int = 1) -> str:
    return net.node("ConvTranspose", x, net.random(4, 3, 2, 2), net.random(3 * group), group=group)


def split(net: Builder, x: str) -> str:
    net.node("Split", x, result="left", axis=1)
    net.nodes[-1].output.append("right")
    return net.node("Mul", "left", "right")


RANGED: dict[str, Net] = {
    "Add": two("Add"),
    "AveragePool": node("AveragePool", kernel_shape=[2, 2]),
    "Clip": node("Clip", (0, "f4"), (1, "f4")),
    "Conv": lambda net, x: net.conv(x, 4, 3),
    "ConvTranspose": transposed_conv,
    "Elu": node("Elu"),
    "Erf": node("Erf"),
    "Exp": node("Exp"),
    "Gemm": dense,
    "GlobalAveragePool": node("GlobalAveragePool"),
    "HardSigmoid": node("HardSigmoid"),
    "LeakyRelu": node("LeakyRelu"),
    "Log": on_positive("Log"),
    "LpNormalization": on_positive("LpNormalization"),
    "MatMul": two("MatMul"),
    "Mean": two("Mean"),
    "Mul": two("Mul"),
    "Pow": node("Pow", (2, "f4")),
    "ReduceL2": node("ReduceL2", axes=[1]),
    "ReduceMean": node("ReduceMean", axes=[2, 3]),
    "ReduceSum": node("ReduceSum", ([1], INT)),
    "Relu": node("Relu"),
    "Resize": node("Resize", ([], "f4"), ([1, 1, 2, 2], "f4"), mode="linear"),
    "Sigmoid": node("Sigmoid"),
    "Softmax": node("Softmax", axis=1),
    "Softplus": node("Softplus"),
    "Sqrt": on_positive("Sqrt"),
    "Sub": two("Sub"),
    "Tanh": node("Tanh"),
}
MOVING: dict[str, Net] = {
    "DepthToSpace": node("DepthToSpace", blocksize=2),
    "Expand": node("Expand", ([2, 4, 6, 6], INT)),
    "Flatten": node("Flatten"),
    "Gather": node("Gather", ([3, 0], INT), axis=1),
    "MaxPool": node("MaxPool", kernel_shape=[2, 2]),
    "Pad": node("Pad", ([0, 0, 1, 1, 0, 0, 1, 1], INT)),
    "Reshape": node("Reshape", ([1, -1], INT)),
    "Resize": node("Resize", ([], "f4"), ([1, 1, 2, 2], "f4")),
    "Slice": node("Slice", ([1], INT), ([3], INT), ([1], INT)),
    "SpaceToDepth": node("SpaceToDepth", blocksize=2),
    "Squeeze": node("Squeeze", ([0], INT)),
    "Transpose": node("Transpose", perm=[0, 2, 3, 1]),
    "Unsqueeze": node("Unsqueeze", ([0], INT)),
}


def model_of(build: Net, before: str = "Relu") -> ModelProto:
    net = Builder()
    x = net.node(before, net.input("x", [1, 4, 6, 6]))
    return net.model(build(net, x))


@pytest.mark.parametrize("operator", RANGED)
def test_an_operator_computes_between_integers(operator: str) -> None:
    model = model_of(RANGED[operator])
    found = Quantized.of(model)
    computing = [n for n in found.model.graph.node if n.op_type == operator][-1]
    constant_bounds = operator in ("Clip", "Pow", "Resize", "ReduceSum")
    read = computing.input[:1] if constant_bounds else computing.input
    assert [found.producer(name).op_type for name in read] == [DQ] * len(read)
    assert found.readers(computing.output[0]) == [Q]
    assert found.difference(model) < 0.06


@pytest.mark.parametrize("operator", MOVING)
def test_moving_values_keeps_their_scale(operator: str) -> None:
    model = model_of(lambda net, x: net.node("Relu", MOVING[operator](net, x)))
    found = Quantized.of(model)
    moved, result = found.node(operator).input[0], found.node(operator).output[0]
    (behind,) = [n for n in found.model.graph.node if result in n.input]
    assert behind.op_type == Q
    assert list(behind.input[1:]) == list(found.producer(moved).input[1:])
    assert found.difference(model) < 0.015


def test_the_parts_of_a_split_share_its_operand_s_scale() -> None:
    found = Quantized.of(model_of(split))
    operand = found.node("Split").input[0]
    parts = found.node("Mul").input
    assert len({tuple(found.producer(name).input[1:]) for name in (operand, *parts)}) == 1


def test_an_onnxruntime_gelu_computes_between_integers() -> None:
    model = model_of(node("Gelu", domain="com.microsoft"))
    model.opset_import.add(domain="com.microsoft", version=1)
    found = Quantized.of(model)
    gelu = found.node("Gelu")
    assert (gelu.domain, found.producer(gelu.input[0]).op_type) == ("com.microsoft", DQ)
    assert found.readers(gelu.output[0]) == [Q]
    assert found.difference(model) < 0.02


FLOAT: dict[str, Net] = {
    "Abs": node("Abs"),
    "LpNormalization": node("LpNormalization", axis=1, p=1),
    "Pad": node("Pad", ([0, 0, 1, 1, 0, 0, 1, 1], INT), (0.5, "f4")),
    "Pow": lambda net, x: net.node("Pow", x, net.constant([[[2]], [[3]], [[1]], [[2]]])),
    "Resize": node("Resize", ([], "f4"), ([1, 1, 2, 2], "f4"), mode="cubic"),
}


@pytest.mark.parametrize("operator", FLOAT)
def test_what_the_npu_has_no_form_for_stays_float(operator: str) -> None:
    found = Quantized.of(model_of(FLOAT[operator]))
    assert found.node(operator).output[0] == found.model.graph.output[0].name


def test_a_pad_that_repeats_moves_values_only() -> None:
    pads = ([0, 0, 1, 1, 0, 0, 1, 1], INT)
    found = Quantized.of(model_of(node("Pad", pads, mode="reflect")))
    assert found.readers(found.node("Pad").output[0]) == [Q]


def test_a_choice_by_computed_indices_stays_float() -> None:
    net = Builder()
    x = net.node("Relu", net.input("x", [3, 4]))
    chosen = net.node("Gather", x, net.node("ArgMax", net.node("Abs", x), axis=0, keepdims=0))
    found = Quantized.of(net.model(chosen))
    assert found.node("Gather").output[0] == found.model.graph.output[0].name


# weights


def test_output_channels_of_a_transposed_conv_are_axis_1() -> None:
    model = model_of(transposed_conv)
    found = Quantized.of(model)
    weights, bias = found.node("ConvTranspose").input[1:]
    integers, scale, _ = found.real(weights)
    assert (integers.shape, scale.shape) == ((4, 3, 2, 2), (1, 3, 1, 1))
    assert (np.abs(integers.astype(int)).max(axis=(0, 2, 3)) == 127).all()
    assert found.real(bias)[1].shape == (3,)


def test_a_transposed_conv_with_groups_has_one_scale() -> None:
    model = model_of(lambda net, x: transposed_conv(net, x, group=2))
    found = Quantized.of(model)
    weights, bias = found.node("ConvTranspose").input[1:]
    integers, scale, _ = found.real(weights)
    assert (integers.shape, scale.shape) == ((4, 3, 2, 2), ())
    assert found.real(bias)[0].shape == (6,)
    assert found.real(bias)[1].shape == ()
    assert found.difference(model) < 0.03


def test_output_channels_of_a_constant_matrix_are_axis_1() -> None:
    model = model_of(lambda net, x: net.node("MatMul", x, net.random(6, 5)))
    found = Quantized.of(model)
    integers, scale, _ = found.real(found.node("MatMul").input[1])
    assert (integers.shape, scale.shape) == ((6, 5), (1, 5))


# scales that are shared, and ranges that are known


def stored_alike(found: Quantized, *names: str) -> bool:
    return len({tuple(found.producer(name).input[1:]) for name in names}) == 1


def concat_net() -> ModelProto:
    """Two Concats in a row, of tensors of which one is 50 times as wide as the others."""
    net = Builder()
    x = net.input("x", [1, 4, 6, 6])
    narrow = net.node("Relu", x, result="narrow")
    wide = net.node("Mul", x, net.constant(50), result="wide")
    joined = net.node("Concat", narrow, wide, axis=1, result="joined")
    more = net.node("Concat", joined, net.node("MaxPool", narrow, kernel_shape=[1, 1]), axis=1)
    return net.model(net.node("GlobalAveragePool", more), net.node("Relu", joined))


@pytest.mark.parametrize("method", [CalibrationMethod.MIN_MAX_ASYM, CalibrationMethod.MSE_SYM])
def test_what_is_concatenated_shares_one_scale(method: CalibrationMethod) -> None:
    found = Quantized.of(concat_net(), method=method)
    first, second = (n for n in found.model.graph.node if n.op_type == "Concat")
    assert stored_alike(found, *first.input, *second.input, found.node("MaxPool").input[0])
    assert found.difference(concat_net()) < 0.05


@pytest.mark.parametrize("method", CalibrationMethod)
def test_a_shared_range_is_that_of_all_values(method: CalibrationMethod) -> None:
    model = concat_net()
    calibrator = Calibrator(model, method, percentage=100)
    calibrator.collect_data(random_inputs(model, seed) for seed in range(4))
    ranges = calibrator.compute_range()
    least = 0.5 if "ENTROPY" in method.name else 0.9
    assert ranges["narrow"] == ranges["wide"]
    assert ranges["wide"][0] < -100 * least
    assert ranges["wide"][1] > 100 * least


@pytest.mark.parametrize("wider", ["narrow", "wide"])
def test_ranges_given_apart_are_covered_together(wider: str) -> None:
    ranges = {"x": (-1, 1), "narrow": (0, 1), "wide": (0, 1), wider: (0, 255)}
    ranges |= {value.name: (0, 1) for value in concat_net().graph.output}
    found = Quantized(onnx.load_from_string(quantize(concat_net(), ranges)))
    assert [found.stored(name) for name in ("narrow", "wide", "joined")] == [(1.0, -128)] * 3


def test_what_others_compute_with_keeps_its_finer_scale() -> None:
    net = Builder()
    x = net.input("x", [1, 4, 6, 6])
    narrow = net.node("Tanh", x)
    wide = net.node("Mul", x, net.constant(50))
    joined = net.node("Concat", net.node("MaxPool", narrow, kernel_shape=[1, 1]), wide, axis=1)
    model = net.model(net.node("Relu", joined), net.node("LeakyRelu", narrow))
    found = Quantized.of(model)
    assert not stored_alike(found, *found.node("Concat").input)
    assert stored_alike(found, found.node("MaxPool").input[0], found.node("Concat").input[0])
    assert found.difference(model) < 0.02


def test_an_input_keeps_its_range_when_it_is_concatenated() -> None:
    net = Builder()
    x = net.input("x", [1, 4, 6, 6])
    wide = net.node("Mul", x, net.constant(50))
    found = Quantized.of(net.model(net.node("Concat", x, wide, axis=1, result="y")))
    operands = found.node("Concat").input
    assert not stored_alike(found, *operands)
    assert stored_alike(found, operands[1], "y")


def test_a_shared_range_covers_concatenated_constants() -> None:
    net = Builder()
    x = net.node("Relu", net.input("x", [1, 4, 6, 6]))
    model = net.model(net.node("Concat", x, net.constant(np.full((1, 1, 6, 6), -90)), axis=1))
    assert Quantized.of(model).difference(model) < 0.01


@pytest.mark.parametrize(
    ("operator", "scale", "zero_point"),
    [
        ("Sigmoid", 1 / 255, -128),
        ("HardSigmoid", 1 / 255, -128),
        ("Softmax", 1 / 255, -128),
        ("Tanh", 1 / 127, 0),
        ("Erf", 1 / 127, 0),
    ],
)
@pytest.mark.parametrize("method", [CalibrationMethod.MIN_MAX_ASYM, CalibrationMethod.ENTROPY_SYM])
def test_known_ranges_need_no_data(
    operator: str, scale: float, zero_point: int, method: CalibrationMethod
) -> None:
    found = Quantized.of(model_of(RANGED[operator]), method=method)
    result = found.model.graph.output[0].name
    found_scale, found_zero_point = found.stored(result)
    assert found_scale == pytest.approx(scale)
    assert found_zero_point == zero_point


def test_a_known_range_widens_the_one_it_shares() -> None:
    net = Builder()
    x = net.node("Mul", net.input("x", [1, 4, 6, 6]), net.constant(0.01))
    model = net.model(net.node("Concat", net.node("Sigmoid", x), x, axis=1, result="y"))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_SYM)
    calibrator.collect_data([random_inputs(model)])
    assert calibrator.compute_range()["y"] == (-1, 1)


@pytest.mark.parametrize("operator", ["Sub", "Mul", "ConvTranspose", "MatMul"])
def test_an_activation_is_part_of_the_arithmetic_before(operator: str) -> None:
    found = Quantized.of(model_of(lambda net, x: net.node("Relu", RANGED[operator](net, x)), "Exp"))
    assert found.readers(found.node(operator).output[0]) == ["Relu"]
