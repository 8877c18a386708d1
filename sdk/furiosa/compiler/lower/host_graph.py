"""The ONNX graph of a host task."""

from typing import Any

from furiosa.compiler.gir.ir import Gir, HostTask
from furiosa.enf.onnxgraph import GraphBuilder


def host_graph(graph: Gir, task: HostTask) -> bytes:
    """Inputs and outputs in the order of the task's buffers; values are numbered, whatever their names.

    The operator set is the source model's, so operators mean what they meant there.
    """
    builder = GraphBuilder("host", graph.model.opset)
    names: dict[str, str] = {"": ""}
    for index in task.inputs:
        buffer = graph.buffers[index]
        names[buffer.name] = builder.input(f"v{len(names)}", buffer.dtype, buffer.shape)
    for node in task.nodes:
        for name in node.reads:
            data = graph.values[name].data
            if name not in names and data is not None:
                names[name] = builder.constant(data)
        for name in node.writes:
            names[name] = f"v{len(names)}"
        # an empty list has no type of its own, and means what a missing one means
        given: dict[str, Any] = {k: held for k, held in node.attributes.items() if held != ()}
        inputs = [names[name] for name in node.inputs]
        builder.node(node.op, inputs, [names[name] for name in node.outputs], **given)
    for index in task.outputs:
        buffer = graph.buffers[index]
        builder.output(names[buffer.name], buffer.dtype, buffer.shape)
    return builder.build()
