"""PRelu in terms of operators the NPU has."""

import numpy as np
from onnx import helper

from furiosa.optimizer.graph import Graph, is_standard


def expand_prelu(graph: Graph) -> bool:
    """PRelu(x) with a constant slope becomes (1 - slope) * Relu(x) + slope * x.

    Source: reference of the optimizer, section 2.
    """
    changed = False
    for node in list(graph.nodes):
        slope = graph.array(node.input[1]) if is_standard(node, "PRelu") else None
        if slope is None:
            continue
        source, name = node.input[0], node.name
        positive, above, below = (graph.fresh(f"{name}_{part}") for part in ("relu", "up", "down"))
        rest = graph.add_constant(np.asarray(1 - slope, slope.dtype), f"{name}_rest")
        graph.replace(
            node,
            [
                helper.make_node("Relu", [source], [positive], f"{name}_relu"),
                helper.make_node("Mul", [positive, rest], [above], f"{name}_up"),
                helper.make_node("Mul", [source, node.input[1]], [below], f"{name}_down"),
                helper.make_node("Add", [above, below], [node.output[0]], name),
            ],
        )
        changed = True
    return changed
