"""Fold what scales and shifts the channels of a convolution into its weights and bias."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Array, QuantParams, constant

Reals = npt.NDArray[np.float64]


class FoldAffine(Pass[Dfg]):
    """BatchNormalization, and Mul and Add with a constant for each channel, go into the Conv whose result
    nothing else reads.

    Weights are float32 constants, or dequantised int8 ones whose scales are multiplied. Computed in
    float64, rounded once.
    """

    name: ClassVar[str] = "fold-affine"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers, readers = graph.producers(), graph.readers()
        nodes: list[Node] = []
        for node in graph.nodes:
            conv = _convolution_before(graph, node, producers, readers)
            change = None if conv is None else _AFFINE[node.op](graph, node)
            new = None
            if conv is not None and change is not None:
                new = _folded(graph, producers, conv, node, change)
            if conv is not None and new is not None:
                nodes.remove(conv)
                producers.update({output: each for each in new for output in each.outputs})
            nodes += (node,) if new is None else new
        if len(nodes) == len(graph.nodes) and all(map(operator.is_, nodes, graph.nodes)):
            return PassResult(before, False)
        graph.nodes = nodes
        return PassResult(graph, True)


def _convolution_before(
    graph: Dfg,
    node: Node,
    producers: Mapping[str, Node],
    readers: Mapping[str, list[Node]],
) -> Node | None:
    """The Conv whose result an affine node alone reads."""
    names = [name for name in node.inputs if name and graph.data(name) is None]
    if node.op not in _AFFINE or len(names) != 1 or names[0] in graph.outputs:
        return None
    conv = producers.get(names[0])
    return conv if conv and conv.op == "Conv" and len(readers[names[0]]) == 1 else None


@dataclass(frozen=True, slots=True)
class _Change:
    """result = factor x + shift, a number for each channel, or one for all."""

    factor: Reals
    shift: Reals


def _folded(
    graph: Dfg, producers: Mapping[str, Node], conv: Node, node: Node, change: _Change
) -> tuple[Node, ...] | None:
    """The convolution that takes the place of both, behind what dequantises its weights."""
    channels = graph.values[conv.outputs[0]].shape[1]
    if {change.factor.size, change.shift.size} - {1, channels}:
        return None
    factor, shift = (np.broadcast_to(each, (channels,)) for each in (change.factor, change.shift))
    bias = _real(graph, producers, conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(1)
    weights = _scaled(graph, producers, conv, factor, f"{node.name}/weights")
    if bias is None or weights is None:
        return None
    name = graph.fresh(f"{node.name}/bias")
    graph.add(constant(name, (bias * factor + shift).astype(np.float32)))
    merged = replace(
        conv,
        inputs=(conv.inputs[0], weights[0], name),
        outputs=node.outputs,
        sources=tuple(dict.fromkeys((*conv.sources, *node.sources))),
    )
    return (*weights[1], merged)


def _scaled(
    graph: Dfg, producers: Mapping[str, Node], conv: Node, factor: Reals, name: str
) -> tuple[str, tuple[Node, ...]] | None:
    """The weights with each channel's factor: their name, and the Dequantize that makes them, if any."""
    old = conv.inputs[1]
    if (factor == 1).all():
        return old, ()
    name = graph.fresh(name)
    shape = (-1,) + (1,) * (len(graph.values[old].shape) - 1)
    data = graph.data(old)
    if data is not None:
        scaled = data.astype(np.float64) * factor.reshape(shape)
        return graph.add(constant(name, scaled.astype(np.float32))), ()
    source = producers.get(old)
    if source is None or source.op != "Dequantize":
        return None
    stored = graph.values[source.inputs[0]]
    data, params = stored.data, stored.quantization
    if data is None or params is None or stored.dtype is not DType.INT8:
        return None
    turned = factor < 0  # a scale is positive: the numbers change their sign instead
    symmetric = not any(params.zero_points) and data.min() > -128
    if params.axis not in (None, 0) or (factor == 0).any() or (turned.any() and not symmetric):
        return None
    numbers = np.where(turned.reshape(shape), -data, data)
    scales = (np.broadcast_to(params.scales, factor.shape) * np.abs(factor)).astype(np.float32)
    points = np.broadcast_to(params.zero_points, factor.shape)
    held = QuantParams(tuple(scales.tolist()), tuple(points.tolist()), 0)
    stored = constant(graph.fresh(f"{name}/stored"), numbers, held)
    graph.add(stored)
    graph.add(replace(graph.values[old], name=name))
    dequantize = replace(
        source, name=f"{source.name}/{conv.name}", inputs=(stored.name,), outputs=(name,)
    )
    return name, (dequantize,)


def _real(graph: Dfg, producers: Mapping[str, Node], name: str) -> Reals | None:
    """A constant bias, dequantised or float; of one left out, zero."""
    if not name:
        return np.zeros(1)
    source = producers.get(name)
    value = graph.values[name if source is None else source.inputs[0]]
    if value.data is None:
        return None
    data: Reals = value.data.astype(np.float64).ravel()
    if source is None:
        return data
    if source.op != "Dequantize" or value.quantization is None:
        return None
    params = value.quantization
    data = (data - np.array(params.zero_points)) * np.array(params.scales)
    return data


def _batch_norm(graph: Dfg, norm: Node) -> _Change | None:
    parameters = [graph.data(name) for name in norm.inputs[1:5]]
    epsilon = norm.attributes.get("epsilon", 1e-5)
    if norm.attributes.get("training_mode") or len(norm.outputs) != 1:
        return None
    if (
        not isinstance(epsilon, float)
        or len({None if p is None else p.size for p in parameters}) > 1
    ):
        return None
    scale, shift, mean, variance = (p.astype(np.float64) for p in parameters if p is not None)
    factor = scale / np.sqrt(variance + epsilon)
    return _Change(factor, shift - mean * factor)


def _mul(graph: Dfg, node: Node) -> _Change | None:
    factor = _per_channel(graph, node)
    return None if factor is None else _Change(factor, np.zeros(1))


def _add(graph: Dfg, node: Node) -> _Change | None:
    shift = _per_channel(graph, node)
    return None if shift is None else _Change(np.ones(1), shift)


def _per_channel(graph: Dfg, node: Node) -> Reals | None:
    """The float32 constant operand, when it varies along axis 1 of the result only."""
    data = next((held for held in map(graph.data, node.inputs) if held is not None), None)
    shape = graph.values[node.outputs[0]].shape
    if data is None or data.dtype != np.float32 or data.ndim > len(shape):
        return None
    aligned: Array = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(size > 1 for axis, size in enumerate(aligned.shape) if axis != 1):
        return None
    return aligned.astype(np.float64).ravel()


_AFFINE: Final[Mapping[str, Callable[[Dfg, Node], _Change | None]]] = {
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Mul": _mul,
}
