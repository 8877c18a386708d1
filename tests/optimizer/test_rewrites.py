"""One claim or two for each rewrite: what it makes, and when it keeps its hands off."""

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from furiosa.optimizer import optimize_model
from support.onnx_models import Builder, operators, random_inputs, run


def optimized(model: ModelProto, expected: list[str], *, opset: int = 13) -> ModelProto:
    """The optimised model, which has the expected operators and computes the same."""
    result = optimize_model(model, opset_version=opset)
    assert operators(result) == expected
    inputs = random_inputs(model)
    for old, new in zip(run(model, *inputs), run(result, *inputs), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5, rtol=1e-5)
    return result


def constants(model: ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


# constants


def test_constant_nodes_of_every_kind_become_initialisers() -> None:
    net = Builder()
    x = net.input("x", [1, 4])
    tensor = numpy_helper.from_array(np.ones(4, np.float32))
    x = net.node("Add", x, net.node("Constant", value=tensor))
    x = net.node("Mul", x, net.node("Constant", value_float=3.0))
    x = net.node("Add", x, net.node("Constant", value_floats=[1.0, 2, 3, 4]))
    x = net.node("Reshape", x, net.node("Constant", value_ints=[2, 2]))
    optimized(net.model(x), ["Add", "Mul", "Add", "Reshape"])


def test_arithmetic_on_static_shapes_folds_away() -> None:
    net = Builder()
    x = net.input("x", [1, 4, 2, 3])
    first = net.node("Gather", net.node("Shape", x), net.constant([0], np.int64), axis=0)
    shape = net.node("Concat", first, net.constant([-1], np.int64), axis=0)
    result = optimized(net.model(net.node("Reshape", x, shape)), ["Reshape"])
    assert constants(result)[result.graph.node[0].input[1]].tolist() == [1, -1]


def test_scalars_stay_scalars() -> None:
    net = Builder()
    x = net.input("x", [1, 4, 2, 3])
    size = net.node("Gather", net.node("Shape", x), net.node("Constant", value_int=1))
    factor = net.node("Cast", size, to=onnx.TensorProto.FLOAT)
    result = optimized(net.model(net.node("Mul", x, factor)), ["Mul"])
    assert constants(result)[factor].shape == ()


def test_a_constant_output_stays_with_its_node() -> None:
    net = Builder()
    x = net.node("Relu", net.input("x", [2]))
    fixed = net.node("Neg", net.constant([1, 2]))
    result = optimized(net.model(x, fixed), ["Relu", "Neg"])
    assert [value.name for value in result.graph.output] == [x, fixed]


def test_random_numbers_are_not_frozen() -> None:
    net = Builder()
    noise = net.node("RandomUniformLike", net.constant([1, 2]))
    model = net.model(net.node("Add", net.input("x", [2]), noise))
    assert operators(optimize_model(model)) == ["RandomUniformLike", "Add"]


# nodes that do nothing


def test_identity_and_dropout_go() -> None:
    net = Builder()
    x = net.node("Relu", net.node("Identity", net.input("x", [2])))
    x = net.node("Sigmoid", net.node("Identity", net.node("Dropout", x, net.constant(0.5))))
    optimized(net.model(x), ["Relu", "Sigmoid"])


def test_an_identity_before_an_output_gives_its_name_to_the_node_before() -> None:
    net = Builder()
    x = net.node("Relu", net.input("x", [2]))
    both = net.node("Neg", x)
    model = net.model(net.node("Identity", x, result="y"), both)
    assert optimized(model, ["Relu", "Neg"]).graph.node[0].output[0] == "y"


@pytest.mark.parametrize("twice", [False, True])
def test_an_identity_between_fixed_names_stays(twice: bool) -> None:
    net = Builder()
    x = net.input("x", [2])
    y = net.node("Relu", x) if twice else x
    outputs = [y] if twice else []
    model = net.model(*outputs, net.node("Identity", y, result="copy"))
    optimized(model, ["Relu", "Identity"] if twice else ["Identity"])


def test_a_dropout_whose_mask_is_used_stays() -> None:
    net = Builder()
    net.node("Dropout", net.input("x", [2]), result="dropped")
    net.nodes[0].output.append("mask")
    model = net.model("dropped", net.node("Not", "mask"))
    optimized(model, ["Dropout", "Not"])


def test_what_no_output_needs_goes() -> None:
    net = Builder()
    x = net.input("x", [2])
    net.node("Add", net.node("Neg", x), net.random(2))
    result = optimized(net.model(net.node("Relu", x)), ["Relu"])
    assert not result.graph.initializer


def test_a_value_captured_by_a_subgraph_is_followed() -> None:
    net = Builder()
    x = net.input("x", [2])
    inner = net.node("Identity", net.node("Relu", x))
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node(operator, [inner], [f"{operator}_out"])],
            operator,
            [],
            [onnx.helper.make_tensor_value_info(f"{operator}_out", 1, [2])],
        )
        for operator in ("Neg", "Sigmoid")
    ]
    condition = net.node("Greater", net.node("ReduceSum", x, keepdims=0), net.constant(0))
    y = net.node("If", condition, then_branch=branches[0], else_branch=branches[1])
    optimized(net.model(y), ["Relu", "ReduceSum", "Greater", "If"])


# folding into layers


@pytest.mark.parametrize("bias", [True, False])
def test_batch_normalization_folds_into_conv(bias: bool) -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4, bias=bias, name="layer")
    x = net.batch_norm(x, 4)
    result = optimized(net.model(x), ["Conv"])
    assert (result.graph.node[0].name, list(result.graph.node[0].output)) == ("layer", [x])


@pytest.mark.parametrize("group", [1, 2])
def test_batch_normalization_folds_into_transposed_conv(group: int) -> None:
    net = Builder()
    weights = net.random(4, 6 // group, 3, 3)
    x = net.node("ConvTranspose", net.input("x", [1, 4, 5, 5]), weights, group=group)
    optimized(net.model(net.batch_norm(x, 6)), ["ConvTranspose"])


def test_batch_normalization_folds_into_gemm() -> None:
    net = Builder()
    x = net.node("Gemm", net.input("x", [2, 3]), net.random(3, 5), net.random(5))
    optimized(net.model(net.batch_norm(x, 5)), ["Gemm"])


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1), (1,), ()])
def test_scaling_and_shifting_channels_folds(shape: tuple[int, ...]) -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4)
    x = net.node("Add", net.random(*shape), net.node("Mul", x, net.random(*shape)))
    optimized(net.model(x), ["Conv"])


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4, 4), (2, 1, 1, 1), (1, 1, 4, 1)])
def test_what_is_not_per_channel_stays(shape: tuple[int, ...]) -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 4)
    optimized(net.model(net.node("Mul", x, net.random(*shape))), ["Conv", "Mul"])


def test_a_layer_somebody_else_reads_is_left_alone() -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 4)
    optimized(net.model(net.node("Mul", x, net.random(4, 1, 1)), x), ["Conv", "Mul"])


def test_batch_normalization_that_no_layer_takes_in_becomes_a_depthwise_conv() -> None:
    net = Builder()
    x = net.batch_norm(net.node("Relu", net.input("x", [2, 4, 3, 3])), 4)
    x = net.node("Add", net.node("Mul", x, net.random(4, 1, 1)), net.random(4, 1, 1))
    (conv,) = optimized(net.model(x), ["Relu", "Conv"]).graph.node[1:]
    assert {a.name: onnx.helper.get_attribute_value(a) for a in conv.attribute} == {
        "group": 4,
        "kernel_shape": [1, 1],
    }


def test_batch_normalization_of_a_layer_with_other_readers_becomes_one_of_its_own() -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 4, 4]), 3, 4)
    optimized(net.model(net.batch_norm(x, 4), x), ["Conv", "Conv"])


def test_batch_normalization_of_a_matrix_stays() -> None:
    net = Builder()
    optimized(net.model(net.batch_norm(net.input("x", [2, 4]), 4)), ["BatchNormalization"])


@pytest.mark.parametrize(("count", "expected"), [(1, []), (2, ["Add"]), (4, ["Add"] * 3)])
def test_a_sum_becomes_additions(count: int, expected: list[str]) -> None:
    net = Builder()
    operands = [net.input(f"x{i}", [1, 3] if i else [2, 3]) for i in range(count)]
    total = net.node("Sum", *operands, name="total")
    optimized(net.model(net.node("Sigmoid", total)), [*expected, "Sigmoid"])


def test_two_layers_with_one_weight_fold_apart() -> None:
    net = Builder()
    x, weights = net.input("x", [1, 3, 4, 4]), net.random(4, 3, 1, 1)
    left = net.batch_norm(net.node("Conv", x, weights), 4)
    right = net.node("Conv", x, weights)
    optimized(net.model(left, right), ["Conv", "Conv"])


# fully connected layers


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [(), (1,), (5,), (1, 5), (1, 1), None])
def test_gemm_takes_one_form(turned: int, bias: tuple[int, ...] | None) -> None:
    net = Builder()
    operands = [net.input("x", [2, 3]), net.random(*((5, 3) if turned else (3, 5)))]
    if bias is not None:
        operands.append(net.random(*bias))
    model = net.model(net.node("Gemm", *operands, transB=turned, alpha=0.5, beta=2.0))
    node = optimized(model, ["Gemm"]).graph.node[0]
    assert [(a.name, a.i) for a in node.attribute] == [("transB", 1)]
    values = constants(optimize_model(model))
    assert values[node.input[1]].shape == (5, 3)
    assert [values[name].shape for name in node.input[2:]] == ([] if bias is None else [(5,)])


@pytest.mark.parametrize("rows", [2, 5])
def test_a_gemm_with_a_bias_of_its_own_for_each_row_stays(rows: int) -> None:
    net = Builder()
    operands = net.input("x", [rows, 3]), net.random(3, 5), net.random(rows, 1)
    node = optimized(net.model(net.node("Gemm", *operands)), ["Gemm"]).graph.node[0]
    assert not node.attribute


def test_a_matrix_product_and_its_bias_become_a_gemm() -> None:
    net = Builder()
    x = net.node("MatMul", net.input("x", [2, 3]), net.random(3, 5))
    optimized(net.model(net.node("Add", x, net.random(1, 5))), ["Gemm"])


def test_a_product_of_higher_rank_stays() -> None:
    net = Builder()
    model = net.model(net.node("MatMul", net.input("x", [2, 2, 3]), net.random(3, 5)))
    optimized(model, ["MatMul"])


def test_a_look_up_before_a_product_becomes_a_look_up_in_the_product() -> None:
    net = Builder()
    rows = net.node("Cast", net.node("Abs", net.input("x", [3])), to=onnx.TensorProto.INT64)
    x = net.node("MatMul", net.node("Gather", net.random(9, 4), rows), net.random(4, 2))
    result = optimized(net.model(x), ["Abs", "Cast", "Gather"])
    assert [array.shape for array in constants(result).values()] == [(9, 2)]


# the rest


def test_prelu_becomes_relu_and_arithmetic() -> None:
    net = Builder()
    model = net.model(net.node("PRelu", net.input("x", [1, 4, 3, 3]), net.random(4, 1, 1)))
    optimized(model, ["Relu", "Mul", "Mul", "Add"])


@pytest.mark.parametrize(
    ("pads", "expected"),
    [
        ([0, 0, 0, 0], ["Relu"]),
        ([0, -1, 0, -2], ["Slice", "Relu"]),
        ([0, 1, 0, -2], ["Slice", "Pad", "Relu"]),
        ([-1, 2, 0, 1], ["Slice", "Pad", "Relu"]),
        ([0, 2, 1, 0], ["Pad", "Relu"]),
    ],
)
def test_pads_only_grow(pads: list[int], expected: list[str]) -> None:
    net = Builder()
    x = net.node("Pad", net.input("x", [3, 7]), net.constant(pads, np.int64), net.constant(0.5))
    optimized(net.model(net.node("Relu", x)), expected)


def test_a_pad_of_zeros_between_input_and_output_becomes_an_identity() -> None:
    net = Builder()
    x = net.node("Pad", net.input("x", [3]), net.constant([0, 0], np.int64))
    optimized(net.model(x), ["Identity"])


def test_squeeze_of_opset_12_learns_its_axes() -> None:
    net = Builder()
    model = net.model(net.node("Squeeze", net.input("x", [1, 3, 1])), opset=12)
    node = optimized(model, ["Squeeze"], opset=12).graph.node[0]
    assert list(node.attribute[0].ints) == [0, 2]
