"""BatchNormalization that no layer takes in, as a layer."""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from furiosa.optimizer.graph import Array, Graph, is_standard


def batch_norm_affine(graph: Graph, node: NodeProto) -> tuple[Array, Array] | None:
    """Scale and shift of a BatchNormalization, float64 [C] each; None when they are not constant."""
    training = any(a.name == "training_mode" and a.i for a in node.attribute)
    if training or len([name for name in node.output if name]) > 1:
        return None
    known = [p.astype("f8") for p in map(graph.array, node.input[1:5]) if p is not None]
    if len(known) < 4:
        return None
    gamma, beta, mean, variance = known
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def expand_batch_norm(graph: Graph) -> bool:
    """BatchNormalization of float32 images becomes a depthwise Conv of one tap a channel.

    So it has weights of its own scale a channel when it is quantised, and takes in what follows.
    """
    changed = False
    for node in list(graph.nodes):
        shape = graph.shape(node.input[0]) if is_standard(node, "BatchNormalization") else None
        affine = batch_norm_affine(graph, node) if shape is not None else None
        if shape is None or affine is None or len(shape) != 4:
            continue
        if graph.element_type(node.output[0]) != TensorProto.FLOAT:
            continue
        scale, shift = (part.astype(np.float32) for part in affine)
        operands = [
            node.input[0],
            graph.add_constant(scale.reshape(-1, 1, 1, 1), f"{node.name}_weight"),
            graph.add_constant(shift, f"{node.name}_bias"),
        ]
        conv = helper.make_node(
            "Conv", operands, [node.output[0]], node.name, group=shape[1], kernel_shape=[1, 1]
        )
        graph.replace(node, [conv])
        changed = True
    return changed
