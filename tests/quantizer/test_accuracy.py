"""Real digits: what quantisation costs in accuracy, method by method."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import ModelProto

from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize

DATA = Path(__file__).parents[2] / "examples" / "data"
IMAGES = 500

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def digits() -> dict[str, npt.NDArray[np.uint8]]:
    return dict(np.load(DATA / "digits.npz"))


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return optimize_model(DATA / "digits_cnn.onnx")


@pytest.fixture(scope="module")
def float_accuracy(model: ModelProto, digits: dict[str, npt.NDArray[np.uint8]]) -> float:
    return accuracy(model.SerializeToString(), digits)


def as_input(pixels: npt.NDArray[np.uint8]) -> Floats:
    """[N, 28, 28] to [N, 1, 1, 28, 28] of 0..1."""
    return pixels.reshape(-1, 1, 1, 28, 28).astype(np.float32) / np.float32(255)


def accuracy(model: bytes, digits: dict[str, npt.NDArray[np.uint8]]) -> float:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = as_input(digits["test_images"][:IMAGES])
    answers = [int(session.run(None, {"image": image})[0].argmax()) for image in images]
    return float(np.mean(answers == digits["test_labels"][:IMAGES]))


@pytest.mark.parametrize("method", CalibrationMethod)
def test_quantization_costs_little(
    method: CalibrationMethod,
    model: ModelProto,
    digits: dict[str, npt.NDArray[np.uint8]],
    float_accuracy: float,
) -> None:
    calibrator = Calibrator(model, method)
    calibrator.collect_data([image] for image in as_input(digits["calibration_images"]))
    quantized = quantize(model, calibrator.compute_range())
    allowed = 0.005 if method is CalibrationMethod.MIN_MAX_ASYM else 0.01
    assert float_accuracy > 0.98
    assert accuracy(quantized, digits) >= float_accuracy - allowed
