"""Small ONNX models from stored integers to stored integers, and what they must compute.

Dequantize -> operators -> Quantize. Scales are powers of 2 by default, so that onnxruntime's float sums of
such products are exact and its answers are the only right ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import HostSection, Program, read
from furiosa.vnpu.interpreter import Interpreter
from support.models import Array

TARGETS = ("warboy", "warboy-2pe")
_TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


class Net:
    """A graph under construction. Methods return names; `input` and `weights` those of real values."""

    def __init__(self, dtype: str = "int8", opset: int = 17) -> None:
        self.rng = np.random.default_rng(7)
        self.dtype, self.opset = dtype, opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, data: Any, dtype: str = "int64") -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(data, dtype), name))
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def several(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        name = f"{op}{len(self.nodes)}"
        names = [f"{name}:{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, name, **attributes))
        return names

    def linear(self, op: str, source: str, scale: Any, zero: Any, dtype: str, **more: Any) -> str:
        params = self.constant(scale, "float32"), self.constant(zero, dtype)
        return self.node(op, [source, *params], **more)

    def input(self, *shape: int, scale: float = 0.5, zero: int = 3) -> str:
        """Arrives stored, and is dequantised."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[self.dtype], shape))
        return self.linear("DequantizeLinear", name, scale, zero, self.dtype)

    def real(self, *shape: int) -> str:
        """An input of real numbers."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def weights(self, *shape: int, axis: int | None = None) -> str:
        stored = self.constant(self.rng.integers(-127, 128, shape), "int8")
        if axis is None:
            return self.linear("DequantizeLinear", stored, 0.25, 0, "int8")
        scales = 2.0 ** -self.rng.integers(1, 4, shape[axis])
        zeros = np.zeros(shape[axis])
        return self.linear("DequantizeLinear", stored, scales, zeros, "int8", axis=axis)

    def quantized(self, name: str, scale: float = 0.5, zero: int = 3) -> str:
        """Quantised and dequantised, as between any two operators."""
        stored = self.linear("QuantizeLinear", name, scale, zero, self.dtype)
        return self.linear("DequantizeLinear", stored, scale, zero, self.dtype)

    def output(self, name: str, scale: float = 0.5, zero: int = 3) -> None:
        """Leaves stored."""
        stored = self.linear("QuantizeLinear", name, scale, zero, self.dtype)
        self.outputs.append(helper.make_tensor_value_info(stored, _TYPES[self.dtype], None))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def check(
    net: Net, *, worst: int = 0, batches: Sequence[int] = (1, 4), host: bool = False
) -> Program:
    """Both targets, at each batch size, store what onnxruntime stores, to within `worst`, without the host.

    With `host` there must be a host section instead. Returns the last program.
    """
    model = net.model()
    session = _session(model)
    rng = np.random.default_rng(1)
    feeds = [_random(rng, session) for _ in range(max(batches))]
    names = [item.name for item in session.get_inputs()]
    expected = [session.run(None, feed) for feed in feeds]
    for target in TARGETS:
        for batch in batches:
            options = CompilerOptions(target=target, batch_size=batch)
            compiled = read(compile(model.SerializeToString(), options))
            assert host == any(isinstance(section, HostSection) for section in compiled.sections)
            inputs = [np.concatenate([feed[name] for feed in feeds[:batch]]) for name in names]
            for index, ours in enumerate(Interpreter(compiled).run(inputs)):
                theirs = np.concatenate([answer[index] for answer in expected[:batch]])
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
                assert np.abs(ours.astype(np.int64) - theirs).max() <= worst
    return compiled


def opcodes(program: Program) -> list[str]:
    return [instruction.opcode.name for instruction in program.instructions]


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _random(rng: np.random.Generator, session: ort.InferenceSession) -> dict[str, Array]:
    feed: dict[str, Array] = {}
    for item in session.get_inputs():
        if item.type == "tensor(float)":
            feed[item.name] = rng.uniform(-50, 50, item.shape).astype(np.float32)
        else:
            numbers = rng.integers(0, 256, item.shape, np.uint8)
            feed[item.name] = numbers.view(item.type[len("tensor(") : -1])
    return feed
