"""How each dfg operator is done with the operations of the NPU: one function each, and one table.

Multipliers are computed in float32, step by step as written, because results are defined to the bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import Quantization
from furiosa.compiler.dfg.coverage import ints, is_depthwise, max_pool_pads
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.ldfg.ir import PIXEL, NpuNode
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode, Window

Floats = npt.NDArray[np.float32]


class Emit:
    """Collects the operations of one section; new values go into `graph`."""

    def __init__(self, graph: Dfg) -> None:
        self.graph = graph
        self.nodes: list[NpuNode] = []

    def value(self, name: str) -> Value:
        return self.graph.values[name]

    def add(
        self,
        node: Node,
        opcode: Opcode,
        inputs: tuple[str, ...],
        output: str,
        **fields: Any,
    ) -> None:
        name = node.name if output in node.outputs else f"{node.name}/{opcode.name.lower()}"
        self.nodes.append(NpuNode(name, opcode, inputs, output, node.sources, **fields))

    def reshaped(self, node: Node, name: str, shape: tuple[int, ...]) -> str:
        """The value `name` in another shape: itself when it has that shape already."""
        value = self.value(name)
        if value.shape == shape:
            return name
        other = self.graph.add(replace(value, name=self.graph.fresh(f"{name}/as"), shape=shape))
        self.add(node, Opcode.RESHAPE, (name,), other)
        return other

    def in_shape(self, node: Node, shape: tuple[int, ...]) -> str:
        """A value to compute the node's result in; `deliver` turns it into the result."""
        result = self.value(node.outputs[0])
        if result.shape == shape:
            return result.name
        name = self.graph.fresh(f"{result.name}/from")
        return self.graph.add(replace(result, name=name, shape=shape))

    def deliver(self, node: Node, name: str) -> None:
        if name != node.outputs[0]:
            self.add(node, Opcode.RESHAPE, (name,), node.outputs[0])


def _whole(value: Value) -> Quantization:
    found = value.whole
    assert found is not None, f"{value.name} is not quantised as a whole"  # a rule of dfg
    return found


def _clamp(node: Node) -> dict[str, int]:
    low, high = node.attributes["low"], node.attributes["high"]
    assert isinstance(low, int)
    assert isinstance(high, int)
    return {"low": low, "high": high}


def _range(value: Value) -> dict[str, int]:
    limits = np.iinfo(value.dtype.value)
    return {"low": int(limits.min), "high": int(limits.max)}


def _points(source: Value, result: Value) -> dict[str, int]:
    return {"zero0": _whole(source).zero_point, "zero_out": _whole(result).zero_point}


def _product(emit: Emit, node: Node) -> dict[str, Any]:
    """Constants of QConv and QGemm: multiplier = (input scale * weight scale) / output scale."""
    source, weights = emit.value(node.inputs[0]), emit.value(node.inputs[1])
    result = emit.value(node.outputs[0])
    assert weights.data is not None  # both by rules of dfg
    assert weights.quantization is not None
    channels = weights.shape[0]
    scales = np.array(weights.quantization.scales, np.float32)
    multiplier = (np.float32(_whole(source).scale) * scales) / np.float32(_whole(result).scale)
    bias = emit.graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    return {
        "weights": weights.data,
        "bias": np.zeros(channels, np.int32) if bias is None else bias,
        "multiplier": np.broadcast_to(multiplier, (channels,)).copy(),
        **_points(source, result),
        **_clamp(node),
    }


def conv(emit: Emit, node: Node) -> None:
    opcode = Opcode.DEPTHWISE_CONV2D if is_depthwise(node, emit.graph) else Opcode.CONV2D
    window = _window(node, emit.value(node.inputs[1]).shape[2:])
    fields = _product(emit, node)
    emit.add(node, opcode, node.inputs[:1], node.outputs[0], window=window, **fields)


def gemm(emit: Emit, node: Node) -> None:
    """Rows become images of one pixel: [.., K] -> [M, K, 1, 1] -> conv 1x1 -> [M, O, 1, 1] -> [.., O]."""
    fields = _product(emit, node)
    fields["weights"] = fields["weights"][:, :, None, None]
    shape = emit.value(node.inputs[0]).shape
    rows = math.prod(shape[:-1])
    source = emit.reshaped(node, node.inputs[0], (rows, shape[-1], 1, 1))
    result = emit.in_shape(node, (rows, fields["weights"].shape[0], 1, 1))
    emit.add(node, Opcode.CONV2D, (source,), result, **fields)
    emit.deliver(node, result)


def add(emit: Emit, node: Node) -> None:
    left, right, result = (emit.value(name) for name in (*node.inputs, node.outputs[0]))
    scales = np.array([_whole(left).scale, _whole(right).scale], np.float32)
    emit.add(
        node,
        Opcode.ADD,
        node.inputs,
        result.name,
        multiplier=scales / np.float32(_whole(result).scale),
        zero1=_whole(right).zero_point,
        **_points(left, result),
        **_clamp(node),
    )


def _ones(emit: Emit, node: Node, source: str, result: str, window: Window, taps: int) -> None:
    """Sum each window of each channel and rescale: multiplier = input scale / (taps * output scale)."""
    before, after = emit.value(source), emit.value(result)
    channels = before.shape[1]
    scale = np.float32(_whole(before).scale) / (np.float32(taps) * np.float32(_whole(after).scale))
    emit.add(
        node,
        Opcode.DEPTHWISE_CONV2D,
        (source,),
        result,
        weights=np.ones((channels, 1, *window.kernel), np.int8),
        bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, scale, np.float32),
        window=replace(window, group=channels),
        **_points(before, after),
        **_clamp(node),
    )


def average_pool(emit: Emit, node: Node) -> None:
    kernel = ints(node, "kernel_shape")
    window = _window(node, kernel)
    _ones(emit, node, node.inputs[0], node.outputs[0], window, math.prod(kernel))


def requantize(emit: Emit, node: Node) -> None:
    shape = emit.value(node.inputs[0]).shape
    image = shape if len(shape) == 4 else (1, 1, 1, math.prod(shape))
    source = emit.reshaped(node, node.inputs[0], image)
    result = emit.in_shape(node, image)
    _ones(emit, node, source, result, PIXEL, 1)
    emit.deliver(node, result)


def max_pool(emit: Emit, node: Node) -> None:
    source, result = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    pads = max_pool_pads(node, source.shape, result.shape)
    window = replace(_window(node, ints(node, "kernel_shape")), pads=pads)
    emit.add(node, Opcode.MAX_POOL2D, (source.name,), result.name, window=window, **_range(result))


def reshape(emit: Emit, node: Node) -> None:
    emit.add(node, Opcode.RESHAPE, node.inputs[:1], node.outputs[0])


def quantize(emit: Emit, node: Node) -> None:
    stored = emit.value(node.outputs[0])
    params = _whole(stored)
    emit.add(
        node,
        Opcode.QUANTIZE,
        node.inputs,
        stored.name,
        multiplier=np.array([params.scale], np.float32),
        zero_out=params.zero_point,
        **_range(stored),
    )


def dequantize(emit: Emit, node: Node) -> None:
    params = _whole(emit.value(node.inputs[0]))
    emit.add(
        node,
        Opcode.DEQUANTIZE,
        node.inputs,
        node.outputs[0],
        multiplier=np.array([params.scale], np.float32),
        zero0=params.zero_point,
    )


def _window(node: Node, kernel: tuple[int, ...]) -> Window:
    height, width = kernel
    down, right = ints(node, "strides")
    top, left, bottom, end = ints(node, "pads")
    apart_down, apart_right = ints(node, "dilations")
    group = node.attributes.get("group", 1)
    assert isinstance(group, int)
    return Window(
        (height, width),
        (down, right),
        (top, left, bottom, end),
        (apart_down, apart_right),
        group,
    )


OPERATIONS: Final[Mapping[str, Callable[[Emit, Node], None]]] = {
    "Dequantize": dequantize,
    "MaxPool": max_pool,
    "QAdd": add,
    "QAveragePool": average_pool,
    "QConv": conv,
    "QGemm": gemm,
    "Quantize": quantize,
    "Requantize": requantize,
    "Reshape": reshape,
}
