"""ONNX to dfg."""

import hashlib
from typing import Final

import onnx

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.batch import with_batch
from furiosa.compiler.frontend.model import (
    DTYPES,
    Shapes,
    infer_shapes,
    initializers,
    opset_of,
    pure_inputs,
    read_model,
)
from furiosa.compiler.frontend.operators import (
    OPERATORS,
    Import,
    attributes_of,
    generic,
    read_tensor,
)
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import ModelInfo, Value, constant

MAX_NODES: Final = 100_000


def import_onnx(data: bytes, options: CompilerOptions) -> Dfg:
    """The model with static shapes, batch size applied, every value typed.

    Raises: InvalidFormat, InvalidModel. Needs nothing but the bytes.
    """
    model = read_model(data)
    if len(model.graph.node) > MAX_NODES:
        raise InvalidModel(f"it has {len(model.graph.node)} nodes", f"up to {MAX_NODES} are taken")
    _check_outputs(model.graph)
    shapes = infer_shapes(model)
    if options.batch_size > 1:
        model, shapes = with_batch(model, shapes, options.batch_size)
    info = ModelInfo(
        model.graph.name, opset_of(model), options.batch_size, hashlib.sha256(data).digest()
    )
    return _build(model.graph, info, shapes)


def _check_outputs(graph: onnx.GraphProto) -> None:
    """A program's outputs are tensors that its operators made, each its own."""
    names = [info.name for info in graph.output]
    made = {n for node in graph.node if node.op_type != "Constant" for n in node.output}
    if not names:
        raise InvalidModel("it has no outputs", "declare what it is to compute")
    for index, name in enumerate(names):
        if name not in made:
            raise InvalidModel(f"output '{name}' is no operator's result", "take it out")
        if name in names[:index]:
            raise InvalidModel(f"output '{name}' is declared twice", "take one out")


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
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise InvalidModel(
                f"initialiser '{name}' has element type {kind}", f"use one of {DTYPES}"
            ) from None
    taken: set[str] = set()
    for index, node in enumerate(source.node):
        name = node.name if node.name and node.name not in taken else f"{node.op_type}_{index}"
        while name in taken:
            name += "'"
        taken.add(name)
        OPERATORS.get(node.op_type, generic)(Import(graph, node, name, attributes_of(node)))
    return graph
