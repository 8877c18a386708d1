"""ONNX graphs of host sections: written by a small builder, checked before anyone runs them.

`onnx` is imported inside the functions: loading a program without host sections must not pay for it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf.limits import DEFAULT_LIMITS, MAX_DIMENSION, MAX_RANK, Limits, bounded
from furiosa.enf.program import Buffer
from furiosa.enf.protoscan import Malformed, parse

if TYPE_CHECKING:
    import onnx

# Source: onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_LARGE: Final = 4096  # bytes

IR_VERSION: Final = 8
DEFAULT_OPSET: Final = 17
OPSETS: Final = range(7, 22)
_IR_VERSIONS: Final = range(3, 11)
_RULE: Final = "host-graph"

# No control flow, nothing random, no sequences or strings, nothing whose result has a shape that
# depends on values.
_OPERATOR_NAMES: Final = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip
Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace
DequantizeLinear Det Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten
Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxUnpool Mean
MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RoiAlign Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh
Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS: Final = frozenset(_OPERATOR_NAMES.split())


class GraphBuilder:
    """Collects one graph; the same calls give the same bytes.

    Names passed in are kept and must be new; others are made up from a hint and a number.
    """

    def __init__(self, name: str, opset: int = DEFAULT_OPSET) -> None:
        import onnx

        self._names: set[str] = set()
        self._large: list[bytes | memoryview] = []  # initialisers, as the end of the model's bytes
        self._model = onnx.ModelProto(ir_version=IR_VERSION)
        self._model.opset_import.add(version=opset)
        self._graph = self._model.graph
        self._graph.name = name

    def input(self, name: str, dtype: DType, shape: Sequence[int]) -> str:
        self._graph.input.append(_value_info(self._claim(name), dtype, shape))
        return name

    def output(self, name: str, dtype: DType, shape: Sequence[int]) -> str:
        """Declares `name`, made by some node, to be a result."""
        self._graph.output.append(_value_info(name, dtype, shape))
        return name

    def constant(self, array: npt.NDArray[Any], hint: str = "c") -> str:
        """An initialiser of `array`, which must not change until `build`."""
        import onnx
        from onnx import helper

        name = self._fresh(hint)
        data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        if array.nbytes < _LARGE:
            tensor = self._graph.initializer.add(name=name, dims=array.shape, data_type=data_type)
            tensor.raw_data = array.tobytes()
        else:
            self._splice(onnx.TensorProto(name=name, dims=array.shape, data_type=data_type), array)
        return name

    def _splice(self, tensor: "onnx.TensorProto", array: npt.NDArray[Any]) -> None:
        """Keeps a large initialiser, whose `raw_data` are the values of `array`, out of the protobuf.

        Through it weights would be copied three times instead of once. A message field that comes again
        is merged into the first by every parser, and the graph's initialisers are a list.
        Source: protobuf encoding, "Last one wins".
        """
        raw = np.ascontiguousarray(array).data.cast("B")
        head = tensor.SerializeToString(deterministic=True) + _field(_RAW_DATA, len(raw))
        outer = _field(_INITIALIZER, len(head) + len(raw))
        size = len(outer) + len(head) + len(raw)
        self._large += [_field(_GRAPH, size) + outer + head, raw]

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Adds a node and returns the names of its outputs, which are made up when only counted."""
        from onnx import helper

        if isinstance(outputs, int):
            names = tuple(self._fresh(op) for _ in range(outputs))
        else:
            names = tuple(self._claim(name) for name in outputs)
        if domain not in {entry.domain for entry in self._model.opset_import}:
            self._model.opset_import.add(domain=domain, version=1)
        node = helper.make_node(op, list(inputs), names, domain=domain, **attributes)
        self._graph.node.append(node)
        return names

    def build(self) -> bytes:
        """A serialised ONNX model."""
        return b"".join((self._model.SerializeToString(deterministic=True), *self._large))

    def _fresh(self, hint: str) -> str:
        number = len(self._names)
        while (name := f"{hint}_{number}") in self._names:
            number += 1
        return self._claim(name)

    def _claim(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"the graph {self._graph.name!r} has two values called {name!r}")
        if name:  # an empty name is an optional output left out
            self._names.add(name)
        return name


def _field(number: int, size: int) -> bytes:
    """What comes before the bytes of a protobuf field that has a length."""
    out = bytearray((number << 3 | 2,))
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _elem_type(dtype: DType) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(dtype.numpy)


def _value_info(name: str, dtype: DType, shape: Sequence[int]) -> "onnx.ValueInfoProto":
    from onnx import helper

    return helper.make_tensor_value_info(name, _elem_type(dtype), list(shape))


def check_host_graph(
    data: bytes,
    inputs: Sequence[Buffer],
    outputs: Sequence[Buffer],
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Refuse an ONNX graph that a host section must not hand to onnxruntime.

    The graph takes and gives tensors of exactly the types and shapes of `inputs` and `outputs`; every
    value in it has a shape that is known beforehand and bounded.
    Raises: InvalidProgram.
    """
    bounded(_RULE, "the size of the graph", len(data), limits.graph_bytes)
    model = _parse(data, limits)
    for message in _form(model, limits):
        raise InvalidProgram(_RULE, message)
    for what, values, buffers in (
        ("input", model.graph.input, inputs),
        ("output", model.graph.output, outputs),
    ):
        if len(values) != len(buffers):
            raise InvalidProgram(
                _RULE, f"the graph has {len(values)} {what}s, expected {len(buffers)}"
            )
        for value, buffer in zip(values, buffers, strict=True):
            _expect(f"{what} {value.name[:80]!r}", value.type, buffer)
    _infer(model, outputs, limits)


def operator_types(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """What the nodes of a host section's graph are, in order. Raises: InvalidProgram."""
    return tuple(node.op_type for node in _parse(data, limits).graph.node)


def _parse(data: bytes, limits: Limits) -> "onnx.ModelProto":
    import onnx

    model = onnx.ModelProto()
    try:
        parse(data, model, model.DESCRIPTOR, limits.graph_fields)
    except Malformed as error:
        raise InvalidProgram(_RULE, f"the graph cannot be parsed: {error}") from None
    return model


def _form(model: "onnx.ModelProto", limits: Limits) -> Iterator[str]:
    graph = model.graph
    if model.ir_version not in _IR_VERSIONS:
        yield f"the IR version is {model.ir_version}"
    opsets = [(entry.domain, entry.version) for entry in model.opset_import]
    if len(opsets) != 1 or opsets[0][0] or opsets[0][1] not in OPSETS:
        yield f"the operator sets are {opsets[:8]}, expected one of the default domain"
    refused = {
        "functions": model.functions,
        "training information": model.training_info,
        "sparse initialisers": graph.sparse_initializer,
        "quantisation annotations": graph.quantization_annotation,
        "declared inner shapes": graph.value_info,
    }
    for what, found in refused.items():
        if found:
            yield f"the graph has {what}"
    if len(graph.node) > limits.graph_nodes:
        yield f"the graph has {len(graph.node)} nodes, the limit is {limits.graph_nodes}"
    for index, node in enumerate(graph.node):
        for message in _node(node):
            yield f"node {index}: {message}"
    names = [value.name for value in graph.input]
    for tensor in graph.initializer:
        names.append(tensor.name)
        for message in _tensor(tensor):
            yield f"initialiser {tensor.name[:80]!r}: {message}"
    if len(set(names)) != len(names):
        yield "two inputs or initialisers share a name"


def _node(node: "onnx.NodeProto") -> Iterator[str]:
    from onnx import AttributeProto

    if node.domain:
        yield f"{node.op_type[:80]!r} is of the domain {node.domain[:80]!r}"
    if node.op_type not in OPERATORS:
        yield f"{node.op_type[:80]!r} is not one of the operators of host sections"
    plain = {
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    }
    for attribute in node.attribute:
        name = attribute.name[:80]
        graphs = attribute.HasField("g") or attribute.graphs or attribute.sparse_tensors
        others = attribute.HasField("sparse_tensor") or attribute.tensors or attribute.type_protos
        if attribute.type not in plain or attribute.ref_attr_name or graphs or others:
            yield f"attribute {name!r} is no number, string or tensor"
        if attribute.HasField("t"):
            for message in _tensor(attribute.t):
                yield f"attribute {name!r}: {message}"


def _tensor(tensor: "onnx.TensorProto") -> Iterator[str]:
    sizes = _item_sizes()
    if tensor.data_type not in sizes:
        yield f"data type {tensor.data_type} is not a number"
        return
    if tensor.external_data or tensor.data_location or tensor.HasField("segment"):
        yield "the values are not in the graph"
    dims = list(tensor.dims[: MAX_RANK + 1])
    if len(dims) > MAX_RANK or not all(0 <= size <= MAX_DIMENSION for size in dims):
        yield f"the shape starts with {dims}"
        return
    size = math.prod(dims) * sizes[tensor.data_type]
    if len(tensor.raw_data) != size:
        yield f"there are {len(tensor.raw_data)} raw bytes for {size} of shape {dims}"
    typed = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
    if any(len(getattr(tensor, field)) for field in typed):
        yield "the values are not raw bytes"


def _expect(what: str, found: "onnx.TypeProto", buffer: Buffer) -> None:
    """Refuses any type but the buffer's own."""
    wanted = _elem_type(buffer.dtype)
    tensor = found.tensor_type
    dims = list(tensor.shape.dim[: MAX_RANK + 1])
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    if (
        not found.HasField("tensor_type")
        or tensor.elem_type != wanted
        or not tensor.HasField("shape")
        or shape != buffer.shape
    ):
        raise InvalidProgram(
            _RULE,
            f"{what} is {_show(tensor.elem_type, shape)}, the buffer {_show(wanted, buffer.shape)}",
        )


def _show(elem_type: int, shape: Sequence[int | None]) -> str:
    return f"type {elem_type} of shape {['?' if size is None else size for size in shape]}"


def _infer(model: "onnx.ModelProto", outputs: Sequence[Buffer], limits: Limits) -> None:
    """Runs shape inference with nothing declared but the inputs, and bounds every value."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.ClearField("type")
    try:
        onnx.checker.check_model(model.SerializeToString())
        inferred = onnx.shape_inference.infer_shapes(
            bare, check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as error:  # a stranger's graph; onnx raises whatever its C++ threw
        text = str(error).strip().splitlines()
        raise InvalidProgram(_RULE, f"onnx refuses it: {text[0][:300] if text else ''}") from None
    for value, buffer in zip(inferred.graph.output, outputs, strict=True):
        _expect(f"output {value.name[:80]!r} as inferred", value.type, buffer)
    known = {value.name: value.type for value in inferred.graph.value_info}
    known |= {value.name: value.type for value in inferred.graph.output}
    for node in inferred.graph.node:
        for name in node.output:
            if name:
                _bounded_value(name, known.get(name), limits)


def _bounded_value(name: str, found: "onnx.TypeProto | None", limits: Limits) -> None:
    tensor = found.tensor_type if found is not None else None
    if tensor is None or not tensor.HasField("shape"):
        raise InvalidProgram(_RULE, f"the shape of {name[:80]!r} is not known beforehand")
    size = _item_sizes().get(tensor.elem_type, 0)
    if not size:
        raise InvalidProgram(_RULE, f"{name[:80]!r} has the type {tensor.elem_type}, no number")
    for dimension in tensor.shape.dim:
        if not dimension.HasField("dim_value") or dimension.dim_value < 0:
            raise InvalidProgram(_RULE, f"a dimension of {name[:80]!r} is not known beforehand")
        size *= dimension.dim_value
    bounded(_RULE, f"the size of {name[:80]!r} in bytes", size, limits.tensor_bytes)


def _item_sizes() -> dict[int, int]:
    from onnx import TensorProto

    return {
        TensorProto.BOOL: 1,
        TensorProto.INT8: 1,
        TensorProto.UINT8: 1,
        TensorProto.INT16: 2,
        TensorProto.UINT16: 2,
        TensorProto.FLOAT16: 2,
        TensorProto.INT32: 4,
        TensorProto.UINT32: 4,
        TensorProto.FLOAT: 4,
        TensorProto.INT64: 8,
        TensorProto.UINT64: 8,
        TensorProto.DOUBLE: 8,
    }
