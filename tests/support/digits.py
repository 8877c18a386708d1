"""The shipped model and images, quantised and compiled once a test run."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from furiosa.compiler import CompilerOptions, compile
from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FLOAT_MODEL = EXAMPLES / "data" / "digits_cnn.onnx"

Images = npt.NDArray[np.float32]  # [N, 1, 1, 28, 28], 0..1


def _images(key: str) -> Images:
    with np.load(EXAMPLES / "data" / "digits.npz") as data:
        pixels: npt.NDArray[np.uint8] = data[key]
    return (pixels.astype(np.float32) / np.float32(255)).reshape(-1, 1, 1, 28, 28)


@cache
def held_out_images() -> Images:
    return _images("test_images")


@cache
def held_out_labels() -> npt.NDArray[np.int64]:
    with np.load(EXAMPLES / "data" / "digits.npz") as data:
        labels: npt.NDArray[np.int64] = data["test_labels"]
    return labels


@cache
def calibration_images() -> Images:
    return _images("calibration_images")


@cache
def int8_model() -> bytes:
    model = optimize_model(onnx.load(FLOAT_MODEL))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([image] for image in calibration_images())
    return quantize(model, calibrator.compute_range())


@cache
def program(target: str = "warboy") -> bytes:
    """An ENF."""
    return compile(int8_model(), CompilerOptions(target=target))
