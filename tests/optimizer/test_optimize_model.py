"""What `optimize_model` promises to its caller."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from furiosa.optimizer import optimize_model
from support.onnx_models import (
    Builder,
    operators,
    random_conv_net,
    random_inputs,
    run,
    shape_of,
)


def assert_same_results(before: ModelProto, after: ModelProto) -> None:
    inputs = random_inputs(before)
    for old, new in zip(run(before, *inputs), run(after, *inputs), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5, rtol=1e-5)


def dynamic_net(*shape: int | str | None) -> ModelProto:
    net = Builder()
    return net.model(net.node("Relu", net.conv(net.input("x", shape), 3, 2), result="y"))


@pytest.mark.parametrize("seed", range(16))
def test_random_nets_compute_the_same(seed: int) -> None:
    model = random_conv_net(seed)
    optimized = optimize_model(model)
    assert_same_results(model, optimized)
    onnx.checker.check_model(optimized, full_check=True)
    assert not {"BatchNormalization", "Identity", "Dropout", "PRelu"} & set(operators(optimized))
    assert optimized.graph.output[0].name == "scores"


@pytest.mark.parametrize("seed", range(4))
def test_optimizing_twice_is_optimizing_once(seed: int) -> None:
    once = optimize_model(random_conv_net(seed))
    assert optimize_model(once) == once


def test_the_input_is_not_modified() -> None:
    model = random_conv_net(0)
    before = model.SerializeToString(deterministic=True)
    optimize_model(model)
    assert model.SerializeToString(deterministic=True) == before


def test_model_bytes_and_path_give_the_same(tmp_path: Path) -> None:
    model = random_conv_net(1)
    onnx.save(model, tmp_path / "net.onnx")
    from_model = optimize_model(model)
    assert optimize_model(model.SerializeToString()) == from_model
    assert optimize_model(tmp_path / "net.onnx") == from_model
    assert optimize_model(str(tmp_path / "net.onnx")) == from_model


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x07"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        optimize_model(data)


@pytest.mark.parametrize("opset", [11, 14, 0])
def test_other_target_opsets_are_refused(opset: int) -> None:
    with pytest.raises(ValueError, match=f"^Unsupported opset_version: {opset}$"):
        optimize_model(random_conv_net(0), opset_version=opset)


@pytest.mark.parametrize("target", [12, 13])
@pytest.mark.parametrize("source", [11, 12, 13, 14, 15, 17, 19, 21])
def test_models_of_other_opsets_are_converted(source: int, target: int) -> None:
    net = Builder()
    x = net.batch_norm(net.input("x", [1, 3, 6, 6]), 3)
    x = net.node("Relu", net.batch_norm(net.conv(x, 3, 4), 4))
    x = net.node("Mul", x, net.node("Sub", x, net.random(1, 4, 1, 1)))
    x = net.node("Add", x, net.node("Div", x, net.constant(3)))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Pad", x, net.constant([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    x = net.node("Reshape", x, net.constant([0, -1], np.int64))
    model = net.model(net.node("Softmax", x, axis=1), opset=source)
    optimized = optimize_model(model, opset_version=target)
    assert [entry.version for entry in optimized.opset_import] == [target]
    onnx.checker.check_model(optimized, full_check=True)
    assert_same_results(model, optimized)


def test_an_operator_the_opset_lacks_is_named() -> None:
    net = Builder()
    model = net.model(
        net.node("LayerNormalization", net.input("x", [1, 8]), net.random(8)), opset=17
    )
    with pytest.raises(
        NotImplementedError,
        match="17 to 13: No Previous Version of LayerNormalization exists; export it with opset 13",
    ):
        optimize_model(model)


def test_a_later_meaning_of_an_operator_is_not_lost() -> None:
    net = Builder()
    shape = net.constant([0, 3], np.int64)
    x = net.node("Reshape", net.input("x", [0, 3]), shape, name="shrink", allowzero=1)
    with pytest.raises(NotImplementedError, match=r"'shrink' \(Reshape\) uses a later.*allowzero"):
        optimize_model(net.model(x, opset=14), {"x": [1, 3]})


@pytest.mark.parametrize("batch", ["N", None])
def test_a_dynamic_batch_becomes_one(batch: str | None) -> None:
    optimized = optimize_model(dynamic_net(batch, 3, 5, 5))
    assert shape_of(optimized.graph.input[0]) == [1, 3, 5, 5]
    assert shape_of(optimized.graph.output[0]) == [1, 2, 5, 5]


def test_a_named_dimension_is_settled_also_where_inference_cannot_reach() -> None:
    net = Builder()
    model = net.model(net.node("Relu", net.input("x", ["N", "W"]), result="y"))
    model.graph.node[0].domain = "other"
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["W", "N", 7])
    model.graph.output[0].CopyFrom(value)
    model.opset_import.add(domain="other", version=1)
    optimized = optimize_model(model, {"x": [2, 5]})
    assert shape_of(optimized.graph.output[0]) == [5, 2, 7]


def test_a_static_batch_stays() -> None:
    assert shape_of(optimize_model(dynamic_net(4, 3, 5, 5)).graph.input[0]) == [4, 3, 5, 5]


@pytest.mark.parametrize("shape", [("N", 3, "H", "W"), (1, 3, None, 5), None])
def test_any_other_dynamic_dimension_must_be_given(shape: tuple[int | str | None, ...]) -> None:
    model = dynamic_net("N", 3, "H", "W")
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    if shape is None:
        model.graph.input[0].type.tensor_type.ClearField("shape")
    else:
        model = dynamic_net(*shape)
    with pytest.raises(RuntimeError, match=r'^the static shape of input "x" must be given$'):
        optimize_model(model)
    optimized = optimize_model(model, {"x": [1, 3, 5, 5]})
    assert shape_of(optimized.graph.output[0]) == [1, 2, 5, 5]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": [1, 3, 5, 5]}, "no input 'y'"),
        ({"x": [1, 4, 5, 5]}, r"\[1, 4, 5, 5\] does not fit input 'x', which is \[\?, 3, \?, 5\]"),
        ({"x": [1, 3, 5]}, r"\[1, 3, 5\] does not fit input 'x'"),
        ({"x": [1, 3, -1, 5]}, r"\[1, 3, -1, 5\] does not fit input 'x'"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shapes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimize_model(dynamic_net("N", 3, None, 5), shapes)


def test_every_node_has_a_name_of_its_own() -> None:
    net = Builder()
    x = net.input("x", [1, 3])
    for name in ("same", "", "same", "", "same_0"):
        x = net.node("Sigmoid", x, name=name)
    names = [node.name for node in optimize_model(net.model(x)).graph.node]
    assert names == ["same", "Sigmoid_0", "same_1", "Sigmoid_1", "same_0"]


def test_a_name_given_to_two_initialisers_means_the_last() -> None:
    net = Builder()
    model = net.model(net.node("Add", net.input("x", [2]), net.constant([1, 1])))
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
    model.graph.initializer[1].raw_data = np.array([5, 6], np.float32).tobytes()
    optimized = optimize_model(model)
    assert [tensor.name for tensor in optimized.graph.initializer] == ["c0"]
    (result,) = run(optimized, np.zeros(2, np.float32))
    assert result.tolist() == [5, 6]


def test_inputs_that_are_initialisers_are_no_inputs() -> None:
    net = Builder()
    y = net.conv(net.input("x", [1, 3, 5, 5]), 3, 2)
    model = net.model(y, opset=8, ir_version=3)
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        model.graph.input.append(value)
    optimized = optimize_model(model)
    assert [value.name for value in optimized.graph.input] == ["x"]
    np.testing.assert_allclose(
        run(optimized, *random_inputs(model))[0], run(model, *random_inputs(model))[0], atol=1e-5
    )


def test_inner_values_carry_their_shapes() -> None:
    optimized = optimize_model(random_conv_net(2))
    known = {value.name: shape_of(value) for value in optimized.graph.value_info}
    inner = {name for node in optimized.graph.node for name in node.output} - {"scores"}
    assert inner == set(known)
    assert all(all(size > 0 for size in shape) for shape in known.values())


def test_metadata_survives() -> None:
    model = random_conv_net(0)
    model.metadata_props.add(key="author", value="somebody")
    assert optimize_model(model).metadata_props[0].value == "somebody"


def test_real_models_compute_the_same() -> None:
    folder = os.environ.get("FURIOSA_TEST_MODELS")
    if not folder:
        pytest.skip("FURIOSA_TEST_MODELS names no folder with models")
    paths = sorted(Path(folder).glob("*.onnx"))
    assert paths
    for path in paths:
        model = onnx.load(path)
        assert_same_results(model, optimize_model(model))
