"""QDQ models with convolutions and matrix products in QLinear form, which sums integers as the NPU does.

Activations are carried as uint8 in between, int8 ones 128 higher, because onnxruntime's QLinear operators
take and give one type. Weights are too: on some CPUs products of uint8 and int8 saturate in pairs.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
_PRODUCTS = {"Conv": "QLinearConv", "MatMul": "QLinearMatMul"}
_PARAMETERS = ("kernel_shape", "strides", "pads", "dilations", "group", "auto_pad")


def use_qlinear(model: onnx.ModelProto) -> set[str]:
    """Replace, in place, Dequantize -> Conv or MatMul -> [Relu, Clip] -> Quantize that no other node reads.

    Returns the names of the results.
    """
    graph = _Graph(model)
    nodes, replaced = [], set()
    for node in model.graph.node:
        made = graph.rewritten(node) if node.op_type == "QuantizeLinear" else None
        if made:
            replaced.add(node.output[0])
        nodes += made or [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return replaced


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.producers = {name: n for n in model.graph.node for name in n.output}
        self.readers = Counter(name for n in model.graph.node for name in n.input)
        self.readers.update(info.name for info in model.graph.output)

    def rewritten(self, quantize: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """The nodes in the place of a QuantizeLinear; None if it is not behind such a product."""
        scale, zero = (self.constants[name] for name in quantize.input[1:])
        activations = []
        node = self._before(quantize)
        while node is not None and node.op_type in ("Relu", "Clip"):
            activations.append(node)
            node = self._before(node)
        if node is None or node.op_type not in _PRODUCTS:
            return None
        operands = [self.producers.get(name) for name in node.input]
        if any(o is None or o.op_type != "DequantizeLinear" for o in operands[:2]):
            return None
        self.made: list[onnx.NodeProto] = []
        self.title = quantize.output[0]
        inputs = [name for o in operands[:2] if o is not None for name in self._unsigned(o)]
        point = zero.astype(np.int32) + (128 if zero.dtype == np.int8 else 0)
        inputs += [quantize.input[1], self._constant(point.astype(np.uint8))]
        if len(node.input) > 2:
            units = self.constants[inputs[1]] * self.constants[inputs[4]]
            inputs.append(self._bias(node.input[2], units))
        given = {
            a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in _PARAMETERS
        }
        result = self._node(_PRODUCTS[node.op_type], *inputs, **given)
        low, high = -np.inf, np.inf
        for activation in reversed(activations):
            bounds = self._bounds(activation)
            low, high = (min(max(bound, bounds[0]), bounds[1]) for bound in (low, high))
        limits = [
            np.clip(np.rint(np.float32(bound) / scale) + point, 0, 255).astype(np.uint8)
            for bound in (low, high)
        ]
        result = self._node("Clip", result, *map(self._constant, limits))
        self._shifted(result, -128 if zero.dtype == np.int8 else 0, zero.dtype)
        self.made[-1].output[0] = quantize.output[0]
        return self.made

    def _before(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        name = node.input[0]
        return self.producers.get(name) if self.readers[name] == 1 else None

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float]:
        if node.op_type == "Relu":
            return 0.0, np.inf
        names = (*node.input[1:], "", "")
        low, high = (
            float(self.constants[name]) if name else bound
            for name, bound in zip(names, (-np.inf, np.inf), strict=False)
        )
        return low, high

    def _unsigned(self, dequantize: onnx.NodeProto) -> tuple[str, str, str]:
        """Value, scale and zero point."""
        name, scale, point = dequantize.input
        zeros = self.constants[point]
        shift = 128 if zeros.dtype == np.int8 else 0
        raised = (zeros.astype(np.int32) + shift).astype(np.uint8)
        held = self.constants.get(name)
        if held is not None:
            value = self._constant((held.astype(np.int32) + shift).astype(np.uint8))
        else:
            value = self._shifted(name, shift, np.dtype(np.uint8))
        return value, scale, self._constant(raised)

    def _shifted(self, name: str, by: int, dtype: Any) -> str:
        wide = self._node("Cast", name, to=TensorProto.INT32)
        wide = self._node("Add", wide, self._constant(np.int32(by)))
        return self._node("Cast", wide, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _bias(self, name: str, units: Array) -> str:
        source = self.producers.get(name)
        if source is not None:
            return source.input[0]
        whole = np.rint(self.constants[name].astype(np.float64) / units.astype(np.float64))
        return self._constant(whole.astype(np.int32))

    def _constant(self, data: Any) -> str:
        name = f"{self.title}/constant{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.title}/{len(self.made)}"
        self.made.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name
