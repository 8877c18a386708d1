"""Compute what depends on no input."""

import math
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from furiosa.optimizer.engine import onnxruntime
from furiosa.optimizer.graph import Array, Graph, is_standard, subgraphs

# The result of these differs from run to run, or is what a quantised model keeps its weights in.
_KEPT: Final = (
    "Bernoulli",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Multinomial",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_LARGEST: Final = 1 << 24  # elements; a larger result costs more in the file than in time


def fold_constants(graph: Graph) -> bool:
    """Replace Constant nodes, shapes of static values and all that follows from constants.

    A value that is an output of the graph stays with its node.
    """
    return any([_move_constant_nodes(graph), _fold_shapes(graph), _evaluate(graph)])


def _move_constant_nodes(graph: Graph) -> bool:
    found = [
        (node, value)
        for node in graph.nodes
        if is_standard(node, "Constant")
        and not graph.is_output(node.output[0])
        and (value := _value(node)) is not None
    ]
    for node, value in found:
        graph.set_constant(node.output[0], value)
    graph.remove(node for node, _ in found)
    return bool(found)


def _value(node: NodeProto) -> Array | None:
    """The value of a Constant node; None for strings and sparse tensors."""
    attribute = node.attribute[0]
    match attribute.name:
        case "value":
            return numpy_helper.to_array(attribute.t)
        case "value_float" | "value_floats":
            return np.array(helper.get_attribute_value(attribute), np.float32)
        case "value_int" | "value_ints":
            return np.array(helper.get_attribute_value(attribute), np.int64)
    return None


def _fold_shapes(graph: Graph) -> bool:
    found = [
        (node, shape)
        for node in graph.nodes
        if is_standard(node, "Shape", "Size")
        and not graph.is_output(node.output[0])
        and (shape := graph.shape(node.input[0])) is not None
    ]
    for node, shape in found:
        value = shape if node.op_type == "Shape" else math.prod(shape)
        graph.set_constant(node.output[0], np.array(value, np.int64))
    graph.remove(node for node, _ in found)
    return bool(found)


def _evaluate(graph: Graph) -> bool:
    """Run all nodes that depend on constants alone, once, in onnxruntime."""
    known = set(graph.constants)
    nodes = []
    for node in graph.nodes:
        if _is_foldable(graph, node) and known.issuperset(filter(None, node.input)):
            nodes.append(node)
            known.update(node.output)
    made = [name for node in nodes for name in node.output if name]
    folded = {id(node) for node in nodes}
    wanted = [
        name for name in made if any(id(reader) not in folded for reader in graph.readers(name))
    ]
    if not wanted:
        return False
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings concern the graph, not the caller's model
    session = onnxruntime.InferenceSession(
        _model_of(graph, nodes, wanted).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    for name, value in zip(wanted, session.run(wanted, {}), strict=True):
        graph.set_constant(name, value)
    graph.remove(nodes)
    return True


def _is_foldable(graph: Graph, node: NodeProto) -> bool:
    if not is_standard(node, node.op_type) or is_standard(node, *_KEPT):
        return False
    if any(True for _ in subgraphs(node)) or any(map(graph.is_output, node.output)):
        return False
    shapes = [graph.shape(name) for name in node.output if name]
    return all(shape is not None and math.prod(shape) <= _LARGEST for shape in shapes)


def _model_of(graph: Graph, nodes: list[NodeProto], outputs: list[str]) -> ModelProto:
    read = {name for node in nodes for name in node.input}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "constants",
            [],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [tensor for name, tensor in graph.constants.items() if name in read],
        ),
        opset_imports=[helper.make_opsetid("", graph.opset)],
        ir_version=8,
    )
