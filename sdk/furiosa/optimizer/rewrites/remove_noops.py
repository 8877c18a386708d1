"""Take out nodes that pass their input on."""

from onnx import NodeProto

from furiosa.optimizer.graph import Graph, is_standard


def remove_noops(graph: Graph) -> bool:
    """Remove Identity, and Dropout as it is outside training.

    A node between an input and an output of the graph stays: neither name may change.
    """
    removed = [node for node in graph.nodes if _is_noop(graph, node) and _bypass(graph, node)]
    graph.remove(removed)
    return bool(removed)


def _is_noop(graph: Graph, node: NodeProto) -> bool:
    if is_standard(node, "Identity"):
        return True
    if not is_standard(node, "Dropout"):
        return False
    mask = len(node.output) > 1 and node.output[1]
    if mask and (graph.readers(mask) or graph.is_output(mask)):
        return False
    training = node.input[2] if len(node.input) > 2 else ""
    value = graph.array(training)
    return not training or (value is not None and not value)


def _bypass(graph: Graph, node: NodeProto) -> bool:
    """Let nothing read the node's output; false when an output of the graph needs it."""
    source, result = node.input[0], node.output[0]
    if graph.is_output(result):
        producer = graph.producer(source)
        if producer is None or graph.is_output(source):
            return False
        graph.set_output(producer, list(producer.output).index(source), result)
        graph.replace_reads(source, result)
        graph.set_output(node, 0, source)  # nobody reads it; the node is about to go
    else:
        graph.replace_reads(result, source)
    return True
