"""The model and the images that the examples share: handwritten digits, quantised to int8."""

import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from quickstart import as_input, cached, quantised

DATA = Path(__file__).resolve().parent / "data"


def int8_model() -> Path:
    """An ONNX model, [1, 1, 28, 28] of 0..1 to ten logits; quantised when first asked for."""
    float_model = DATA / "digits_cnn.onnx"
    calibration = as_input(_array("calibration_images"))
    with redirect_stdout(sys.stderr):  # what it says is no answer of the example
        return cached(
            "digits_int8.onnx",
            [float_model.read_bytes(), calibration.tobytes()],
            lambda out: out.write_bytes(quantised(float_model, calibration)),
        )


def images() -> npt.NDArray[np.float32]:
    """1,000 images that the model has never seen, [1000, 1, 1, 28, 28] of 0..1."""
    return as_input(_array("test_images"))


def labels() -> npt.NDArray[np.int64]:
    """What they show, [1000] of 0..9."""
    return _array("test_labels").astype(np.int64)


def picture(number: int) -> Image.Image:
    """One of them, to look at: 28 x 28, white on black."""
    return Image.fromarray(_array("test_images")[number])


@cache
def _array(name: str) -> npt.NDArray[np.uint8]:
    with np.load(DATA / "digits.npz") as data:
        array: npt.NDArray[np.uint8] = data[name]
    return array
