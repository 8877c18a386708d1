"""Fold what scales and shifts whole channels into the layer before it."""

from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from furiosa.optimizer.graph import Array, Graph, is_standard
from furiosa.optimizer.rewrites.expand_batch_norm import batch_norm_affine

_LAYERS: Final = ("Conv", "ConvTranspose", "Gemm")
_Vector = npt.NDArray[np.float64]


def fold_affine(graph: Graph) -> bool:
    """Fold BatchNormalization, and Mul and Add with a constant per channel, into the layer before.

    Layers: Conv, ConvTranspose and normalised Gemm with constant float32 weights whose result nobody
    else reads. The layer keeps its name and takes over the name of the folded node's result. The new
    weights are computed in float64 and rounded once.
    Source: reference of the optimizer, section 2.
    """
    changed = False
    for node in list(graph.nodes):
        layer = _layer_before(graph, node)
        if layer is None:
            continue
        weights = graph.array(layer.input[1])
        affine = _affine(graph, node, layer)
        if affine is None or weights is None:
            continue
        scale, shift = affine
        bias = _bias(graph, layer, len(scale))
        if bias is None:
            continue
        name = layer.name
        graph.set_input(
            layer, 1, graph.add_constant(_scaled(layer, weights, scale), f"{name}_weight")
        )
        graph.set_input(
            layer, 2, graph.add_constant((bias * scale + shift).astype("f4"), f"{name}_bias")
        )
        graph.set_output(layer, 0, node.output[0])
        graph.remove([node])
        changed = True
    return changed


def _layer_before(graph: Graph, node: NodeProto) -> NodeProto | None:
    """The layer whose result only `node` reads."""
    if not is_standard(node, "BatchNormalization", "Mul", "Add"):
        return None
    for name in node.input[:1] if node.op_type == "BatchNormalization" else node.input:
        layer = graph.producer(name)
        if (
            layer is not None
            and is_standard(layer, *_LAYERS)
            and graph.only_reader(name) is node
            and (weights := graph.array(layer.input[1])) is not None
            and weights.dtype == np.float32
            and (layer.op_type != "Gemm" or _is_normal(layer))
        ):
            return layer
    return None


def _is_normal(gemm: NodeProto) -> bool:
    return [(a.name, a.i) for a in gemm.attribute] == [("transB", 1)]


def _affine(graph: Graph, node: NodeProto, layer: NodeProto) -> tuple[_Vector, _Vector] | None:
    """Scale and shift a channel, each [C]; None when the node is something else."""
    shape = graph.shape(layer.output[0])
    if shape is None or len(shape) < 2:
        return None
    channels = shape[1]
    if node.op_type == "BatchNormalization":
        return batch_norm_affine(graph, node)
    constant = next((a for a in map(graph.array, node.input) if a is not None), None)
    if constant is None:
        return None
    factor = _per_channel(constant, len(shape), channels)
    if factor is None:
        return None
    if node.op_type == "Mul":
        return factor, np.zeros(channels)
    return np.ones(channels), factor


def _per_channel(constant: Array, rank: int, channels: int) -> _Vector | None:
    """The constant as [C] when it broadcasts along axis 1 alone."""
    if constant.ndim > rank:
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if shape[1] not in (1, channels) or any(
        size != 1 for axis, size in enumerate(shape) if axis != 1
    ):
        return None
    return np.broadcast_to(constant.reshape(-1).astype("f8"), channels)


def _bias(graph: Graph, layer: NodeProto, channels: int) -> _Vector | None:
    """Zeros for a layer without one; None when it is no constant or not [C]."""
    if len(layer.input) < 3 or not layer.input[2]:
        return np.zeros(channels)
    bias = graph.array(layer.input[2])
    return None if bias is None or bias.shape != (channels,) else bias.astype("f8")


def _scaled(layer: NodeProto, weights: Array, scale: _Vector) -> Array:
    """Weights with every output channel multiplied by its scale."""
    wide = weights.astype("f8")
    if layer.op_type == "ConvTranspose":  # [C_in, C_out / group, ...], the groups along axis 0
        group = next((a.i for a in layer.attribute if a.name == "group"), 1)
        split = wide.reshape(group, -1, *wide.shape[1:])
        factor = scale.reshape(group, 1, wide.shape[1], *[1] * (wide.ndim - 2))
        return (split * factor).reshape(wide.shape).astype("f4")
    return (wide * scale.reshape(-1, *[1] * (wide.ndim - 1))).astype("f4")
