"""A trial of a model: loaded, optimised and quantised with random data, as strictly as can be.

Source: command-line reference 4, 4.3.
"""

import os

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from furiosa.common.model_files import read_model
from furiosa.optimizer import optimize_model
from furiosa.quantizer.calibrate import Calibrator
from furiosa.quantizer.quantize import quantize
from furiosa.quantizer.ranges import CalibrationMethod
from furiosa.quantizer.samples import check_shapes, samples


class NotOnnx(ValueError):
    """A file that is something else."""


def load(path: str | os.PathLike[str]) -> ModelProto:
    """Raises: NotOnnx; OSError; UnreadableModel."""
    data = read_model(path)
    try:
        model = ModelProto.FromString(data)
    except DecodeError as exc:
        raise NotOnnx(f"{os.fspath(path)}: {exc}") from None
    if not model.graph.node:  # other files may happen to be some protobuf message
        raise NotOnnx(f"{os.fspath(path)}: it has no operators")
    return model


def optimized(path: str | os.PathLike[str]) -> ModelProto:
    """A valid model, ready to be quantised; a dynamic batch becomes 1.

    Raises: as `load`; onnx.checker.ValidationError; ValueError for a shape; what `optimize_model` raises.
    """
    model = load(path)
    onnx.checker.check_model(model)
    check_shapes(model)
    return optimize_model(model)


def quantized(model: ModelProto) -> bytes:
    """With ranges that mean nothing. Raises: what `samples`, Calibrator and `quantize` raise."""
    data = [*samples(model)]
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    for sample in data:
        calibrator.collect_data([sample])
    return quantize(model, calibrator.compute_range())
