"""ONNX to dfg."""

import hashlib

import onnx

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.batch import with_batch
from furiosa.compiler.frontend.model import name_nodes, opset_of, read_model
from furiosa.compiler.frontend.operators import (
    OPERATORS,
    Import,
    attributes_of,
    generic,
    read_tensor,
)
from furiosa.compiler.frontend.opset import settle
from furiosa.compiler.frontend.qlinear import dequantize_everywhere
from furiosa.compiler.frontend.shapes import (
    DTYPES,
    Shapes,
    check,
    infer_shapes,
    initializers,
    pure_inputs,
    type_name,
)
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import ModelInfo, Value, constant
from furiosa.enf.onnxgraph import OPERATORS as HOST_OPERATORS


def import_onnx(data: bytes, options: CompilerOptions) -> Dfg:
    """The model with static shapes, batch size applied, every value typed.

    Raises: InvalidFormat, InvalidModel. Needs nothing but the bytes.
    """
    model = read_model(data)
    _check_outputs(model.graph)
    changes = (dequantize_everywhere(model), settle(model))
    if any(changes):
        name_nodes(model.graph)
        check(model)
    _check_operators(model.graph)
    shapes = infer_shapes(model)
    if options.batch_size > 1:
        model, shapes = with_batch(model, shapes, options.batch_size)
    info = ModelInfo(
        model.graph.name, opset_of(model), options.batch_size, hashlib.sha256(data).digest()
    )
    return _build(model.graph, info, shapes)


def _check_outputs(graph: onnx.GraphProto) -> None:
    """A program's outputs are tensors that its operators made."""
    made = {n for node in graph.node if node.op_type != "Constant" for n in node.output}
    if not graph.output:
        raise InvalidModel("it has no outputs", "declare what it is to compute")
    for info in graph.output:
        if info.name not in made:
            raise InvalidModel(f"output '{info.name}' is no operator's result", "take it out")


def _check_operators(graph: onnx.GraphProto) -> None:
    """Every operator is one that can run on the host at least."""
    for node in graph.node:
        if node.op_type not in HOST_OPERATORS:
            raise InvalidModel(
                "this operator is not supported",
                "take it out of the model, or compute it before or after the model",
                node.name,
                node.op_type,
            )


def _build(source: onnx.GraphProto, info: ModelInfo, shapes: Shapes) -> Dfg:
    inputs = tuple(item.name for item in pure_inputs(source))
    graph = Dfg(info, inputs, tuple(item.name for item in source.output))
    for name, (dtype, shape) in shapes.items():
        graph.add(Value(name, dtype, shape))
    for name, tensor in initializers(source).items():
        data = read_tensor(tensor)
        try:
            graph.add(constant(name, data))
        except ValueError:
            raise InvalidModel(
                f"initialiser '{name}' has element type {type_name(tensor.data_type)}",
                f"use one of {DTYPES}",
            ) from None
    for node in source.node:
        item = Import(graph, node, node.name, attributes_of(node))
        OPERATORS.get(node.op_type, generic)(item)
    return graph
