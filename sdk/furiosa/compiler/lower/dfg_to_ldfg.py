"""dfg to ldfg: placed operators become operations of the NPU or ONNX operators of the host."""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import ClassVar, Final

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.infra import Lowering
from furiosa.compiler.ldfg.ir import (
    HostNode,
    HostSection,
    Ldfg,
    NpuSection,
    Section,
)
from furiosa.compiler.lower.operations import OPERATIONS, Emit
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Attribute, Value, constant
from furiosa.enf.onnxgraph import OPERATORS as HOST_OPERATORS


class DfgToLdfg(Lowering[Dfg, Ldfg]):
    """One section for each run of nodes of one place, in the order of the nodes.

    Raises: InvalidModel for an operator that neither side can run.
    """

    name: ClassVar[str] = "lower-dfg-to-ldfg"

    def run(self, graph: Dfg, options: CompilerOptions) -> Ldfg:
        graph = graph.copy()
        sections: list[Section] = []
        for place, nodes in groupby(graph.nodes, key=lambda node: node.place):
            if place is Place.NPU:
                emit = Emit(graph)
                for node in nodes:
                    OPERATIONS[node.op](emit, node)
                sections.append(NpuSection(tuple(emit.nodes)))
            else:
                sections.append(HostSection(tuple(_host(graph, node) for node in nodes)))
        used = {*graph.inputs, *graph.outputs}
        for section in sections:
            for item in section.nodes:
                used.update(item.reads, item.writes)
        values = {name: value for name, value in graph.values.items() if name in used}
        return Ldfg(graph.model, graph.inputs, graph.outputs, tuple(sections), values)


def _host(graph: Dfg, node: Node) -> HostNode:
    op, inputs, attributes = _HOST_FORMS.get(node.op, _as_it_is)(graph, node)
    if op not in HOST_OPERATORS:
        raise InvalidModel(
            "neither the NPU nor the host section of a program can run it",
            "take it out of the model",
            node.name,
            node.op,
        )
    for key, held in attributes.items():
        if isinstance(held, np.ndarray):
            raise InvalidModel(
                f"attribute '{key}' is a tensor", "give it as an input", node.name, node.op
            )
    return HostNode(node.name, op, inputs, node.outputs, attributes, node.sources)


_Form = tuple[str, tuple[str, ...], Mapping[str, Attribute]]


def _as_it_is(graph: Dfg, node: Node) -> _Form:
    return node.op, node.inputs, node.attributes


def _reshape(graph: Dfg, node: Node) -> _Form:
    shape = np.array(graph.values[node.outputs[0]].shape, np.int64)
    name = graph.add(constant(graph.fresh(f"{node.name}/shape"), shape))
    return "Reshape", (node.inputs[0], name), {}


def _quantize(graph: Dfg, node: Node) -> _Form:
    return _linear(graph, node, "QuantizeLinear", graph.values[node.outputs[0]])


def _dequantize(graph: Dfg, node: Node) -> _Form:
    return _linear(graph, node, "DequantizeLinear", graph.values[node.inputs[0]])


def _linear(graph: Dfg, node: Node, op: str, stored: Value) -> _Form:
    params = stored.quantization
    assert params is not None  # a rule of dfg
    shape = () if params.axis is None else (-1,)
    scale = np.array(params.scales, np.float32).reshape(shape)
    point = np.array(params.zero_points, stored.dtype.numpy).reshape(shape)
    names = [
        graph.add(constant(graph.fresh(f"{node.name}/{part}"), data))
        for part, data in (("scale", scale), ("zero_point", point))
    ]
    attributes = {} if params.axis is None else {"axis": params.axis}
    return op, (node.inputs[0], *names), attributes


def _fill(graph: Dfg, node: Node) -> _Form:
    """ConstantOfShape without its tensor attribute: a scalar expanded to the shape of the result."""
    result = graph.values[node.outputs[0]]
    value = np.ravel(np.array(node.attributes.get("value", 0.0), result.dtype.numpy))[0]
    shape = np.array(result.shape, np.int64)
    names = [
        graph.add(constant(graph.fresh(f"{node.name}/{part}"), np.array(data)))
        for part, data in (("value", value), ("shape", shape))
    ]
    return "Expand", tuple(names), {}


_HOST_FORMS: Final[Mapping[str, Callable[[Dfg, Node], _Form]]] = {
    "ConstantOfShape": _fill,
    "Dequantize": _dequantize,
    "Quantize": _quantize,
    "Reshape": _reshape,
}
