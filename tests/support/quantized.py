"""A quantised model to ask questions of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from support.onnx_models import random_inputs, run

Array = npt.NDArray[Any]
Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Quantized:
    model: ModelProto

    @classmethod
    def of(
        cls,
        model: ModelProto,
        samples: int = 8,
        method: CalibrationMethod = CalibrationMethod.MIN_MAX_ASYM,
    ) -> "Quantized":
        """Calibrated with so many samples of standard normal values."""
        calibrator = Calibrator(model, method)
        calibrator.collect_data(random_inputs(model, seed) for seed in range(samples))
        return cls(onnx.load_from_string(quantize(model, calibrator.compute_range())))

    def node(self, operator: str) -> NodeProto:
        (found,) = [node for node in self.model.graph.node if node.op_type == operator]
        return found

    def producer(self, name: str) -> NodeProto:
        (found,) = [node for node in self.model.graph.node if name in node.output]
        return found

    def readers(self, name: str) -> list[str]:
        return [node.op_type for node in self.model.graph.node if name in node.input]

    def constant(self, name: str) -> Array:
        (found,) = [t for t in self.model.graph.initializer if t.name == name]
        return numpy_helper.to_array(found)

    def stored(self, name: str) -> tuple[float, int]:
        """Scale and zero point of a tensor that goes through int8 right before its readers."""
        dequantize = self.producer(name)
        assert dequantize.op_type == DQ
        quantize = self.producer(dequantize.input[0])
        assert quantize.op_type == Q
        assert quantize.input[1:] == dequantize.input[1:]
        scale, zero_point = map(self.constant, dequantize.input[1:])
        assert (scale.dtype.name, zero_point.dtype.name) == ("float32", "int8")
        return float(scale), int(zero_point)

    def real(self, name: str) -> tuple[Array, Array, Array]:
        """Integers, scales and real values of a constant read through a DequantizeLinear.

        Scales per channel come in the shape that broadcasts against the integers.
        """
        node = self.producer(name)
        assert node.op_type == DQ
        integers, scale, zero_point = map(self.constant, node.input)
        if scale.ndim:
            ((attribute, axis),) = [(a.name, a.i) for a in node.attribute]
            assert attribute == "axis"
            scale = np.moveaxis(scale.reshape(-1, *[1] * (integers.ndim - 1)), 0, axis)
            zero_point = zero_point.reshape(scale.shape)
        return integers, scale, (integers.astype(int) - zero_point) * scale

    def difference(self, before: ModelProto) -> float:
        """Greatest deviation of the outputs in shares of the float model's greatest value."""
        worst = 0.0
        for seed in range(4):
            inputs = random_inputs(before, seed)
            for old, new in zip(run(before, *inputs), run(self.model, *inputs), strict=True):
                worst = max(worst, float(np.abs(new - old).max() / np.abs(old).max()))
        return worst
