"""From a stranger's bytes to an ONNX model that is worth looking at: bounded, whole and static.

Nothing but the bytes is read: external tensor data is refused, not followed.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import onnx
from google.protobuf.message import DecodeError, Message

from furiosa.common.model_limits import MAX_MODEL_BYTES
from furiosa.compiler.diagnostics import InvalidFormat, InvalidModel
from furiosa.compiler.frontend.qlinear import MICROSOFT, QLINEAR
from furiosa.compiler.frontend.shapes import check, check_inputs

MIN_OPSET: Final = 7
MAX_OPSET: Final = 22
MAX_NODES: Final = 100_000
ONNX_DOMAINS: Final = ("", "ai.onnx")
_PLAIN: Final = {
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.INT,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.TENSOR,
    onnx.AttributeProto.FLOATS,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.STRINGS,
}


def read_model(data: bytes) -> onnx.ModelProto:
    """A model of the operators of its opset and those of QLINEAR, in order of execution.

    Operators of ONNX have the domain "".
    Raises: InvalidFormat for what is no ONNX model; InvalidModel for one we cannot take.
    """
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
    _check_parts(model)
    name_nodes(model.graph)
    opset = opset_of(model)
    _refuse_external(model.graph.initializer, "", "")
    for node in model.graph.node:
        _check_node(node, opset)
        if node.domain in ONNX_DOMAINS:
            node.domain = ""
    _check_order(model.graph)
    check_inputs(model.graph)
    check(model)
    return model


def name_nodes(graph: onnx.GraphProto) -> None:
    """A name of its own for every node that has none or another node's."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        while node.name in taken:
            node.name += "'"
        taken.add(node.name)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default domain. Raises: InvalidModel outside the supported range."""
    found = {o.version for o in model.opset_import if o.domain in ONNX_DOMAINS}
    newest = min(MAX_OPSET, onnx.defs.onnx_opset_version())
    if len(found) != 1 or not MIN_OPSET <= max(found) <= newest:
        named = " and ".join(map(str, sorted(found))) or "none"
        raise InvalidModel(
            f"the model is of opset {named}",
            f"export it with an opset from {MIN_OPSET} to {newest}",
        )
    return found.pop()


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


def _check_parts(model: onnx.ModelProto) -> None:
    if model.functions:
        raise InvalidModel(
            f"it defines the function '{model.functions[0].name}'",
            "inline it with onnx.inliner.inline_local_functions",
        )
    graph = model.graph
    if graph.sparse_initializer:
        raise InvalidModel("it has sparse initialisers", "make them dense")
    if len(graph.node) > MAX_NODES:
        raise InvalidModel(f"it has {len(graph.node)} nodes", f"up to {MAX_NODES} are taken")
    for what, names in (
        ("input", [info.name for info in graph.input]),
        ("initialiser", [tensor.name for tensor in graph.initializer]),
        ("output", [info.name for info in graph.output]),
    ):
        seen: set[str] = set()
        for name in names:
            if not name or name in seen:
                raise InvalidModel(
                    f"{what} '{name}' is declared twice" if name else f"an {what} has no name",
                    "export it anew",
                )
            seen.add(name)
    for tensor in graph.initializer:
        _check_dims(tensor, "", "")
    for info in graph.output:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                raise InvalidModel(
                    f"output '{info.name}' has the dimension {dim.dim_value}", "export it anew"
                )


def _check_dims(tensor: onnx.TensorProto, node: str, operator: str) -> None:
    if any(size < 0 for size in tensor.dims):
        found = f"tensor '{tensor.name}' has the dimension {min(tensor.dims)}"
        raise InvalidModel(found, "export the model anew", node, operator)


def _check_node(node: onnx.NodeProto, opset: int) -> None:
    def refusal(found: str, hint: str) -> InvalidModel:
        return InvalidModel(found, hint, node.name, node.op_type)

    if node.domain in ONNX_DOMAINS:
        if not _known(node.op_type, opset):
            raise refusal(
                f"opset {opset} has no such operator",
                "export the model with operators of its opset",
            )
    elif node.domain != MICROSOFT:
        raise refusal(f"its domain is '{node.domain}'", "use operators of the ONNX domain only")
    elif node.op_type not in QLINEAR:
        taken = ", ".join(QLINEAR)
        raise refusal(
            f"its domain is '{MICROSOFT}', of which this operator is not taken",
            f"use operators of the ONNX domain or {taken}",
        )
    seen = set()
    for attribute in node.attribute:
        kind = onnx.AttributeProto.AttributeType.DESCRIPTOR.values_by_number.get(attribute.type)
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise refusal(
                f"attribute '{attribute.name}' is a subgraph",
                "export the model without control flow",
            )
        if attribute.type not in _PLAIN or attribute.ref_attr_name:
            named = "a reference" if attribute.ref_attr_name or kind is None else kind.name
            raise refusal(
                f"attribute '{attribute.name}' is of kind {named}",
                "use operators with plain attributes",
            )
        if attribute.name in seen:
            raise refusal(f"attribute '{attribute.name}' is given twice", "export the model anew")
        seen.add(attribute.name)
    for tensor in _tensors(node):
        _check_dims(tensor, node.name, node.op_type)
    _refuse_external(_tensors(node), node.name, node.op_type)


def _check_order(graph: onnx.GraphProto) -> None:
    """Nodes read what is there already and make what is not."""
    there = {tensor.name for tensor in graph.initializer}
    there.update(info.name for info in graph.input)
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in there:
                found = f"it reads '{name}', which no earlier node makes"
                raise InvalidModel(found, "export the model anew", node.name, node.op_type)
        for name in filter(None, node.output):
            if name in there:
                found = f"its result '{name}' is there already"
                raise InvalidModel(found, "export the model anew", node.name, node.op_type)
            there.add(name)


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


def _refuse_external(tensors: Iterable[onnx.TensorProto], node: str, operator: str) -> None:
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidModel(
                f"tensor '{tensor.name}' is stored in another file",
                "save the model with its tensors inside, as furiosa.tools.compiler.models.read_model "
                "gives it",
                node,
                operator,
            )
