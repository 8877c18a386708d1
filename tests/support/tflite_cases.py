"""Models of one TensorFlow Lite operator, compiled and compared with LiteRT."""

from typing import Any

import numpy as np

from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import Program, read
from furiosa.vnpu.interpreter import Interpreter
from support import tflite_models as lite
from support.tflite_models import SAME, Array, Net, Quant

TARGETS = ("warboy", "warboy-2pe")
POINTS = {"int8": -3, "uint8": 120}


def worst(model: bytes, **options: Any) -> tuple[float, Program]:
    """Largest difference from LiteRT over some inputs, and the program."""
    compiled = read(compile(model, CompilerOptions(**options)))
    interpreter, rng = Interpreter(compiled), np.random.default_rng(1)
    differences = []
    for _ in range(4):
        inputs = [random_input(rng, spec.shape, spec.dtype.value) for spec in compiled.input_specs]
        for ours, theirs in zip(interpreter.run(inputs), lite.run(model, *inputs), strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            differences.append(float(np.abs(ours.astype(np.float64) - theirs).max()))
    return max(differences), compiled


def random_input(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    if dtype == "float32":
        return rng.normal(0, 2, shape).astype(np.float32)
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


class Case:
    """Activations of one element type; scales such that results use most of their range."""

    def __init__(self, dtype: str) -> None:
        self.net, self.dtype = Net(), dtype

    def activation(self, *shape: int, scale: float = 0.05, point: int | None = None) -> int:
        if self.dtype == "float32":
            return self.net.tensor(shape)
        point = POINTS[self.dtype] if point is None else point
        return self.net.tensor(shape, self.dtype, Quant((scale,), (point,)))

    def weights(self, *shape: int, axis: int, point: int = 140) -> tuple[int, int]:
        """Weights and a bias: int8 by channel, uint8 as a whole and beyond int8, or float."""
        rng, channels = self.net.rng, shape[axis]
        real = rng.normal(0, 5, channels)
        if self.dtype == "float32":
            data = rng.normal(0, 0.2, shape).astype(np.float32)
            return self.net.constant(data), self.net.constant(real.astype(np.float32))
        if self.dtype == "int8":
            scales = rng.uniform(0.001, 0.004, channels).astype(np.float32)
            data, quant = (
                rng.integers(-127, 128, shape, np.int8),
                Quant(scales, [0] * channels, axis),
            )
        else:
            scales = np.array([0.003], np.float32)
            data, quant = rng.integers(0, 256, shape, np.uint8), Quant(scales, (point,))
        units = np.float32(0.05) * scales
        bias = Quant(units, [0] * len(units))
        stored = np.rint(real / units).astype(np.int32)
        return self.net.constant(data, quant), self.net.constant(stored, bias)

    @property
    def limit(self) -> float:
        return 1e-4 if self.dtype == "float32" else 1


def window(padding: int = SAME, stride: int = 1, dilation: int = 1, activation: int = 0) -> Any:
    return {
        "Padding": padding,
        "StrideH": stride,
        "StrideW": stride,
        "DilationHFactor": dilation,
        "DilationWFactor": dilation,
        "FusedActivationFunction": activation,
    }


def check(case: Case, model: bytes, sections: Any = None) -> Program:
    """Both targets answer like LiteRT; its sections are these, if given."""
    for target in TARGETS:
        difference, compiled = worst(model, target=target)
        assert difference <= case.limit
        if sections is not None:
            assert [type(section) for section in compiled.sections] == sections
    return compiled
