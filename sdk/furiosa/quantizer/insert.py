"""Put QuantizeLinear and DequantizeLinear into a graph according to a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import NodeProto, TensorProto, helper

from furiosa.optimizer.graph import Array, Graph
from furiosa.quantizer.editor import Edits, TensorType
from furiosa.quantizer.operators import output_axis
from furiosa.quantizer.plan import Plan
from furiosa.quantizer.qparams import (
    activation_parameters,
    checked_range,
    layer_parameters,
    quantize,
)


def insert(graph: Graph, plan: Plan, ranges: Mapping[str, Sequence[float]], edits: Edits) -> None:
    """Bring the graph to QDQ form, in place.

    Every tensor of the plan passes through int8 once: producer -> QuantizeLinear -> DequantizeLinear
    -> readers; names of graph inputs and outputs stay. Weights are int8 initialisers with a scale per
    output channel (one in all for a ConvTranspose with groups), biases int32 with the scale of input
    times weight, each read through a DequantizeLinear. Every DequantizeLinear has a scale and a zero
    point. Inputs and outputs that `edits` makes integer lack the QuantizeLinear or DequantizeLinear
    on the outside.
    Raises: ValueError naming a tensor whose range is missing or is none, a node whose constants are
    not finite, or an input or output that is edited but not quantised.
    """
    stored = _storage(graph, plan, ranges, edits)
    constants = {(id(node), position) for node, position in plan.constants}
    layers = {id(node) for node in plan.layers}
    nodes: list[NodeProto] = []
    for value in graph.inputs:
        if value.name in plan.tensors:
            result = graph.fresh(f"{value.name}_dequantized")
            graph.replace_reads(value.name, result)
            stored[result] = stored[value.name]
            if value.name in edits.inputs:
                value.type.tensor_type.elem_type = TensorProto.UINT8
                nodes.append(_dequantize(stored[result], value.name, result))
            else:
                integers = graph.fresh(f"{value.name}_quantized")
                nodes.append(_quantize(stored[result], value.name, integers))
                nodes.append(_dequantize(stored[result], integers, result))
    for node in graph.nodes:
        for position in range(len(node.input)):
            if (id(node), position) in constants:
                _quantize_constant(graph, nodes, node, position)
        if id(node) in layers:
            _quantize_layer(graph, nodes, node, stored[node.input[0]].scale)
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in plan.tensors:
                source = graph.fresh(f"{name}_float")
                graph.set_output(node, position, source)
                integers, result = graph.fresh(f"{name}_quantized"), name
                if name in edits.outputs:
                    integers, result = name, graph.fresh(f"{name}_dequantized")
                    graph.replace_reads(name, result)
                    stored[result] = stored[name]
                nodes.append(_quantize(stored[name], source, integers))
                nodes.append(_dequantize(stored[name], integers, result))
    for value in graph.outputs:
        if value.name in edits.outputs:
            kind = edits.outputs[value.name].type
            value.type.tensor_type.elem_type = _ELEMENT_TYPES[kind]
    graph.nodes[:] = nodes


_ELEMENT_TYPES: Final = {
    TensorType.INT8: TensorProto.INT8,
    TensorType.UINT8: TensorProto.UINT8,
}


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a tensor is stored; `operands` are the constants with scale and zero point."""

    scale: np.float32
    operands: tuple[str, str]


def _storage(
    graph: Graph, plan: Plan, ranges: Mapping[str, Sequence[float]], edits: Edits
) -> dict[str, _Stored]:
    """How each tensor of the plan is stored; tensors of one group share their constants.

    A group covers the ranges of all its sources.
    """
    for name in (*edits.inputs, *edits.outputs):
        if name not in plan.tensors:
            raise ValueError(f"tensor {name!r} cannot become integer: it is not quantised")
    types = {**edits.inputs, **{name: edit.type for name, edit in edits.outputs.items()}}
    rescaled = {name: edit.range for name, edit in edits.outputs.items() if edit.range is not None}
    stored: dict[tuple[str, TensorType], _Stored] = {}
    found: dict[str, _Stored] = {}
    for name, group in plan.tensors.items():
        key = name if name in rescaled else group
        kind = types.get(name, TensorType.INT8)
        if (key, kind) not in stored:
            own = rescaled.get(name)
            ends = own or _hull([_range(ranges, source) for source in plan.sources[group]])
            stored[key, kind] = _stored(graph, key, ends, kind)
        found[name] = stored[key, kind]
    return found


def _range(ranges: Mapping[str, Sequence[float]], name: str) -> tuple[float, float]:
    if name not in ranges:
        raise ValueError(f"there is no range for tensor {name!r}: was another model calibrated?")
    return checked_range(name, ranges[name])


def _hull(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*ranges, strict=True)
    return min(lows), max(highs)


def _stored(graph: Graph, name: str, ends: tuple[float, float], kind: TensorType) -> _Stored:
    scale, zero_point = activation_parameters(*ends)
    dtype, shift = (np.uint8, 128) if kind is TensorType.UINT8 else (np.int8, 0)
    operands = (
        graph.add_constant(scale, f"{name}_scale"),
        graph.add_constant((zero_point + shift).astype(dtype), f"{name}_zero_point"),
    )
    return _Stored(np.float32(scale), operands)


def _quantize(stored: _Stored, source: str, result: str) -> NodeProto:
    name = f"{result}/quantize"
    return helper.make_node("QuantizeLinear", [source, *stored.operands], [result], name)


def _dequantize(stored: _Stored, source: str, result: str) -> NodeProto:
    name = f"{result}/dequantize"
    return helper.make_node("DequantizeLinear", [source, *stored.operands], [result], name)


def _read_through(
    graph: Graph,
    nodes: list[NodeProto],
    integers: Array,
    scale: Array,
    zero_point: Array,
    hint: str,
    axis: int = 0,
) -> str:
    """The name of the real values of new integers; per channel of `axis` when `scale` is [C]."""
    operands = [
        graph.add_constant(integers, f"{hint}_quantized"),
        graph.add_constant(scale, f"{hint}_scale"),
        graph.add_constant(zero_point.astype(integers.dtype), f"{hint}_zero_point"),
    ]
    result = graph.fresh(f"{hint}_dequantized")
    given: dict[str, Any] = {"axis": axis} if scale.ndim else {}
    nodes.append(
        helper.make_node("DequantizeLinear", operands, [result], f"{hint}/dequantize", **given)
    )
    return result


def _quantize_layer(
    graph: Graph, nodes: list[NodeProto], node: NodeProto, input_scale: np.float32
) -> None:
    weights = graph.array(node.input[1])
    bias = graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    assert weights is not None  # layers of a plan have constant weights
    if not (np.isfinite(weights).all() and (bias is None or np.isfinite(bias).all())):
        raise ValueError(f"a weight or bias of node {node.name!r} is not finite")
    axis = output_axis(node)
    layer = layer_parameters(weights, bias, input_scale, axis)
    zeros = np.zeros(layer.weight_scale.shape)
    name = _read_through(
        graph, nodes, layer.weights, layer.weight_scale, zeros, node.input[1], axis or 0
    )
    graph.set_input(node, 1, name)
    if layer.bias is not None:
        name = _read_through(graph, nodes, layer.bias, layer.bias_scale, zeros, node.input[2])
        graph.set_input(node, 2, name)


def _quantize_constant(
    graph: Graph, nodes: list[NodeProto], node: NodeProto, position: int
) -> None:
    name = node.input[position]
    values = graph.array(name)
    assert values is not None  # a plan's constants are constants
    scale, zero_point = activation_parameters(*checked_range(name, (values.min(), values.max())))
    integers = quantize(values, scale, int(zero_point))
    result = _read_through(graph, nodes, integers, scale, zero_point, name)
    graph.set_input(node, position, result)
