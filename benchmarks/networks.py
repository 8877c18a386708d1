"""Networks of well-known sizes with random weights: to time, not to classify.

QDQ form, as onnxruntime's quantiser writes it: activations uint8, zero point 0 after a Relu and 128
elsewhere, weights int8 for each channel; a Relu stands before the QuantizeLinear of what it follows.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mobilenet_v2() -> bytes:
    """224 x 224, width 1.0: 300 million products, 3.5 MB of weights. Source: Sandler et al. 2018, table 2."""
    net = _Network("mobilenet_v2", (1, 3, 224, 224))
    x = net.conv(net.image, 3, 32, 3, stride=2)
    channels = 32
    for expansion, width, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(count):
            step, inner = stride if index == 0 else 1, channels * expansion
            y = net.conv(x, channels, inner, 1) if expansion > 1 else x
            y = net.conv(y, inner, inner, 3, stride=step, group=inner)
            y = net.conv(y, inner, width, 1, relu=False)
            x = net.add(x, y, relu=False) if step == 1 and channels == width else y
            channels = width
    return net.classify(net.conv(x, channels, 1280, 1), 1280, 1000)


def resnet50() -> bytes:
    """224 x 224: 4.1 billion products, 25.5 MB of weights. Source: He et al. 2015, table 1."""
    net = _Network("resnet50", (1, 3, 224, 224))
    x = net.max_pool(net.conv(net.image, 3, 64, 7, stride=2))
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for index in range(count):
            stride = 2 if index == 0 and stage > 0 else 1
            y = net.conv(x, channels, inner, 1)
            y = net.conv(y, inner, inner, 3, stride=stride)
            y = net.conv(y, inner, 4 * inner, 1, relu=False)
            if index == 0:
                x = net.conv(x, channels, 4 * inner, 1, stride=stride, relu=False)
            x = net.add(x, y)
            channels = 4 * inner
    return net.classify(x, channels, 1000)


def resnet8() -> bytes:
    """32 x 32: 12.5 million products, 78 kB of weights. Source: MLPerf Tiny, image classification."""
    net = _Network("resnet8", (1, 3, 32, 32))
    x = net.conv(net.image, 3, 16, 3)
    channels = 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv(x, channels, width, 3, stride=stride)
        y = net.conv(y, width, width, 3, relu=False)
        if stride > 1:
            x = net.conv(x, channels, width, 1, stride=stride, relu=False)
        x = net.add(x, y)
        channels = width
    return net.classify(x, channels, 10)


def mnistnet() -> bytes:
    """28 x 28: a digit classifier of 0.4 million products, 4 kB of weights."""
    net = _Network("mnistnet", (1, 1, 28, 28))
    x = net.max_pool(net.conv(net.image, 1, 8, 3))
    x = net.max_pool(net.conv(x, 8, 16, 3))
    return net.classify(net.conv(x, 16, 16, 3), 16, 10)


class _Network:
    """Every method takes and returns the name of a dequantised activation."""

    def __init__(self, name: str, image: tuple[int, ...]) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._name = name
        self._shape = image
        self._scale = self._constant(np.array(0.05, np.float32))
        self._points = [self._constant(np.array(point, np.uint8)) for point in (128, 0)]
        self.image = self._stored("image")

    def conv(
        self,
        x: str,
        channels: int,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        group: int = 1,
        relu: bool = True,
    ) -> str:
        shape = (width, channels // group, kernel, kernel)
        operands = self._parameters(shape, 0)
        pads, strides = [kernel // 2] * 4, [stride, stride]
        y = self._node("Conv", [x, *operands], group=group, pads=pads, strides=strides)
        return self._activated(y, relu)

    def add(self, x: str, y: str, *, relu: bool = True) -> str:
        return self._activated(self._node("Add", [x, y]), relu)

    def max_pool(self, x: str) -> str:
        """Of what a Relu made."""
        given = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        return self._stored(self._node("MaxPool", [x], **given), positive=True)

    def classify(self, x: str, channels: int, classes: int) -> bytes:
        """Pool what a Relu made, classify and serialise."""
        pooled = self._stored(self._node("GlobalAveragePool", [x]), positive=True)
        flat = self._stored(self._node("Flatten", [pooled]), positive=True)
        operands = self._parameters((classes, channels), 0)
        logits = self._stored(self._node("Gemm", [flat, *operands], transB=1))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self._shape)],
            [helper.make_tensor_value_info(logits, TensorProto.FLOAT, [1, classes])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 13)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()

    def _parameters(self, shape: tuple[int, ...], axis: int) -> list[str]:
        """Weights and bias; values keep their size from layer to layer."""
        taps = int(np.prod(shape[1:]))
        weights = self._rng.integers(-127, 128, shape).astype(np.int8)
        scales = np.full(shape[0], 0.02 / np.sqrt(taps), np.float32)
        bias = self._rng.integers(-1000, 1000, shape[0]).astype(np.int32)
        made = []
        for data, scale in ((weights, scales), (bias, scales * np.float32(0.05))):
            names = [self._constant(item) for item in (data, scale, np.zeros(shape[0], data.dtype))]
            made.append(self._node("DequantizeLinear", names, axis=axis))
        return made

    def _activated(self, x: str, relu: bool) -> str:
        return self._stored(self._node("Relu", [x]) if relu else x, positive=relu)

    def _stored(self, x: str, *, positive: bool = False) -> str:
        """Through 8 bits and back."""
        parameters = [self._scale, self._points[positive]]
        return self._node(
            "DequantizeLinear", [self._node("QuantizeLinear", [x, *parameters]), *parameters]
        )

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, data: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(data, name))
        return name
