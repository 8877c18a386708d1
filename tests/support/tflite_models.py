"""Small TensorFlow Lite models to compile, and LiteRT to compare with. Shapes are NHWC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite
from ai_edge_litert.interpreter import Interpreter, OpResolverType

Array = npt.NDArray[Any]
NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
SAME, VALID = 0, 1

_OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNPACK": "UnpackOptions",
}
_ONE_VERSION = (
    "ELU",
    "EXPAND_DIMS",
    "HARD_SWISH",
    "PRELU",
    "RELU_0_TO_1",
    "RELU_N1_TO_1",
    "RESHAPE",
)
_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int32": "INT32",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
}


@dataclass(frozen=True)
class Quant:
    scales: Sequence[float] | Array
    points: Sequence[int] = (0,)
    axis: int = 0


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: Sequence[int]
    quant: Quant | None
    data: Array | None
    signature: Sequence[int] | None


class Net:
    """A model under construction. Tensors are numbers, in the order in which they were made."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: list[_Tensor] = []
        self.operators: list[tuple[str, Sequence[int], Sequence[int], dict[str, Any]]] = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "float32",
        quant: Quant | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        self.tensors.append(_Tensor(dtype, shape, quant, None, signature))
        return len(self.tensors) - 1

    def constant(self, data: Array, quant: Quant | None = None) -> int:
        self.tensors.append(_Tensor(data.dtype.name, data.shape, quant, data, None))
        return len(self.tensors) - 1

    def node(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """`options` are named as in the schema, in CamelCase; returns `output`."""
        self.operators.append((kind, inputs, (output,), options))
        return output

    def several(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any
    ) -> None:
        """An operator with more than one result."""
        self.operators.append((kind, inputs, tuple(outputs), options))

    def model(self, inputs: Sequence[int], outputs: Sequence[int], subgraphs: int = 1) -> bytes:
        b = flatbuffers.Builder(1024)
        buffers = [self._buffer(b, None), *(self._buffer(b, t.data) for t in self.tensors)]
        tensors = [self._tensor(b, index, item) for index, item in enumerate(self.tensors)]
        kinds = sorted({kind for kind, *_ in self.operators})
        codes = [self._code(b, kind) for kind in kinds]
        operators = [self._operator(b, kinds, *item) for item in self.operators]
        name = b.CreateString("net")
        parts = {
            "Tensors": _offsets(b, tensors),
            "Inputs": _ints(b, inputs),
            "Outputs": _ints(b, outputs),
            "Operators": _offsets(b, operators),
            "Name": name,
        }
        graph = _table(b, "SubGraph", parts)
        model = {
            "Version": 3,
            "OperatorCodes": _offsets(b, codes),
            "Subgraphs": _offsets(b, [graph] * subgraphs),
            "Buffers": _offsets(b, buffers),
        }
        b.Finish(_table(b, "Model", model), file_identifier=b"TFL3")
        return bytes(b.Output())

    def _buffer(self, b: Any, data: Array | None) -> int:
        if data is None:
            return _table(b, "Buffer", {})
        return _table(
            b, "Buffer", {"Data": b.CreateNumpyVector(np.frombuffer(data.tobytes(), "u1"))}
        )

    def _tensor(self, b: Any, index: int, item: _Tensor) -> int:
        parts = {
            "Shape": _ints(b, item.shape),
            "Type": getattr(tflite.TensorType, _TYPES[item.dtype]),
            "Buffer": index + 1,
            "Name": b.CreateString(f"t{index}"),
        }
        if item.signature is not None:
            parts["ShapeSignature"] = _ints(b, item.signature)
        if item.quant is not None:
            quant = {
                "Scale": b.CreateNumpyVector(np.array(item.quant.scales, np.float32)),
                "ZeroPoint": b.CreateNumpyVector(np.array(item.quant.points, np.int64)),
                "QuantizedDimension": item.quant.axis,
            }
            parts["Quantization"] = _table(b, "QuantizationParameters", quant)
        return _table(b, "Tensor", parts)

    def _code(self, b: Any, kind: str) -> int:
        number = getattr(tflite.BuiltinOperator, kind)
        parts = {"BuiltinCode": number, "DeprecatedBuiltinCode": min(number, 127), "Version": 1}
        if kind == "CUSTOM":
            parts["CustomCode"] = b.CreateString("MyOperator")
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
            parts["Version"] = 3  # the first for int8 and, of the last, with a bias
        elif kind not in _ONE_VERSION and any(item.dtype == "int8" for item in self.tensors):
            parts["Version"] = 2
        return _table(b, "OperatorCode", parts)

    def _operator(
        self,
        b: Any,
        kinds: list[str],
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: dict[str, Any],
    ) -> int:
        parts = {
            "OpcodeIndex": kinds.index(kind),
            "Inputs": _ints(b, inputs),
            "Outputs": _ints(b, outputs),
        }
        if kind in _OPTIONS:
            name = _OPTIONS[kind]
            parts["BuiltinOptions"] = _table(b, name, options)
            parts["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
        return _table(b, "Operator", parts)


def _table(b: Any, name: str, fields: dict[str, Any]) -> int:
    getattr(tflite, f"{name}Start")(b)
    for field, value in fields.items():
        getattr(tflite, f"{name}Add{field}")(b, value)
    end: int = getattr(tflite, f"{name}End")(b)
    return end


def _ints(b: Any, numbers: Sequence[int]) -> int:
    vector: int = b.CreateNumpyVector(np.array(numbers, np.int32))
    return vector


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    vector: int = b.EndVector()
    return vector


def run(model: bytes, *inputs: Array) -> list[Array]:
    """What LiteRT answers, with the kernels it takes by itself."""
    interpreter = Interpreter(
        model_content=model, num_threads=1, experimental_op_resolver_type=OpResolverType.AUTO
    )
    interpreter.allocate_tensors()
    for detail, data in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], data)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
