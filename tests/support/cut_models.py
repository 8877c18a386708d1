"""Models in QDQ form cut at their stored integers, so that each operator is judged by itself.

`opened` shows every stored tensor, as it is in a run of the whole; `Cuts` has onnxruntime compute each of
them from the others, as they were in that run.
"""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from support.qlinear_forms import use_qlinear

Array = npt.NDArray[Any]

# ways of rounding that differ from the NPU's in any case
_ROUGH = """
    AveragePool BatchNormalization GlobalAveragePool LpNormalization Mean ReduceMean Resize Softmax
    Celu Elu Erf Exp Gelu Log Mish Pow Selu Sigmoid Softplus Tanh
"""
# exact, where float32 holds every sum
_SUMS = "Add Conv ConvTranspose Gemm MatMul Mul ReduceL2 ReduceSum Sub Sum"


def stored_names(model: onnx.ModelProto) -> list[str]:
    return [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]


def opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, of which all stored tensors are outputs too."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    shown = {info.name for info in made.graph.output}
    types = {info.name: info for info in made.graph.value_info}
    made.graph.output.extend(types[n] for n in stored_names(model) if n not in shown)
    return made


class Cuts:
    """onnxruntime's answer for each stored tensor and each output, from given stored tensors.

    `exact`: float32 holds every sum of products of the model.
    """

    def __init__(self, model: onnx.ModelProto, *, exact: bool) -> None:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        graph = made.graph
        infos = {info.name: info for info in (*graph.value_info, *graph.output)}
        cuts = set(stored_names(model))
        read = {name for node in graph.node for name in node.input if name in cuts}
        for node in graph.node:
            node.input[:] = [_given(name) if name in cuts else name for name in node.input]
        for name in sorted(read):
            kind = infos[name].type.tensor_type
            shape = [dim.dim_value for dim in kind.shape.dim]
            graph.input.append(helper.make_tensor_value_info(_given(name), kind.elem_type, shape))
        shown = {info.name for info in graph.output}
        graph.output.extend(infos[name] for name in stored_names(model) if name not in shown)
        self._integral = use_qlinear(made)
        self._session = unfused(made)
        self._producers = {name: node for node in made.graph.node for name in node.output}
        self._rough = {*_ROUGH.split(), *(() if exact else _SUMS.split())}

    def tolerance(self, name: str) -> int:
        """How far the NPU may be from onnxruntime: 1 if an operator on the way rounds otherwise."""
        node = self._producers.get(name)
        if node is None or node.op_type == "DequantizeLinear" or name in self._integral:
            return 0
        here = int(node.op_type in self._rough and not _moves(node))
        return max(here, *map(self.tolerance, node.input))

    def answers(self, known: Mapping[str, Array]) -> dict[str, Array]:
        names = [item.name for item in self._session.get_inputs()]
        feed = {name: known[name.removesuffix(_GIVEN)] for name in names}
        outputs = [item.name for item in self._session.get_outputs()]
        return dict(zip(outputs, self._session.run(outputs, feed), strict=True))


_GIVEN = "/given"


def _given(name: str) -> str:
    return name + _GIVEN


def _moves(node: onnx.NodeProto) -> bool:
    """Resize to the nearest element."""
    return any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)


def unfused(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Operator by operator, without onnxruntime's own rewrites."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
