"""From a stranger's bytes to an ONNX model that is worth looking at: bounded, whole and static.

Nothing but the bytes is read: external tensor data is refused, not followed.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import onnx
from google.protobuf.message import DecodeError, Message

from furiosa.common.tensor import DType
from furiosa.compiler.diagnostics import InvalidFormat, InvalidModel
from furiosa.compiler.options import MAX_MODEL_BYTES
from furiosa.enf.onnxgraph import OPSETS

MIN_OPSET: Final = 11
Shapes = dict[str, tuple[DType, tuple[int, ...]]]

_OPTIMIZE: Final = "give every input a static shape, e.g. with furiosa.optimizer.optimize_model"
DTYPES: Final = ", ".join(dtype.value for dtype in DType)
_ONNX_DOMAINS: Final = ("", "ai.onnx")
_SUBGRAPHS: Final = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def read_model(data: bytes) -> onnx.ModelProto:
    """Raises: InvalidFormat for what is no ONNX model; InvalidModel for one we cannot take."""
    if len(data) > MAX_MODEL_BYTES:
        raise InvalidFormat(
            f"the model has {len(data)} bytes", f"models of up to {MAX_MODEL_BYTES} bytes are taken"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise InvalidFormat("this is not an ONNX model, or only a part of one") from None
    if not model.ir_version or not model.HasField("graph"):
        raise InvalidFormat("this is not an ONNX model: it has no graph")
    if not _is_text(model):
        raise InvalidFormat("a name in this ONNX model is not UTF-8")
    _check_vocabulary(model)
    _check_inputs(model.graph)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as exc:
        raise InvalidModel(
            f"the ONNX checker refuses it: {_first_line(exc)}", "export it anew"
        ) from None
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default domain. Raises: InvalidModel outside the supported range."""
    found = max((o.version for o in model.opset_import if o.domain in _ONNX_DOMAINS), default=0)
    newest = min(OPSETS[-1], onnx.defs.onnx_opset_version())  # host sections keep the opset
    if not MIN_OPSET <= found <= newest:
        raise InvalidModel(
            f"the model is of opset {found}",
            f"export it with an opset from {MIN_OPSET} to {newest}",
        )
    return found


def infer_shapes(model: onnx.ModelProto) -> Shapes:
    """Type and static shape of every input and of every result of a node.

    Raises: InvalidModel, naming the node and the value, when one is unknown.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as exc:
        raise InvalidModel(
            f"its shapes do not fit together: {_first_line(exc)}", _OPTIMIZE
        ) from None
    infos = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
    constants = initializers(graph)
    shapes: Shapes = {}
    for info in graph.input:
        if info.name not in constants:
            shapes[info.name] = _typed(info, "", "")
    for node in graph.node:
        for name in filter(None, node.output):
            if name not in infos:
                raise InvalidModel(
                    f"the shape of its result '{name}' is unknown",
                    _OPTIMIZE,
                    node.name,
                    node.op_type,
                )
            shapes[name] = _typed(infos[name], node.name, node.op_type)
    return shapes


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def pure_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initialisers."""
    constants = initializers(graph)
    return [info for info in graph.input if info.name not in constants]


def _typed(info: onnx.ValueInfoProto, node: str, operator: str) -> tuple[DType, tuple[int, ...]]:
    if not info.type.HasField("tensor_type"):
        raise InvalidModel(f"'{info.name}' is not a tensor", "use tensors only", node, operator)
    kind = info.type.tensor_type.elem_type
    try:
        dtype = DType.of(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except (ValueError, KeyError):
        raise InvalidModel(
            f"'{info.name}' has element type {onnx.TensorProto.DataType.Name(kind)}",
            f"use one of {DTYPES}",
            node,
            operator,
        ) from None
    if not info.type.tensor_type.HasField("shape"):
        raise InvalidModel(f"the shape of '{info.name}' is unknown", _OPTIMIZE, node, operator)
    shape = []
    for dim in info.type.tensor_type.shape.dim:
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            found = dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            raise InvalidModel(
                f"the static shape of tensor '{info.name}' contains an unsupported dimension "
                f"value: {found}",
                _OPTIMIZE,
                node,
                operator,
            )
        shape.append(dim.dim_value)
    return dtype, tuple(shape)


def _is_text(message: Message) -> bool:
    """Whether every string is one: the parser hands out broken UTF-8 as bytes."""
    for field, held in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        several = (held,) if isinstance(held, str | bytes | Message) else held
        for item in several:
            if isinstance(item, bytes) or (isinstance(item, Message) and not _is_text(item)):
                return False
    return True


def _check_inputs(graph: onnx.GraphProto) -> None:
    for info in pure_inputs(graph):
        _typed(info, "", "")


def _check_vocabulary(model: onnx.ModelProto) -> None:
    if model.functions:
        raise InvalidModel(
            f"it defines the function '{model.functions[0].name}'",
            "inline it with onnx.inliner.inline_local_functions",
        )
    if model.graph.sparse_initializer:
        raise InvalidModel("it has sparse initialisers", "make them dense")
    opset = opset_of(model)
    _refuse_external(model.graph.initializer, "", "")
    for node in model.graph.node:
        if node.domain not in _ONNX_DOMAINS:
            raise InvalidModel(
                f"its domain is '{node.domain}'",
                "use operators of the ONNX domain only",
                node.name,
                node.op_type,
            )
        if not _known(node.op_type, opset):
            raise InvalidModel(
                f"opset {opset} has no such operator",
                "export the model with operators of its opset",
                node.name,
                node.op_type,
            )
        for attribute in node.attribute:
            if attribute.type in _SUBGRAPHS:
                raise InvalidModel(
                    f"attribute '{attribute.name}' is a subgraph",
                    "export the model without control flow",
                    node.name,
                    node.op_type,
                )
        _refuse_external(_tensors(node), node.name, node.op_type)


def _known(operator: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return False
    return True


def _tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors


def _refuse_external(tensors: Iterable[onnx.TensorProto], node: str, operator: str) -> None:
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidModel(
                f"tensor '{tensor.name}' is stored in another file",
                "save the model with its tensors inside",
                node,
                operator,
            )


def _first_line(exc: Exception) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), "no reason given")
