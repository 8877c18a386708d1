"""Squeeze without axes depends on a shape; with axes it does not."""

from onnx import helper

from furiosa.optimizer.graph import Graph, is_standard


def fill_squeeze_axes(graph: Graph) -> bool:
    """Give a Squeeze of opset 12 its axes; from 13 on they are an input and stay as they are.

    Source: reference of the optimizer, section 2.
    """
    changed = False
    for node in graph.nodes:
        shape = graph.shape(node.input[0]) if is_standard(node, "Squeeze") else None
        if graph.opset < 13 and shape is not None and not node.attribute:
            axes = [axis for axis, size in enumerate(shape) if size == 1]
            node.attribute.append(helper.make_attribute("axes", axes))
            changed = True
    return changed
