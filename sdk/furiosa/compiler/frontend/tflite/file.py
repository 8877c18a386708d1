"""From a stranger's bytes to the tensors and operators of a TensorFlow Lite model.

Whatever is wrong with the bytes ends here: nothing outside of them is read, what is read is bounded, and
every way in which the flatbuffers package stumbles over them is one named error.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tflite

from furiosa.common.model_limits import MAX_MODEL_BYTES
from furiosa.common.tensor import DType
from furiosa.compiler.diagnostics import InvalidFormat, InvalidModel
from furiosa.compiler.value import Array, QuantParams

VERSION: Final = 3
MAX_OPERATORS: Final = 100_000
MAX_TENSORS: Final = 1_000_000
MAX_NAME: Final = 4096  # bytes

Option = int | float | bool

# What flatbuffers and numpy raise when offsets or lengths point nowhere.
_BROKEN: Final = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
_HINT: Final = "export it anew"


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """`data` is set for constants. Shapes are those of the file: NHWC, every dimension positive."""

    index: int
    name: str
    dtype: DType
    shape: tuple[int, ...]
    quantization: QuantParams | None
    data: Array | None


@dataclass(frozen=True, slots=True)
class Operator:
    """`inputs` has -1 for an optional input left out. Options left out of the file are missing here."""

    index: int
    kind: str  # name of the builtin operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option]

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.index}"


@dataclass(frozen=True, slots=True)
class Model:
    """`tensors` has those that operators, inputs and outputs name."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
    tensors: Mapping[int, Tensor]


def read_tflite(data: bytes) -> Model:
    """Raises: InvalidFormat for what is no whole TFLite model; InvalidModel for one we cannot take."""
    if len(data) > MAX_MODEL_BYTES:
        raise InvalidFormat(
            f"the model has {len(data)} bytes", f"models of up to {MAX_MODEL_BYTES} bytes are taken"
        )
    try:
        return _Reader(data).model()
    except _BROKEN as exc:
        raise InvalidFormat(
            f"this is a TensorFlow Lite model that is broken or cut off ({exc})", _HINT
        ) from None


def _names(enumeration: type[Any]) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


_BUILTINS: Final = _names(tflite.BuiltinOperator)
_TYPES: Final = _names(tflite.TensorType)
_DTYPES: Final[Mapping[str, DType]] = {dtype.name: dtype for dtype in DType}

_WINDOW: Final = ("Padding", "StrideH", "StrideW")
_FUSED: Final = ("FusedActivationFunction",)
_POOL: Final = (*_WINDOW, "FilterHeight", "FilterWidth", *_FUSED)
_CONV: Final = (*_WINDOW, "DilationHFactor", "DilationWFactor", *_FUSED)
_CORNERS: Final = ("AlignCorners", "HalfPixelCenters")
_MASKS: Final = (
    "BeginMask",
    "EndMask",
    "EllipsisMask",
    "NewAxisMask",
    "ShrinkAxisMask",
    "Offset",
)

_OPTIONS: Final[Mapping[str, tuple[type[Any], type[Any], tuple[str, ...]]]] = {
    kind: (table, getattr(tflite.BuiltinOptions, table.__name__), fields)
    for kind, table, fields in (
        ("ADD", tflite.AddOptions, _FUSED),
        ("AVERAGE_POOL_2D", tflite.Pool2DOptions, _POOL),
        ("CONCATENATION", tflite.ConcatenationOptions, ("Axis", *_FUSED)),
        ("CONV_2D", tflite.Conv2DOptions, _CONV),
        ("DEPTHWISE_CONV_2D", tflite.DepthwiseConv2DOptions, (*_CONV, "DepthMultiplier")),
        ("DEPTH_TO_SPACE", tflite.DepthToSpaceOptions, ("BlockSize",)),
        ("DIV", tflite.DivOptions, _FUSED),
        ("FULLY_CONNECTED", tflite.FullyConnectedOptions, (*_FUSED, "WeightsFormat")),
        ("GATHER", tflite.GatherOptions, ("Axis", "BatchDims")),
        ("L2_NORMALIZATION", tflite.L2NormOptions, _FUSED),
        ("LEAKY_RELU", tflite.LeakyReluOptions, ("Alpha",)),
        ("MAX_POOL_2D", tflite.Pool2DOptions, _POOL),
        ("MEAN", tflite.ReducerOptions, ("KeepDims",)),
        ("MIRROR_PAD", tflite.MirrorPadOptions, ("Mode",)),
        ("MUL", tflite.MulOptions, _FUSED),
        ("PACK", tflite.PackOptions, ("Axis", "ValuesCount")),
        ("REDUCE_MAX", tflite.ReducerOptions, ("KeepDims",)),
        ("REDUCE_MIN", tflite.ReducerOptions, ("KeepDims",)),
        ("RESIZE_BILINEAR", tflite.ResizeBilinearOptions, _CORNERS),
        ("RESIZE_NEAREST_NEIGHBOR", tflite.ResizeNearestNeighborOptions, _CORNERS),
        ("SOFTMAX", tflite.SoftmaxOptions, ("Beta",)),
        ("SPACE_TO_DEPTH", tflite.SpaceToDepthOptions, ("BlockSize",)),
        ("STRIDED_SLICE", tflite.StridedSliceOptions, _MASKS),
        ("SUB", tflite.SubOptions, _FUSED),
        ("SUM", tflite.ReducerOptions, ("KeepDims",)),
        ("TRANSPOSE_CONV", tflite.TransposeConvOptions, (*_WINDOW, *_FUSED)),
        ("UNPACK", tflite.UnpackOptions, ("Axis", "Num")),
    )
}


class _Reader:
    """Reads one file. Every vector is charged, because small files can name one large vector often."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_MODEL_BYTES
        self._model: Any = tflite.Model.GetRootAs(data, 0)

    def model(self) -> Model:
        source = self._model
        if source.Version() != VERSION:
            raise InvalidModel(f"its schema version is {source.Version()}", f"{VERSION} is taken")
        if source.SubgraphsLength() != 1:
            raise InvalidModel(
                f"it has {source.SubgraphsLength()} subgraphs", "export it without control flow"
            )
        graph = source.Subgraphs(0)
        for what, found, limit in (
            ("operators", graph.OperatorsLength(), MAX_OPERATORS),
            ("tensors", graph.TensorsLength(), MAX_TENSORS),
        ):
            if found > limit:
                raise InvalidModel(f"it has {found} {what}", f"up to {limit} are taken")
        operators = tuple(self._operator(graph, i) for i in range(graph.OperatorsLength()))
        inputs = self._numbers(graph.InputsLength, graph.InputsAsNumpy)
        outputs = self._numbers(graph.OutputsLength, graph.OutputsAsNumpy)
        used = {*inputs, *outputs}
        for operator in operators:
            used.update(operator.inputs, operator.outputs)
        used.discard(-1)
        count = graph.TensorsLength()
        if outside := sorted(index for index in used if not 0 <= index < count):
            raise InvalidFormat(f"it names tensor {outside[0]} of {count}", _HINT)
        tensors = {index: self._tensor(graph.Tensors(index), index) for index in sorted(used)}
        return Model(self._text(graph.Name()), inputs, outputs, operators, tensors)

    def _operator(self, graph: Any, index: int) -> Operator:
        source = graph.Operators(index)
        codes = self._model.OperatorCodesLength()
        if source.OpcodeIndex() >= codes:
            raise InvalidFormat(
                f"operator {index} names operator code {source.OpcodeIndex()} of {codes}", _HINT
            )
        code = self._model.OperatorCodes(source.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = _BUILTINS.get(number, f"BUILTIN_{number}")
        if kind == "CUSTOM":
            raise InvalidModel(
                f"it is the custom operator '{self._text(code.CustomCode())}'",
                "export the model with builtin operators only",
                f"{kind}_{index}",
                kind,
            )
        return Operator(
            index,
            kind,
            self._numbers(source.InputsLength, source.InputsAsNumpy),
            self._numbers(source.OutputsLength, source.OutputsAsNumpy),
            self._options(source, kind),
        )

    def _options(self, source: Any, kind: str) -> dict[str, Option]:
        if kind not in _OPTIONS or (table := source.BuiltinOptions()) is None:
            return {}
        cls, number, fields = _OPTIONS[kind]
        if source.BuiltinOptionsType() != number:
            raise InvalidFormat(
                f"a {kind} has options of type {source.BuiltinOptionsType()}, not {number}", _HINT
            )
        options = cls()
        options.Init(table.Bytes, table.Pos)
        return {field: getattr(options, field)() for field in fields}

    def _tensor(self, source: Any, index: int) -> Tensor:
        name = self._text(source.Name()) or f"tensor_{index}"
        kind = _TYPES.get(source.Type(), str(source.Type()))
        if kind not in _DTYPES:
            raise InvalidModel(
                f"tensor '{name}' has element type {kind}", f"use one of {', '.join(_DTYPES)}"
            )
        for found, hint in (
            (source.Sparsity() is not None and "sparse", "make it dense"),
            (source.IsVariable() and "a variable", "export the model without state"),
        ):
            if found:
                raise InvalidModel(f"tensor '{name}' is {found}", hint)
        shape = self._shape(source, name)
        dtype = _DTYPES[kind]
        data = self._constant(source.Buffer(), name, dtype, shape)
        return Tensor(
            index, name, dtype, shape, self._quantization(source, name, dtype, shape), data
        )

    def _shape(self, source: Any, name: str) -> tuple[int, ...]:
        """The shape the file was exported with; only dimension 0 may be declared as open to change."""
        shape = self._numbers(source.ShapeLength, source.ShapeAsNumpy)
        declared = self._numbers(source.ShapeSignatureLength, source.ShapeSignatureAsNumpy)
        if any(size <= 0 for size in shape) or any(size <= 0 for size in declared[1:]):
            raise InvalidModel(
                f"tensor '{name}' has a dynamic dimension: {list(declared or shape)}",
                "export the model with static shapes",
            )
        return shape

    def _constant(
        self, index: int, name: str, dtype: DType, shape: tuple[int, ...]
    ) -> Array | None:
        if index == 0:
            return None  # buffer 0 is empty by definition
        if index >= self._model.BuffersLength():
            raise InvalidFormat(f"tensor '{name}' is in buffer {index}, which is missing", _HINT)
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1:
            raise InvalidModel(
                f"tensor '{name}' is stored behind the model", "export it below 2 GB"
            )
        length = buffer.DataLength()
        if not length:
            return None
        needed = math.prod(shape) * dtype.itemsize
        if length != needed:
            raise InvalidFormat(f"tensor '{name}' has {length} bytes, needs {needed}", _HINT)
        self._charge(length)
        raw = buffer.DataAsNumpy().tobytes()  # a copy is aligned
        return np.frombuffer(raw, dtype.numpy).reshape(shape)

    def _quantization(
        self, source: Any, name: str, dtype: DType, shape: tuple[int, ...]
    ) -> QuantParams | None:
        given = source.Quantization()
        if given is None or not given.ScaleLength() or dtype not in _STORED:
            return None
        if given.DetailsType():
            raise InvalidModel(f"tensor '{name}' has a quantisation of its own", "use the standard")
        scales = self._vector(given.ScaleLength, given.ScaleAsNumpy)
        points = self._numbers(given.ZeroPointLength, given.ZeroPointAsNumpy) or (0,) * len(scales)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise InvalidModel(
                f"tensor '{name}' has scale {scales.min()}", "quantise the model anew"
            )
        limits = np.iinfo(dtype.value)
        if not limits.min <= min(points) <= max(points) <= limits.max:
            raise InvalidModel(
                f"tensor '{name}' has a zero point outside of {dtype.value}",
                "quantise the model anew",
            )
        axis = given.QuantizedDimension() if len(scales) > 1 else None
        expected = 1
        if axis is not None:
            expected = shape[axis] if 0 <= axis < len(shape) else 0
        if not len(scales) == len(points) == expected:
            raise InvalidModel(
                f"tensor '{name}' of shape {list(shape)} has {len(scales)} scales and "
                f"{len(points)} zero points on axis {axis}",
                "quantise the model anew",
            )
        return QuantParams(tuple(scales.tolist()), points, axis)

    def _text(self, raw: bytes | None) -> str:
        if raw and len(raw) > MAX_NAME:
            raise InvalidModel(
                f"it has a name of {len(raw)} bytes", f"at most {MAX_NAME} are taken"
            )
        return (raw or b"").decode("utf-8")

    def _numbers(self, length: Callable[[], int], read: Callable[[], Any]) -> tuple[int, ...]:
        return tuple(self._vector(length, read).tolist())

    def _vector(self, length: Callable[[], int], read: Callable[[], Any]) -> Array:
        count = length()
        if not count:
            return np.zeros(0, np.int32)
        if count > len(self._data):
            raise InvalidFormat(
                f"a list of it has {count} numbers, more than there are bytes", _HINT
            )
        self._charge(32 * count)  # as Python numbers
        array: Array = read()
        return array

    def _charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise InvalidModel(
                f"its constants take more than {MAX_MODEL_BYTES} bytes", "make the model smaller"
            )


_STORED: Final = (DType.INT8, DType.UINT8, DType.INT32, DType.INT16)
