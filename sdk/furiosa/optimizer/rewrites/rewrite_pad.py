"""Pads that cut, and pads that do nothing."""

import numpy as np
from onnx import helper

from furiosa.optimizer.graph import Graph, is_standard


def rewrite_pad(graph: Graph) -> bool:
    """Turn negative padding into a Slice before the Pad, and drop a Pad of zeros.

    Source: reference of the optimizer, section 2.
    """
    changed = False
    for node in list(graph.nodes):
        pads = graph.array(node.input[1]) if is_standard(node, "Pad") else None
        if pads is None or (pads > 0).all():
            continue
        rank = len(pads) // 2
        cut, grow = np.minimum(pads, 0), np.maximum(pads, 0)
        source = node.input[0]
        nodes = []
        if cut.any():
            axes = np.flatnonzero(cut[:rank] | cut[rank:])
            starts, ends = -cut[:rank][axes], cut[rank:][axes]
            ends = np.where(ends == 0, np.iinfo(np.int64).max, ends)
            sliced = graph.fresh(f"{node.name}_cut")
            operands = [
                graph.add_constant(value.astype(np.int64), f"{sliced}_{what}")
                for what, value in (("starts", starts), ("ends", ends), ("axes", axes))
            ]
            nodes.append(
                helper.make_node("Slice", [source, *operands], [sliced], f"{node.name}_cut")
            )
            source = sliced
        elif grow.any():
            continue
        if grow.any():
            graph.set_input(node, 0, source)
            graph.set_input(node, 1, graph.add_constant(grow, f"{node.name}_pads"))
            nodes.append(node)
        elif nodes:
            nodes[-1].output[0] = node.output[0]
        else:
            nodes.append(helper.make_node("Identity", [source], [node.output[0]], node.name))
        graph.replace(node, nodes)
        changed = True
    return changed
