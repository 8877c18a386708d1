"""One form of the fully connected layer: Y = X @ B.T + C."""

from typing import Final

import numpy as np
from onnx import NodeProto, helper

from furiosa.optimizer.graph import Array, Graph, is_standard

_FLOAT: Final = np.float32


def normalize_gemm(graph: Graph) -> bool:
    """Give Gemm with constant weights transB=1, alpha=beta=1 and a bias of shape [N].

    MatMul of a matrix with a constant one becomes such a Gemm. Output channels are then axis 0 of
    the weights, as in Conv. A Gemm with transA or a bias that is not one value a column stays.
    """
    changed = False
    for node in list(graph.nodes):
        parts = _parts(graph, node)
        if parts is None:
            continue
        weights, bias = parts
        operands = [node.input[0], graph.add_constant(weights, f"{node.name}_weight")]
        if bias is not None:
            operands.append(graph.add_constant(bias, f"{node.name}_bias"))
        gemm = helper.make_node("Gemm", operands, list(node.output), node.name, transB=1)
        graph.replace(node, [gemm])
        changed = True
    return changed


def _parts(graph: Graph, node: NodeProto) -> tuple[Array, Array | None] | None:
    """Weights [N, K] and bias [N] of a node in some other form; None when it has none."""
    if not is_standard(node, "Gemm", "MatMul"):
        return None
    weights = graph.array(node.input[1])
    shape = graph.shape(node.input[0])
    if weights is None or weights.dtype != _FLOAT or weights.ndim != 2:
        return None
    if shape is None or len(shape) != 2:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("transA", 0):
        return None
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    turned = attributes.get("transB", 0)
    if not turned:
        weights = weights.T
    weights = (weights * _FLOAT(alpha)).astype(_FLOAT)
    if len(node.input) < 3 or not node.input[2]:
        return None if turned and alpha == 1 else (weights, None)
    bias = graph.array(node.input[2])
    if bias is None or bias.size not in (1, len(weights)):
        return None
    if bias.ndim == 2 and bias.shape[0] != 1:
        return None
    if turned and alpha == 1 and beta == 1 and bias.shape == (len(weights),):
        return None
    return weights, np.broadcast_to(bias.reshape(-1) * _FLOAT(beta), len(weights)).astype(_FLOAT)
