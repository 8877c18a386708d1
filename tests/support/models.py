"""Small ONNX models to compile: a float CNN, and any float model brought into QDQ form.

Weights are random but fixed; ranges come from running the float model, so that nothing saturates by
accident. Shapes are NCHW.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
_QUANTIZED = {
    "Conv",
    "Gemm",
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Flatten",
    "Relu",
}
_ACTIVATIONS = {"Relu", "Clip"}


class Net:
    """A float graph under construction; each method appends a node and returns its result's name."""

    def __init__(self, shape: Sequence[int], *, opset: int = 13, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("image", TensorProto.FLOAT, list(shape))
        self.opset = opset

    def constant(self, name: str, data: Array | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def weights(self, name: str, *shape: int) -> str:
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        return self.constant(name, self.rng.normal(0, spread, shape).astype(np.float32))

    def node(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name, **attributes))
        return f"{name}:0"

    def conv(
        self,
        name: str,
        source: str,
        channels: int,
        out: int,
        kernel: int,
        group: int = 1,
        **more: Any,
    ) -> str:
        weights = self.weights(f"{name}.weight", out, channels // group, kernel, kernel)
        bias = self.constant(f"{name}.bias", self.rng.normal(0, 0.1, out).astype(np.float32))
        more.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", name, [source, weights, bias], group=group, **more)

    def gemm(self, name: str, source: str, features: int, out: int) -> str:
        weights = self.weights(f"{name}.weight", out, features)
        bias = self.constant(f"{name}.bias", self.rng.normal(0, 0.1, out).astype(np.float32))
        return self.node("Gemm", name, [source, weights, bias], transB=1)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", [self.input], infos, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def residual_cnn(
    *, tail: str = "", middle: str = "", opset: int = 13, batch: int = 1
) -> onnx.ModelProto:
    """2 convolutions, a depthwise one, a residual add, max pool, global average pool, gemm.

    `middle` is an operator after the first convolution, `tail` one after the last.
    """
    net = Net((batch, 3, 12, 10), opset=opset)
    x = net.node("Relu", "stem.relu", [net.conv("stem", "image", 3, 8, 3, strides=[2, 2])])
    if middle:
        x = net.node(middle, "middle", [x])
    deep = net.node("Relu", "deep.relu", [net.conv("deep", x, 8, 8, 3, group=8)])
    wide = net.conv("wide", deep, 8, 8, 1)
    x = net.node("Relu", "sum.relu", [net.node("Add", "sum", [wide, x])])
    x = net.node("MaxPool", "pool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", "flat", [net.node("GlobalAveragePool", "mean", [x])])
    x = net.gemm("head", x, 8, 5)
    if tail:
        x = net.node(tail, "tail", [x])
    return net.model(x)


def images(model: onnx.ModelProto, count: int = 4, seed: int = 1) -> list[Array]:
    """Inputs for the model's one input, uniform in -1..1."""
    rng = np.random.default_rng(seed)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(count)]


def run(model: onnx.ModelProto, image: Array) -> list[Array]:
    """What onnxruntime makes of it, with its graph optimisations off: operator by operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {session.get_inputs()[0].name: image}))


def quantized(model: onnx.ModelProto, dtype: type[np.generic] = np.int8) -> onnx.ModelProto:
    """The model in QDQ form: activations per tensor of `dtype`, weights int8 per channel, bias int32.

    Operators outside _QUANTIZED stay in float. An activation function is one unit with the operator
    before it.
    """
    return _Quantizer(model, dtype).build()


class _Quantizer:
    def __init__(self, model: onnx.ModelProto, dtype: type[np.generic]) -> None:
        self.model = model
        self.dtype = np.dtype(dtype)
        self.data = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.ranges = self._ranges()
        self.scales: dict[str, np.float32] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.renamed: dict[str, str] = {}  # value to what now carries it, dequantised

    def _ranges(self) -> dict[str, tuple[float, float]]:
        watched = onnx.ModelProto()
        watched.CopyFrom(self.model)
        names = [output for node in self.model.graph.node for output in node.output]
        del watched.graph.output[:]
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        watched = onnx.shape_inference.infer_shapes(watched)
        found: dict[str, tuple[float, float]] = {}
        for image in images(self.model, 8, seed=2):
            values = zip(
                [self.model.graph.input[0].name, *names], [image, *run(watched, image)], strict=True
            )
            for name, value in values:
                low, high = found.get(name, (0.0, 0.0))
                found[name] = min(low, float(value.min())), max(high, float(value.max()))
        return found

    def constant(self, name: str, data: Array) -> str:
        self.constants.append(numpy_helper.from_array(data, name))
        return name

    def linear(self, op: str, source: str, out: str, scale: str, zero: str, **more: Any) -> str:
        self.nodes.append(helper.make_node(op, [source, scale, zero], [out], out, **more))
        return out

    def activation(self, name: str, like: str = "") -> str:
        """Quantise and dequantise `name`, with the parameters of `like` if that is given."""
        key = like or name
        if key not in self.scales:
            low, high = self.ranges[key]
            limits = np.iinfo(self.dtype)
            scale = np.float32((high - low) / 255 or 1)
            self.scales[key] = scale
            zero = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max)
            self.constant(f"{key}.scale", np.array(scale))
            self.constant(f"{key}.zero", np.array(zero, self.dtype))
        self.scales[name] = self.scales[key]
        params = f"{key}.scale", f"{key}.zero"
        stored = self.linear("QuantizeLinear", self.renamed.get(name, name), f"{name}.q", *params)
        self.renamed[name] = self.linear("DequantizeLinear", stored, f"{name}.dq", *params)
        return key

    def parameters(self, node: onnx.NodeProto) -> list[str]:
        weights = self.data[node.input[1]]
        scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim))) / np.float32(127)
        scale = scale.astype(np.float32)
        shaped = scale.reshape(-1, *[1] * (weights.ndim - 1))
        names = []
        bias_scale = self.scales[node.input[0]] * scale
        for name, data, unit in (
            (node.input[1], np.rint(weights / shaped).astype(np.int8), scale),
            (
                node.input[2],
                np.rint(self.data[node.input[2]] / bias_scale).astype(np.int32),
                bias_scale,
            ),
        ):
            self.constant(f"{name}.q", data)
            self.constant(f"{name}.scale", unit)
            self.constant(f"{name}.zero", np.zeros(len(unit), data.dtype))
            names.append(
                self.linear(
                    "DequantizeLinear",
                    f"{name}.q",
                    f"{name}.dq",
                    f"{name}.scale",
                    f"{name}.zero",
                    axis=0,
                )
            )
        return names

    def build(self) -> onnx.ModelProto:
        graph = self.model.graph
        readers: dict[str, list[str]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node.op_type)
        like: dict[str, str] = {}
        for node in graph.node:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            if node.op_type in _QUANTIZED:
                for name in node.input:
                    fused = node.op_type in _ACTIVATIONS and name not in self.scales
                    if name not in self.data and name not in self.scales and not fused:
                        self.activation(name, like.get(name, ""))
                if node.op_type in ("Conv", "Gemm"):
                    new.input[1:] = self.parameters(node)
                if node.op_type in ("MaxPool", "Flatten"):
                    like[node.output[0]] = like.get(node.input[0], node.input[0])
            for index, name in enumerate(new.input):
                new.input[index] = self.renamed.get(name, name)
            self.nodes.append(new)
            produced = node.output[0]
            fused = readers.get(produced) in (["Relu"], ["Clip"])
            if node.op_type in (_QUANTIZED | _ACTIVATIONS) and not fused:
                self.activation(produced, like.get(produced, ""))
        constants = [t for t in graph.initializer if not t.name.endswith((".weight", ".bias"))]
        outputs = [
            helper.make_tensor_value_info(
                self.renamed.get(o.name, o.name),
                TensorProto.FLOAT,
                [d.dim_value for d in o.type.tensor_type.shape.dim],
            )
            for o in graph.output
        ]
        made = helper.make_graph(
            self.nodes, "net", list(graph.input), outputs, [*constants, *self.constants]
        )
        opset = helper.make_opsetid("", self.model.opset_import[0].version)
        model = helper.make_model(made, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model
