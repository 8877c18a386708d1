"""Batch size: dimension 0 of every activation times n, where that means n independent inferences."""

from typing import Final

import numpy as np
import onnx

from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.operators import attributes_of, read_tensor
from furiosa.compiler.frontend.rowwise import Use, is_rowwise
from furiosa.compiler.frontend.shapes import Shapes, infer_shapes, initializers, pure_inputs
from furiosa.compiler.value import Array

_HINT: Final = "compile it with batch size 1"
_SHAPES: Final = {"Reshape": 1, "Resize": 3}  # the input that says the shape of the result


def with_batch(model: onnx.ModelProto, shapes: Shapes, n: int) -> tuple[onnx.ModelProto, Shapes]:
    """The model for n inferences at once, and its shapes; `shapes` are those for one.

    Raises: InvalidModel, naming the node that mixes the entries of a batch or cannot grow.
    """
    grown = onnx.ModelProto()
    grown.CopyFrom(model)
    graph = grown.graph
    _grow_declarations(graph, n)
    activations = _grow_nodes(graph, shapes, n)
    for info in graph.output:
        if info.name not in activations:
            raise InvalidModel(f"output '{info.name}' is the same for every inference", _HINT)
    try:
        result = infer_shapes(grown)
    except InvalidModel as exc:
        found = f"in a batch of {n} {exc.found}"
        raise InvalidModel(found, _HINT, exc.node, exc.operator) from None
    for node in graph.node:
        for name in filter(activations.__contains__, node.output):
            before, after = shapes[name][1], result[name][1]
            if not before or after != (before[0] * n, *before[1:]):
                raise InvalidModel(
                    f"its result '{name}' has shape {list(before)} for one inference and "
                    f"{list(after)} for a batch of {n}",
                    _HINT,
                    node.name,
                    node.op_type,
                )
    return grown, result


def _grow_declarations(graph: onnx.GraphProto, n: int) -> None:
    del graph.value_info[:]
    for info in pure_inputs(graph):
        if not info.type.tensor_type.shape.dim:
            raise InvalidModel(f"input '{info.name}' is a scalar", _HINT)
        info.type.tensor_type.shape.dim[0].dim_value *= n
    for info in graph.output:
        info.type.tensor_type.ClearField("shape")


def _grow_nodes(graph: onnx.GraphProto, shapes: Shapes, n: int) -> set[str]:
    """Check every node that reads activations and give those of _SHAPES new shapes; the activations."""
    constants = {k: read_tensor(t) for k, t in initializers(graph).items()}
    activations = {info.name for info in pure_inputs(graph)}
    for node in graph.node:
        attributes = attributes_of(node)
        if node.op_type == "Constant":
            (held,) = attributes.values()
            constants[node.output[0]] = np.asarray(held)
        read = [index for index, name in enumerate(node.input) if name in activations]
        if not read or node.op_type in ("Shape", "Size"):
            continue  # what depends on no element of an activation does not grow
        ranks = {index: len(shapes[node.input[index]][1]) for index in read}
        rows = {shapes[name][1][:1] for name in (node.input[read[0]], node.output[0])}
        if not is_rowwise(Use(node, attributes, ranks, constants, len(rows) == 1)):
            raise InvalidModel("it mixes the entries of a batch", _HINT, node.name, node.op_type)
        position = _SHAPES.get(node.op_type, len(node.input))
        if position < len(node.input) and "axes" not in attributes:
            _grow_target(graph, node, position, constants.get(node.input[position]), n)
        activations.update(filter(None, node.output))
    return activations


def _grow_target(
    graph: onnx.GraphProto, node: onnx.NodeProto, position: int, target: Array | None, n: int
) -> None:
    """A constant shape with a literal dimension 0 is replaced, for this node alone."""
    if target is None or not target.size or target[0] <= 0:
        return
    grown = target.copy()
    grown[0] *= n
    taken = {tensor.name for tensor in graph.initializer}
    name = f"{node.output[0]}/target"
    while name in taken:
        name += "'"
    graph.initializer.append(onnx.numpy_helper.from_array(grown, name))
    node.input[position] = name
