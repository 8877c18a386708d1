"""The form of a quantised model, node by node, and what it computes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from furiosa.optimizer import optimize_model
from furiosa.quantizer import (
    CalibrationMethod,
    Calibrator,
    quantize,
)
from support.onnx_models import Builder, conv_net, operators, random_conv_net, random_inputs
from support.quantized import DQ, Q, Quantized


@pytest.mark.parametrize("seed", range(8))
def test_results_stay_close(seed: int) -> None:
    model = random_conv_net(seed)
    assert Quantized.of(model).difference(model) < 0.1


def test_inputs_and_outputs_stay_float() -> None:
    model = Quantized.of(conv_net("Relu")).model
    assert operators(model) == [Q, DQ, DQ, DQ, "Conv", "Relu", Q, DQ]
    assert [entry.version for entry in model.opset_import] == [13]
    for value, name in ((model.graph.input[0], "x"), (model.graph.output[0], "y")):
        assert (value.name, value.type.tensor_type.elem_type) == (name, TensorProto.FLOAT)


def test_weights_are_int8_per_output_channel_and_biases_int32() -> None:
    model = conv_net()
    found = Quantized.of(model)
    data, weights, bias = found.node("Conv").input
    integers, scale, real = found.real(weights)
    before = numpy_helper.to_array(model.graph.initializer[0])
    assert (integers.dtype.name, scale.shape) == ("int8", (4, 1, 1, 1))
    assert (np.abs(integers.astype(int)).reshape(4, -1).max(axis=1) == 127).all()
    assert (np.abs(real - before) <= 0.501 * scale).all()
    integers, bias_scale, real = found.real(bias)
    before = numpy_helper.to_array(model.graph.initializer[1])
    assert integers.dtype == np.int32
    np.testing.assert_array_equal(bias_scale, scale.reshape(-1) * np.float32(found.stored(data)[0]))
    assert (np.abs(real - before) <= 0.501 * bias_scale).all()


def test_a_layer_without_bias_gets_none() -> None:
    assert len(Quantized.of(conv_net(bias=False)).node("Conv").input) == 2


@pytest.mark.parametrize("turned", [0, 1])
def test_output_channels_of_gemm_are_axis_0(turned: int) -> None:
    net = Builder()
    shape = (5, 7) if turned else (7, 5)
    operands = net.input("x", [1, 7]), net.random(*shape), net.random(1, 5)
    model = net.model(net.node("Gemm", *operands, transB=turned))
    found = Quantized.of(model)
    integers, scale, _ = found.real(found.node("Gemm").input[1])
    assert (integers.shape, scale.shape) == ((5, 7), (5, 1))
    assert found.real(found.node("Gemm").input[2])[0].shape == (5,)
    assert found.difference(model) < 0.03


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_its_defaults_spelled_out_is_quantised(transposed: int) -> None:
    """As PyTorch exports a linear layer."""
    net = Builder()
    weights = net.random(5, 4) if transposed else net.random(4, 5)
    spelled: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": transposed}
    operands = [net.input("x", [2, 4]), weights, net.random(5)]
    found = Quantized.of(net.model(net.node("Gemm", *operands, **spelled)))
    assert found.producer(found.node("Gemm").input[1]).op_type == DQ


@pytest.mark.parametrize("layer", ["Conv", "Gemm", "Add"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_is_part_of_the_layer_before(layer: str, activation: str) -> None:
    net = Builder()
    match layer:
        case "Conv":
            x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 3)
        case "Gemm":
            x = net.node("Gemm", net.input("x", [1, 3]), net.random(3, 4), net.random(4))
        case _:
            x = net.node("Add", net.input("x", [1, 3]), net.input("z", [1, 3]))
    bounds = [net.constant(0), net.constant(6)] if activation == "Clip" else []
    found = Quantized.of(net.model(net.node(activation, x, *bounds, result="y")))
    assert found.readers(found.node(layer).output[0]) == [activation]
    assert found.readers(found.node(activation).output[0]) == [Q]
    assert found.stored("y")[1] == -128


def test_an_activation_after_anything_else_is_not() -> None:
    net = Builder()
    x = net.node("AveragePool", net.input("x", [1, 3, 4, 4]), kernel_shape=[2, 2])
    found = Quantized.of(net.model(net.node("Relu", x)))
    assert found.readers(found.node("AveragePool").output[0]) == [Q]


def test_an_activation_with_computed_bounds_is_not_either() -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 3)
    found = Quantized.of(net.model(net.node("Clip", x, net.input("low", []))))
    assert found.readers(found.node("Conv").output[0]) == [Q]


def test_a_layer_somebody_else_reads_is_stored_before_its_activation() -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 3)
    found = Quantized.of(net.model(net.node("Relu", x), x))
    assert found.readers(found.node("Conv").output[0]) == [Q]
    assert found.stored(found.node("Relu").input[0])


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2, 2]}),
        ("Flatten", {}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
    ],
)
def test_moving_values_keeps_their_scale(operator: str, attributes: dict[str, Any]) -> None:
    net = Builder()
    x = net.node("Relu", net.conv(net.input("x", [1, 3, 4, 4]), 3, 4))
    y = net.node(operator, x, **attributes)
    y = net.node("Reshape", y, net.constant([1, -1], np.int64))
    found = Quantized.of(net.model(net.node("Unsqueeze", y, net.constant([0], np.int64))))
    moved = found.node(operator)
    scales = {
        tuple(found.producer(name).input[1:])
        for name in (
            moved.input[0],
            found.node("Reshape").input[0],
            found.node("Unsqueeze").input[0],
        )
    }
    assert len(scales) == 1


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "AveragePool"])
def test_averages_have_a_scale_of_their_own(operator: str) -> None:
    net = Builder()
    attributes: dict[str, Any] = {"kernel_shape": [2, 2]} if operator == "AveragePool" else {}
    found = Quantized.of(
        net.model(net.node(operator, net.input("x", [1, 3, 4, 4]), result="y", **attributes))
    )
    assert found.stored("y")[0] < found.stored(found.node(operator).input[0])[0]


@pytest.mark.parametrize("operator", ["Add", "Mul", "Sub", "Mean"])
def test_operands_keep_their_scales(operator: str) -> None:
    net = Builder()
    left = net.node("Sigmoid", net.input("a", [1, 3, 4, 4]))
    found = Quantized.of(net.model(net.node(operator, left, net.input("b", [1, 3, 4, 4]))))
    scales = [found.stored(name)[0] for name in found.node(operator).input]
    assert scales[0] < scales[1]


def test_constant_operands_are_stored_by_their_own_range() -> None:
    net = Builder()
    values = np.linspace(-1, 3, 12).reshape(3, 2, 2)
    model = net.model(net.node("Add", net.input("x", [1, 3, 2, 2]), net.constant(values)))
    found = Quantized.of(model)
    integers, scale, real = found.real(found.node("Add").input[1])
    assert (integers.dtype.name, integers.min(), integers.max()) == ("int8", -128, 127)
    assert (np.abs(real - values) <= 0.501 * scale).all()
    assert found.difference(model) < 0.02


def test_other_operators_stay_float() -> None:
    found = Quantized.of(conv_net("Abs"))
    node = found.node("Abs")
    assert found.stored(node.input[0])
    assert node.output[0] == "y"  # and nothing behind it

    found = Quantized.of(conv_net("Abs", "Relu"))
    assert found.stored(found.node("Abs").input[0])
    assert found.readers(found.node("Abs").output[0]) == [Q]


def test_values_moved_between_float_operators_are_not_rounded() -> None:
    found = Quantized.of(conv_net("Abs", "Flatten", "Neg"))
    assert found.readers(found.node("Abs").output[0]) == ["Flatten"]
    assert found.readers(found.node("Flatten").output[0]) == ["Neg"]


def test_values_moved_towards_an_integer_operator_are_stored_before() -> None:
    net = Builder()
    x = net.node("Abs", net.conv(net.input("x", [1, 3, 4, 4]), 3, 3))
    x = net.node("Transpose", net.node("MaxPool", x, kernel_shape=[2, 2]), perm=[0, 1, 3, 2])
    found = Quantized.of(net.model(net.node("Relu", x)))
    assert found.readers(found.node("Abs").output[0]) == [Q]
    moved = [found.node(op).input[0] for op in ("MaxPool", "Transpose", "Relu")]
    assert len({tuple(found.producer(name).input[1:]) for name in moved}) == 1


def test_a_layer_with_computed_weights_stays_float() -> None:
    net = Builder()
    x, weights = net.input("x", [1, 3, 4, 4]), net.input("w", [2, 3, 1, 1])
    found = Quantized.of(net.model(net.node("Relu", net.node("Conv", x, weights))))
    assert found.readers(found.node("Conv").output[0]) == [Q]
    assert list(found.node("Conv").input) == ["x", "w"]


def test_a_max_pool_whose_indices_are_used_stays_float() -> None:
    net = Builder()
    net.node("MaxPool", net.input("x", [1, 3, 4, 4]), result="y", kernel_shape=[2, 2])
    net.nodes[-1].output.append("where")
    model = net.model(net.node("Relu", "y"), net.node("Cast", "where", to=TensorProto.FLOAT))
    assert Quantized.of(model).node("MaxPool").input[0] == "x"


def test_a_channel_without_weights_keeps_its_bias() -> None:
    model = conv_net()
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[1] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "c0"))
    found = Quantized.of(model)
    assert found.difference(model) < 0.02
    assert np.isfinite(found.real(found.node("Conv").input[1])[1]).all()


def test_a_bias_far_beyond_its_weights_does_not_overflow() -> None:
    model = conv_net()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((4, 3, 3, 3), 1e-9, np.float32), "c0")
    )
    found = Quantized.of(model)
    bias = found.real(found.node("Conv").input[2])[0].astype(np.int64)
    assert (np.abs(bias) + 27 * 255 * 127 < 2**31).all()
    assert found.difference(model) < 0.02


def test_two_layers_may_share_a_weight() -> None:
    net = Builder()
    x, weights, bias = net.input("x", [1, 3, 4, 4]), net.random(3, 3, 1, 1), net.random(3)
    x = net.node("Relu", net.node("Conv", x, weights, bias))
    model = net.model(net.node("Conv", x, weights, bias))
    assert Quantized.of(model).difference(model) < 0.05


def test_batch_normalization_is_folded_on_the_way() -> None:
    net = Builder()
    x = net.batch_norm(net.conv(net.input("x", [1, 3, 4, 4]), 3, 4), 4)
    model = net.model(net.node("Relu", x))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([random_inputs(model)])
    ranges = calibrator.compute_range()
    assert quantize(model, ranges) == quantize(optimize_model(model), ranges)


def test_the_same_input_gives_the_same_bytes_and_is_not_modified() -> None:
    model = optimize_model(random_conv_net(2))
    before = model.SerializeToString(deterministic=True)
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([random_inputs(model)])
    ranges = calibrator.compute_range()
    first = quantize(model, ranges)
    assert quantize(model.SerializeToString(), dict(reversed(ranges.items()))) == first
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("opset", [12, 17])
def test_models_of_other_opsets_are_brought_to_13(opset: int) -> None:
    net = Builder()
    x = net.node("Relu", net.conv(net.input("x", [1, 3, 4, 4]), 3, 4))
    found = Quantized.of(net.model(x, opset=opset))
    assert [entry.version for entry in found.model.opset_import] == [13]


# what is refused


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_missing_range_is_named(missing: str) -> None:
    ranges = {"x": (-1, 1), "y": (0, 1)}
    del ranges[missing]
    with pytest.raises(ValueError, match=f"there is no range for tensor '{missing}'"):
        quantize(conv_net("Relu"), ranges)


@pytest.mark.parametrize("ends", [(1, -1), (0, float("nan")), (-float("inf"), 0), (1,), (0, 1, 2)])
def test_a_range_that_is_none_is_refused(ends: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="the range of tensor 'y' is no range"):
        quantize(conv_net("Relu"), {"x": (-1, 1), "y": ends})


def test_a_quantized_model_is_not_quantized_again() -> None:
    found = Quantized.of(conv_net())
    with pytest.raises(ValueError, match=r"quantised already: node '.*' is QuantizeLinear"):
        quantize(found.model, {})
    with pytest.raises(ValueError, match="quantised already"):
        Calibrator(found.model, CalibrationMethod.MIN_MAX_ASYM)


def test_a_model_of_another_float_type_is_refused() -> None:
    net = Builder()
    model = net.model(net.node("Relu", net.input("x", [2], TensorProto.FLOAT16)))
    with pytest.raises(ValueError, match="input 'x' is FLOAT16: only float32"):
        quantize(model, {})


def test_a_model_with_nothing_to_quantize_is_refused() -> None:
    net = Builder()
    with pytest.raises(ValueError, match="no operator that can be quantised"):
        quantize(net.model(net.node("Abs", net.input("x", [1, 2]))), {})


def test_a_weight_that_is_not_finite_is_refused_by_node() -> None:
    net = Builder()
    weights = net.constant(np.full((3, 3, 1, 1), np.nan))
    x = net.node("Conv", net.input("x", [1, 3, 2, 2]), weights, name="broken")
    with pytest.raises(ValueError, match="node 'broken' is not finite"):
        quantize(net.model(x), {"x": (0, 1), x: (0, 1)})
