"""Float ONNX models to optimise and quantise, and how to run them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = npt.NDArray[Any]


class Builder:
    """A graph under construction; every operator method returns the name of its result.

    Weights are random but fixed by `seed`.
    """

    def __init__(self, *, seed: int = 0, opset: int = 13) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []

    def input(
        self, name: str, shape: Sequence[int | str | None] | None, kind: int = TensorProto.FLOAT
    ) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def random(self, *shape: int, spread: float = 1.0) -> str:
        return self.constant(self.rng.normal(0, spread, shape))

    def node(
        self, operator: str, *operands: str, result: str = "", name: str = "", **attributes: Any
    ) -> str:
        result = result or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, operands, [result], name, **attributes))
        return result

    def conv(
        self,
        source: str,
        channels: int,
        out: int,
        kernel: int = 3,
        *,
        group: int = 1,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        spread = (channels // group * kernel * kernel) ** -0.5
        operands = [source, self.random(out, channels // group, kernel, kernel, spread=spread)]
        if bias:
            operands.append(self.random(out, spread=0.1))
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", *operands, group=group, **attributes)

    def batch_norm(self, source: str, channels: int) -> str:
        gamma, variance = (self.constant(self.rng.uniform(0.5, 1.5, channels)) for _ in range(2))
        beta, mean = (self.random(channels, spread=0.2) for _ in range(2))
        return self.node("BatchNormalization", source, gamma, beta, mean, variance)

    def model(self, *outputs: str, opset: int = 0, ir_version: int = 8) -> ModelProto:
        """Types and shapes of the outputs are left to inference."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset or self.opset)]
        others = sorted({node.domain for node in self.nodes if node.domain})
        opsets += [helper.make_opsetid(domain, 1) for domain in others]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        return onnx.shape_inference.infer_shapes(model)


def random_conv_net(seed: int) -> ModelProto:
    """Six random blocks on [1, 4, 12, 12], global pooling and a fully connected head."""
    net = Builder(seed=seed)
    x = net.input("image", [1, 4, 12, 12])
    for _ in range(6):
        match net.rng.integers(8):
            case 0:
                x = net.node("Relu", net.batch_norm(net.conv(x, 4, 4, bias=False), 4))
            case 1:
                x = net.node("Relu", net.batch_norm(net.conv(x, 4, 4, 1), 4))
            case 2:
                scaled = net.node("Mul", net.conv(x, 4, 4, bias=False), net.random(1, 4, 1, 1))
                x = net.node("Add", net.random(4, 1, 1), scaled)
            case 3:
                x = net.node("Add", x, net.conv(net.node("Identity", x), 4, 4, group=4))
            case 4:
                x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
            case 5:
                low, high = net.constant(-1), net.constant(2)
                x = net.node("Clip", net.conv(x, 4, 4), low, high)
            case 6:
                x = net.node("PRelu", net.node("Dropout", x), net.random(4, 1, 1, spread=0.3))
            case 7:
                half = net.conv(x, 4, 2, 1)
                x = net.node("Concat", half, net.node("Sigmoid", half), axis=1)
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.node("MatMul", x, net.random(4, 5))
    return net.model(net.node("Add", x, net.random(5), result="scores"))


def run(model: ModelProto | bytes, *inputs: Array) -> list[Array]:
    """The outputs, from onnxruntime without rewrites of its own."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    outputs: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
    return outputs


def random_inputs(model: ModelProto, seed: int = 0) -> list[Array]:
    """Standard normal float32 for every input that is not an initialiser; shapes must be static."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim], np.float32)
        for i in model.graph.input
        if i.name not in constants
    ]


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def shape_of(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def conv_net(*tail: str, bias: bool = True) -> ModelProto:
    net = Builder()
    x = net.conv(net.input("x", [1, 3, 6, 6]), 3, 4, bias=bias)
    for operator in tail:
        x = net.node(operator, x)
    net.nodes[-1].output[0] = "y"
    return net.model("y")
