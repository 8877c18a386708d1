"""Sum in terms of operators the NPU has."""

from onnx import helper

from furiosa.optimizer.graph import Graph, is_standard


def expand_sum(graph: Graph) -> bool:
    """Sum of n values becomes n - 1 Adds, from left to right; of a single value, an Identity."""
    changed = False
    for node in list(graph.nodes):
        if not is_standard(node, "Sum"):
            continue
        total, *rest = node.input
        nodes = []
        for position, name in enumerate(rest, 1):
            last = position == len(rest)
            result = node.output[0] if last else graph.fresh(f"{node.name}_{position}")
            label = node.name if last else result
            nodes.append(helper.make_node("Add", [total, name], [result], label))
            total = result
        graph.replace(
            node, nodes or [helper.make_node("Identity", [total], [node.output[0]], node.name)]
        )
        changed = True
    return changed
