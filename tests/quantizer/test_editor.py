"""Integer inputs and outputs."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from furiosa.optimizer import optimize_model
from furiosa.quantizer import ModelEditor, TensorType, quantize
from support.onnx_models import Builder, operators, run

RANGES = {"x": (0, 1), "y": (-2, 2)}
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 3, 6, 6), np.uint8)
Q, DQ = "QuantizeLinear", "DequantizeLinear"


@pytest.fixture
def model() -> ModelProto:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4)
    net.nodes[-1].output[0] = "y"
    return optimize_model(net.model("y" if x else x))


def test_numbers_are_those_of_the_reference() -> None:
    assert [(t.name, int(t)) for t in TensorType] == [("UINT8", 1), ("INT8", 2)]


def test_an_integer_input_takes_what_quantize_would_have_made(model: ModelProto) -> None:
    before = quantize(model, RANGES)
    ModelEditor(model).convert_input_type("x", TensorType.UINT8)
    edited = onnx.load_from_string(quantize(model, RANGES))
    assert operators(edited) == [DQ, DQ, DQ, "Conv", Q, DQ]
    assert edited.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    np.testing.assert_array_equal(
        run(edited, PIXELS)[0], run(before, PIXELS.astype(np.float32) / 255)[0]
    )


@pytest.mark.parametrize(("kind", "zero_point"), [(TensorType.INT8, 0), (TensorType.UINT8, 128)])
def test_an_integer_output_gives_what_dequantize_would_have_taken(
    model: ModelProto, kind: TensorType, zero_point: int
) -> None:
    pixels = PIXELS.astype(np.float32) / 255
    (expected,) = run(quantize(model, RANGES), pixels)
    ModelEditor(model).convert_output_type("y", kind)
    edited = onnx.load_from_string(quantize(model, RANGES))
    assert operators(edited) == [Q, DQ, DQ, DQ, "Conv", Q]
    (found,) = run(edited, pixels)
    assert found.dtype == kind.name.lower()
    np.testing.assert_allclose((found.astype(float) - zero_point) * 2 / 127, expected, atol=1e-6)


def test_a_range_rescales_an_output(model: ModelProto) -> None:
    pixels = PIXELS.astype(np.float32) / 255
    (expected,) = run(model, pixels)
    ModelEditor(model).convert_output_type("y", TensorType.UINT8, (0, 0.51))
    (found,) = run(quantize(model, RANGES), pixels)
    assert (np.abs(found * 0.002 - np.clip(expected, 0, 0.51)) < 0.02).all()


def test_a_rescaled_output_leaves_the_tensor_it_was_moved_from_alone() -> None:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4)
    y = net.node("Flatten", x, result="y")
    model = net.model(x, y)
    ranges = {"x": (0, 1), x: (-2, 2)}
    pixels = PIXELS.astype(np.float32) / 255
    expected = run(quantize(model, ranges), pixels)
    ModelEditor(model).convert_output_type("y", TensorType.INT8, (-1.27, 1.27))
    found = run(quantize(model, ranges), pixels)
    np.testing.assert_array_equal(found[0], expected[0])
    assert (np.abs(found[1] * 0.01 - np.clip(expected[1], -1.27, 1.27)) < 0.006).all()


def test_an_output_that_is_read_on_keeps_its_readers() -> None:
    net = Builder()
    y = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4)
    z = net.conv(y, 4, 2)
    model = net.model(y, z)
    ranges = {"x": (0, 1), y: (-2, 2), z: (-3, 3)}
    expected = run(quantize(model, ranges), PIXELS / np.float32(255))
    ModelEditor(model).convert_output_type(y, TensorType.INT8)
    found = run(quantize(model, ranges), PIXELS / np.float32(255))
    np.testing.assert_allclose(found[0] * np.float32(2 / 127), expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


def test_the_last_wish_counts_and_leaves_no_trace(model: ModelProto) -> None:
    editor = ModelEditor(model)
    editor.convert_output_type("y", TensorType.UINT8, (0, 1))
    editor.convert_output_type("y", TensorType.INT8)
    model.metadata_props.add(key="author", value="somebody")
    edited = onnx.load_from_string(quantize(model.SerializeToString(), RANGES))
    assert edited.graph.output[0].type.tensor_type.elem_type == TensorProto.INT8
    assert [entry.key for entry in edited.metadata_props] == ["author"]


def test_what_the_editor_refuses(model: ModelProto) -> None:
    editor = ModelEditor(model)
    with pytest.raises(ValueError, match=r"^Could find a pure input tensor named 'c0'\.$"):
        editor.convert_input_type("c0", TensorType.UINT8)
    with pytest.raises(
        ValueError, match=r"^ModelEditor\.convert_input_type does not support INT8 yet\.$"
    ):
        editor.convert_input_type("x", TensorType.INT8)
    with pytest.raises(ValueError, match=r"^Could not find an output tensor named 'x'\.$"):
        editor.convert_output_type("x", TensorType.INT8)
    with pytest.raises(ValueError, match="the range of tensor 'y' is no range"):
        editor.convert_output_type("y", TensorType.INT8, (1, 0))
    assert not model.metadata_props


def test_a_float_output_cannot_become_integer() -> None:
    net = Builder()
    y = net.node("Abs", net.conv(net.input("x", [1, 3, 6, 6]), 3, 4), result="y")
    model = net.model(y)
    ModelEditor(model).convert_output_type("y", TensorType.INT8)
    with pytest.raises(ValueError, match="tensor 'y' cannot become integer: it is not quantised"):
        quantize(model, {"x": (0, 1), "v0": (0, 1)})
