"""What calibration and quantization both start from: an optimised graph and its plan."""

from typing import Final

from onnx import ModelProto, TensorProto

from furiosa.optimizer import optimize_model
from furiosa.optimizer.graph import Graph
from furiosa.quantizer.plan import Plan, plan_of

OPSET: Final = 13  # the first with scales per channel

_INTEGER_OPERATORS: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"}
)
_OTHER_FLOATS: Final = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def prepare(model: ModelProto | bytes) -> tuple[Graph, Plan]:
    """The graph of the optimised model, and what of it is to be quantised.

    A model that went through `optimize_model` comes out as it was, so that ranges collected from one
    fit the other.
    Raises: ValueError when the model is quantised already or not float32; else as `optimize_model`.
    """
    graph = Graph(optimize_model(model, opset_version=OPSET))
    graph.infer()
    for node in graph.nodes:
        if node.op_type in _INTEGER_OPERATORS:
            raise ValueError(
                f"the model is quantised already: node {node.name!r} is {node.op_type}"
            )
    for value in graph.inputs:
        if value.type.tensor_type.elem_type in _OTHER_FLOATS:
            kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            raise ValueError(
                f"input {value.name!r} is {kind}: only float32 models can be quantised"
            )
    plan = plan_of(graph)
    if not plan.tensors:
        raise ValueError("the model has no operator that can be quantised")
    return graph, plan
