"""What the quantiser says of a model's tensors and of itself."""

import inspect
import re
from collections.abc import Callable

import onnx
import pytest

import furiosa.optimizer
import furiosa.quantizer
from furiosa.quantizer import (
    Calibrator,
    ModelEditor,
    get_output_names,
    get_pure_input_names,
    quantize,
)
from support.onnx_models import conv_net


def test_pure_inputs_are_those_without_a_value() -> None:
    model = conv_net("Relu")
    model.graph.input.append(onnx.ValueInfoProto(name="c0"))
    assert get_pure_input_names(model) == ["x"]
    assert get_output_names(model) == ["y"]


def test_the_full_version_holds_version_commit_and_time() -> None:
    version = re.escape(furiosa.quantizer.__version__)
    assert re.fullmatch(
        rf"Furiosa SDK Quantizer {version} \(furiosa_quantizer_impl {version} [0-9a-f]{{9}} "
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)",
        furiosa.quantizer.__full_version__,
    )


def test_exports_are_those_of_the_reference() -> None:
    assert set(furiosa.quantizer.__all__) == {
        "CalibrationMethod",
        "Calibrator",
        "ModelEditor",
        "TensorType",
        "__full_version__",
        "__version__",
        "get_output_names",
        "get_pure_input_names",
        "quantize",
    }
    assert all(hasattr(furiosa.quantizer, name) for name in furiosa.quantizer.__all__)


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (furiosa.optimizer.optimize_model, "model, input_shapes=None, opset_version=13"),
        (Calibrator.__init__, "self, model, calibration_method, *, percentage=99.99"),
        (Calibrator.collect_data, "self, dataset"),
        (Calibrator.compute_range, "self, verbose=False"),
        (quantize, "model, tensor_name_to_range"),
        (ModelEditor.convert_input_type, "self, tensor_name, tensor_type"),
        (ModelEditor.convert_output_type, "self, tensor_name, tensor_type, tensor_range=None"),
    ],
)
def test_signatures_are_those_of_the_reference(
    function: Callable[..., object], signature: str
) -> None:
    parameters = inspect.signature(function).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    assert str(inspect.Signature(bare)) == f"({signature})"
