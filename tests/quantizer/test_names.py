"""What the quantiser says of a model's tensors and of itself."""

import onnx

import furiosa.quantizer
from furiosa.quantizer import get_output_names, get_pure_input_names
from support.onnx_models import conv_net


def test_pure_inputs_are_those_without_a_value() -> None:
    model = conv_net("Relu")
    model.graph.input.append(onnx.ValueInfoProto(name="c0"))
    assert get_pure_input_names(model) == ["x"]
    assert get_output_names(model) == ["y"]


def test_the_full_version_holds_the_version() -> None:
    expected = f"Furiosa SDK Quantizer {furiosa.quantizer.__version__} ("
    assert furiosa.quantizer.__full_version__.startswith(expected)
