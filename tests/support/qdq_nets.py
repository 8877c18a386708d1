"""ONNX models in QDQ form around single operators, from stored integers to stored integers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import NpuSection, Program, read
from furiosa.vnpu.interpreter import Interpreter

Array = npt.NDArray[Any]
TARGETS = ("warboy", "warboy-2pe")
BATCHES = (1, 4)


class Qdq:
    """A graph under construction. Methods return the name of a float value, which stands between a
    DequantizeLinear and a QuantizeLinear."""

    def __init__(self, *, opset: int = 13, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def _linear(
        self,
        op: str,
        source: str,
        scale: npt.ArrayLike,
        zero: npt.ArrayLike,
        dtype: Any,
        **more: Any,
    ) -> str:
        names = [self.constant(np.asarray(scale, np.float32)), self.constant(np.array(zero, dtype))]
        return self.node(op, source, *names, **more)

    def input(self, *shape: int, scale: float = 0.05, zero: int = 3, dtype: Any = np.int8) -> str:
        """A graph input of stored integers."""
        name = f"x{len(self.inputs)}"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return self._linear("DequantizeLinear", name, scale, zero, dtype)

    def constant(self, data: npt.ArrayLike) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def stored(
        self,
        *shape: int,
        scale: npt.ArrayLike = 0.02,
        zero: int = 0,
        dtype: Any = np.int8,
        axis: int = 0,
    ) -> str:
        """A constant of random stored integers."""
        limits = np.iinfo(dtype)
        data = self.constant(self.rng.integers(limits.min, limits.max + 1, shape, dtype))
        more = {"axis": axis} if np.ndim(scale) else {}
        zeros = np.full(np.shape(scale), zero)
        return self._linear("DequantizeLinear", data, scale, zeros, dtype, **more)

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], f"n{len(self.nodes)}", domain=domain, **attributes)
        )
        return name

    def rounded(
        self, source: str, scale: float = 0.05, zero: int = -5, dtype: Any = np.int8
    ) -> str:
        """QuantizeLinear and DequantizeLinear."""
        stored = self.quantized(source, scale, zero, dtype)
        return self._linear("DequantizeLinear", stored, scale, zero, dtype)

    def quantized(
        self, source: str, scale: float = 0.05, zero: int = -5, dtype: Any = np.int8
    ) -> str:
        """QuantizeLinear: an output of the graph."""
        return self._linear("QuantizeLinear", source, scale, zero, dtype)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def program(model: onnx.ModelProto, **options: Any) -> Program:
    return read(compile(model.SerializeToString(), CompilerOptions(**options)))


def expected(model: onnx.ModelProto, inputs: Sequence[Array]) -> list[Array]:
    """From onnxruntime, operator by operator: without the rewrites that fuse QDQ pairs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_inputs()]
    found: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def images(model: onnx.ModelProto, seed: int = 1) -> list[Array]:
    """One of each input: every stored value occurs as far as there is room."""
    rng = np.random.default_rng(seed)
    made = []
    for info in model.graph.input:
        kind = info.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [dim.dim_value for dim in kind.shape.dim]
        limits = np.iinfo(dtype)
        values = np.resize(np.arange(limits.min, limits.max + 1), int(np.prod(shape)))
        made.append(rng.permutation(values).astype(dtype).reshape(shape))
    return made


def together(sets: Sequence[Sequence[Array]]) -> list[Array]:
    """Tensors of several inferences as those of one batch; a scalar is of one inference alone."""
    columns = zip(*sets, strict=True)
    return [np.concatenate(column) if len(sets) > 1 else column[0] for column in columns]


def worst(model: onnx.ModelProto, target: str = "warboy", batch: int = 1) -> int:
    """Largest difference of a stored value from onnxruntime, of a program that is all on the NPU."""
    compiled = program(model, target=target, batch_size=batch)
    assert [type(section) for section in compiled.sections] == [NpuSection]
    each = [images(model, seed) for seed in range(batch)]
    wanted = together([expected(model, inputs) for inputs in each])
    found = Interpreter(compiled).run(together(each))
    assert all((a.dtype, a.shape) == (b.dtype, b.shape) for a, b in zip(wanted, found, strict=True))
    pairs = zip(wanted, found, strict=True)
    return max(int(np.abs(a.astype(np.int32) - b).max()) for a, b in pairs)


def opcodes(model: onnx.ModelProto) -> list[str]:
    return [i.opcode.name for i in program(model).instructions]
