"""Type and static shape of every tensor of an ONNX model, by onnx's own inference."""

import math
import re
from typing import Final

import onnx

from furiosa.common.tensor import DType
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.enf.limits import MAX_RANK

Shapes = dict[str, tuple[DType, tuple[int, ...]]]

DTYPES: Final = ", ".join(dtype.value for dtype in DType)
MAX_ELEMENTS: Final = 1 << 40  # of a tensor: more than any card holds, and far from overflowing
_SMALL: Final = 1 << 13  # elements of an initialiser that may say something about a shape
_STATIC: Final = "give every input a static shape, e.g. with furiosa.optimizer.optimize_model"
_COMPUTED: Final = "let furiosa.optimizer.optimize_model compute the shapes of the model"
_FAILURES: Final = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    RuntimeError,
    ValueError,
)
# operators whose results may have negative dimensions for inputs that have none
_WINDOWED: Final = frozenset(
    {"AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "MaxUnpool", "Pad"}
    | {"QLinearConv", "DeformConv", "RoiAlign", "MaxRoiPool"}
)
_MAX_INFERRED: Final = 1_000_000  # nodes, each counted as often as it is inferred
# where onnx's messages name a node
_INFERENCE: Final = re.compile(r"\(op_type:(.*?), node name: (.*?)\): (.*)")
_CHECKER: Final = re.compile(r"Bad node spec for node. Name: (.*) OpType: (.*)")
_LONGEST: Final = 1000  # characters of such a message: it may hold names out of the model


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def pure_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initialisers."""
    constants = initializers(graph)
    return [info for info in graph.input if info.name not in constants]


def check(model: onnx.ModelProto) -> None:
    """What the ONNX standard asks of nodes and names; types of outputs may be left out.

    Raises: InvalidModel.
    """
    light = _light(model)
    del light.graph.output[:]
    try:
        onnx.checker.check_model(light)
    except _FAILURES as exc:
        raise _refusal(exc, "the ONNX checker refuses it", "export it anew") from None


def check_inputs(graph: onnx.GraphProto) -> None:
    """Raises: InvalidModel for an input that is no tensor of a static shape."""
    for info in pure_inputs(graph):
        _typed(info, "", "")


def infer_shapes(model: onnx.ModelProto) -> Shapes:
    """Type and static shape of every input and of every result of a node.

    Raises: InvalidModel, naming the node and the value, when one is unknown.
    """
    try:
        graph = _inferred(model, strict=True)
    except _FAILURES as exc:
        raise _refusal(exc, "its shapes do not fit together", _STATIC) from None
    infos = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
    shapes = {info.name: _typed(info, "", "") for info in pure_inputs(model.graph)}
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in infos:
                found = f"the shape of its result '{name}' is unknown"
                raise InvalidModel(found, _COMPUTED, node.name, node.op_type)
            shapes[name] = _typed(infos[name], node.name, node.op_type)
    return shapes


def known_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Types of values as far as they can be told, for a model that may not be sound.

    Raises: InvalidModel for a dimension below 1.
    """
    try:
        graph = _inferred(model, strict=False)
    except _FAILURES:
        graph = model.graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {info.name: info.type.tensor_type for info in infos}


def _inferred(model: onnx.ModelProto, *, strict: bool) -> onnx.GraphProto:
    """onnx's inference of a Slice of something with a negative dimension ends the process.

    So what is before a Slice is inferred and looked at first, when it may have such dimensions.
    """
    light = _light(model)
    begins = _slices_behind_windows(light.graph)
    if len(begins) * len(light.graph.node) > _MAX_INFERRED:
        raise InvalidModel(
            f"it has {len(begins)} times a Slice behind a convolution, pooling or Pad",
            "give a smaller model",
        )
    for begin in begins:
        before = onnx.ModelProto()
        before.CopyFrom(light)
        del before.graph.node[begin:]
        del before.graph.output[:]
        graph = onnx.shape_inference.infer_shapes(before, data_prop=True).graph
        makers = {name: node for node in before.graph.node for name in node.output}
        for info in graph.value_info:
            dims = [d.dim_value for d in info.type.tensor_type.shape.dim if d.HasField("dim_value")]
            if any(size < 1 for size in dims):
                node = makers[info.name]
                found = f"its result '{info.name}' has the shape {dims}"
                raise InvalidModel(found, _STATIC, node.name, node.op_type)
    return onnx.shape_inference.infer_shapes(light, strict_mode=strict, data_prop=True).graph


def _slices_behind_windows(graph: onnx.GraphProto) -> list[int]:
    """Positions of each Slice that is the first one after one of _WINDOWED."""
    found, doubtful = [], False
    for position, node in enumerate(graph.node):
        if node.op_type in _WINDOWED:
            doubtful = True
        elif node.op_type == "Slice" and doubtful:
            found.append(position)
            doubtful = False
    return found


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs in the place of its weights, which would be copied back and forth.

    What it says itself of inner values is left out: that is for inference to find.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    source, graph = model.graph, light.graph
    graph.name = source.name
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    declared = {info.name for info in source.input}
    for tensor in source.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            kind = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            graph.input.add(name=tensor.name, type=kind)
    return light


def _typed(info: onnx.ValueInfoProto, node: str, operator: str) -> tuple[DType, tuple[int, ...]]:
    if not info.type.HasField("tensor_type"):
        raise InvalidModel(f"'{info.name}' is not a tensor", "use tensors only", node, operator)
    kind = info.type.tensor_type.elem_type
    try:
        dtype = DType.of(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except (ValueError, KeyError):
        raise InvalidModel(
            f"'{info.name}' has element type {type_name(kind)}",
            f"use one of {DTYPES}",
            node,
            operator,
        ) from None
    hint = _COMPUTED if operator else _STATIC
    if not info.type.tensor_type.HasField("shape"):
        raise InvalidModel(f"the shape of '{info.name}' is unknown", hint, node, operator)
    shape = []
    for dim in info.type.tensor_type.shape.dim:
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            found = dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            raise InvalidModel(
                f"the static shape of tensor '{info.name}' contains an unsupported dimension "
                f"value: {found}",
                hint,
                node,
                operator,
            )
        shape.append(dim.dim_value)
    if len(shape) > MAX_RANK or math.prod(shape) > MAX_ELEMENTS:
        raise InvalidModel(
            f"tensor '{info.name}' has the shape {shape[: MAX_RANK + 1]}",
            f"use up to {MAX_RANK} dimensions and {MAX_ELEMENTS} elements",
            node,
            operator,
        )
    return dtype, tuple(shape)


def type_name(kind: int) -> str:
    """ONNX's name of an element type, or the number when it has none."""
    found = onnx.TensorProto.DataType.DESCRIPTOR.values_by_number.get(kind)
    return str(kind) if found is None else found.name


def _refusal(exc: Exception, what: str, hint: str) -> InvalidModel:
    text = str(exc).strip()[:_LONGEST]
    found, node, operator = next(iter(text.splitlines()), "no reason given"), "", ""
    if place := _INFERENCE.search(text):
        operator, node, found = place.groups()
    elif place := _CHECKER.search(text):
        node, operator = place.groups()
    found = re.sub(r"\[\w*Error\] ", "", found).rstrip(".")
    return InvalidModel(f"{what}: {found}", hint, node, operator)
