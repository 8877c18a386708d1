"""ONNX models of single operators on stored integers, with their parameters as operands."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from furiosa.compiler.frontend.qlinear import MICROSOFT, STANDARD
from support.onnx_models import Builder

KINDS: dict[Any, int] = {
    np.int8: TensorProto.INT8,
    np.uint8: TensorProto.UINT8,
    np.float32: TensorProto.FLOAT,
}


class Stored(Builder):
    """Graphs of stored integers of one type."""

    def __init__(self, dtype: type[np.generic] = np.uint8, *, opset: int = 13) -> None:
        super().__init__(opset=opset)
        self.dtype = dtype

    def image(self, name: str = "x", shape: tuple[int, ...] = (1, 4, 6, 6)) -> str:
        return self.input(name, shape, KINDS[self.dtype])

    def linear(self, scale: float | list[float], zero: int = 0) -> list[str]:
        """A scale and a zero point; int8 has it 128 lower."""
        zero = zero - 128 if self.dtype is np.int8 else zero
        zeros = np.full(np.shape(scale), zero)
        return [self.constant(scale), self.constant(zeros, self.dtype)]

    def weights(self, *shape: int) -> str:
        return self.constant(self.rng.integers(-127, 128, shape), np.int8)

    def symmetric(self, *scales: float) -> list[str]:
        scale = scales if len(scales) > 1 else scales[0]
        return [self.constant(scale), self.constant(np.zeros(np.shape(scale)), np.int8)]

    def q(self, operator: str, *operands: str, **attributes: Any) -> str:
        domain = "" if operator in STANDARD else MICROSOFT
        return self.node(operator, *operands, name=operator, domain=domain, **attributes)

    def stored(self, result: str, shape: tuple[int, ...], dtype: Any = None) -> onnx.ModelProto:
        """The model with the one output of which onnx knows no type."""
        model = self.model(result)
        kind = KINDS[self.dtype if dtype is None else dtype]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(result, kind, shape))
        return model


def inputs_of(model: onnx.ModelProto) -> list[Any]:
    rng = np.random.default_rng(3)
    given = []
    for info in model.graph.input:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        if dtype.kind == "f":
            given.append(rng.normal(0, 2, shape).astype(dtype))
        elif dtype.kind == "b":
            given.append(rng.random(shape) < 0.5)
        else:
            limits = np.iinfo(dtype)
            given.append(rng.integers(limits.min, limits.max + 1, shape).astype(dtype))
    return given


IMAGE = (1, 4, 6, 6)


def conv(net: Stored, *, bias: bool = True, **attributes: Any) -> onnx.ModelProto:
    operands = [net.image(), *net.linear(0.0213, 120), net.weights(5, 4, 3, 3)]
    operands += [*net.symmetric(0.01, 0.02, 0.03, 0.015, 0.012), *net.linear(0.3, 100)]
    if bias:
        operands.append(net.constant(net.rng.integers(-4000, 4000, 5), np.int32))
    return net.stored(net.q("QLinearConv", *operands, **attributes), (1, 5, 4, 4))


def conv_per_tensor(net: Stored) -> onnx.ModelProto:
    scale = [net.constant([0.02]), net.constant([120 if net.dtype is np.uint8 else -8], net.dtype)]
    operands = [net.image(), *scale, net.weights(5, 4, 3, 3), *net.symmetric(0.01)]
    operands += [*net.linear(0.3, 100), net.constant(net.rng.integers(-400, 400, 5), np.int32)]
    return net.stored(net.q("QLinearConv", *operands, strides=[2, 2]), (1, 5, 2, 2))


def matmul(net: Stored, *scales: float) -> onnx.ModelProto:
    operands = [net.image(shape=(3, 8)), *net.linear(0.0213, 120), net.weights(8, 4)]
    operands += [*net.symmetric(*scales), *net.linear(0.1, 100)]
    return net.stored(net.q("QLinearMatMul", *operands), (3, 4))


def gemm(net: Stored, *, quantised: bool = True, **attributes: Any) -> onnx.ModelProto:
    shape = (4, 8) if attributes.get("transB") else (8, 4)
    operands = [net.image(shape=(3, 8)), *net.linear(0.0213, 120), net.weights(*shape)]
    operands += net.symmetric(0.01, 0.02, 0.03, 0.015)
    operands.append(net.constant(net.rng.integers(-900, 900, 4), np.int32))
    operands += net.linear(0.1, 100) if quantised else []
    dtype = net.dtype if quantised else np.float32
    return net.stored(net.q("QGemm", *operands, **attributes), (3, 4), dtype)


def binary(net: Stored, operator: str, *, constant: bool = False) -> onnx.ModelProto:
    limits = np.iinfo(net.dtype)  # type: ignore[type-var]  # int8 or uint8
    values = net.rng.integers(limits.min, limits.max, (1, 4, 1, 1))
    other = net.constant(values, net.dtype) if constant else net.image("z")
    operands = [net.image(), *net.linear(0.0213, 120), other, *net.linear(0.0507, 90)]
    return net.stored(net.q(operator, *operands, *net.linear(0.0611, 110)), IMAGE)


def unary(net: Stored, operator: str, scale: float = 0.02, zero: int = 110) -> onnx.ModelProto:
    attributes = {"alpha": 0.2} if operator == "QLinearLeakyRelu" else {}
    shape = (1, 4, 1, 1) if operator == "QLinearGlobalAveragePool" else IMAGE
    operands = [net.image(), *net.linear(0.0317, 128), *net.linear(scale, zero)]
    return net.stored(net.q(operator, *operands, **attributes), shape)


def average_pool(net: Stored, **attributes: Any) -> onnx.ModelProto:
    operands = [net.image(), *net.linear(0.0317, 128), *net.linear(0.0203, 100)]
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    result = net.q("QLinearAveragePool", *operands, **window, **attributes)
    return net.stored(result, (1, 4, 3, 3))


def concat(net: Stored) -> onnx.ModelProto:
    operands = [*net.linear(0.05, 120), net.image(), *net.linear(0.0213, 120)]
    operands += [net.image("z", (1, 2, 6, 6)), *net.linear(0.07, 90)]
    return net.stored(net.q("QLinearConcat", *operands, axis=1), (1, 6, 6, 6))


def softmax(net: Stored, **attributes: Any) -> onnx.ModelProto:
    operands = [net.image(), *net.linear(0.05, 120), *net.linear(1 / 256, 0)]
    return net.stored(net.q("QLinearSoftmax", *operands, **attributes), IMAGE)


def where(net: Stored) -> onnx.ModelProto:
    operands = [net.input("choice", IMAGE, TensorProto.BOOL), net.image(), *net.linear(0.0213, 120)]
    operands += [net.image("z"), *net.linear(0.0507, 90), *net.linear(0.0611, 110)]
    return net.stored(net.q("QLinearWhere", *operands), IMAGE)


def linear(net: Stored, *, axis: bool = False) -> onnx.ModelProto:
    scale: Any = [0.02, 0.03, 0.04, 0.05] if axis else 0.02
    attributes = {"axis": 1} if axis else {}
    parameters = net.linear(scale, 110)
    x = net.input("x", IMAGE)
    x = net.q("QuantizeLinear", x, *parameters, **attributes)
    return net.stored(net.q("DequantizeLinear", x, *parameters, **attributes), IMAGE, np.float32)


def gelu(net: Stored) -> onnx.ModelProto:
    return net.stored(net.q("Gelu", net.input("x", IMAGE)), IMAGE, np.float32)


SAMPLES: dict[str, list[Callable[[Stored], onnx.ModelProto]]] = {
    "DequantizeLinear": [linear, lambda net: linear(net, axis=True)],
    "Gelu": [gelu],
    "QGemm": [
        gemm,
        lambda net: gemm(net, transB=1),
        lambda net: gemm(net, quantised=False),
        lambda net: gemm(net, alpha=0.5),
    ],
    "QLinearAdd": [
        lambda net: binary(net, "QLinearAdd"),
        lambda net: binary(net, "QLinearAdd", constant=True),
    ],
    "QLinearAveragePool": [average_pool, lambda net: average_pool(net, count_include_pad=1)],
    "QLinearConcat": [concat],
    "QLinearConv": [conv, conv_per_tensor, lambda net: conv(net, bias=False)],
    "QLinearGlobalAveragePool": [lambda net: unary(net, "QLinearGlobalAveragePool")],
    "QLinearLeakyRelu": [lambda net: unary(net, "QLinearLeakyRelu")],
    "QLinearMatMul": [lambda net: matmul(net, 0.01), lambda net: matmul(net, *[0.01, 0.02] * 2)],
    "QLinearMul": [lambda net: binary(net, "QLinearMul")],
    "QLinearSigmoid": [lambda net: unary(net, "QLinearSigmoid", 1 / 256, 0)],
    "QLinearSoftmax": [
        lambda net: softmax(net, axis=-1, opset=13),
        lambda net: softmax(net, axis=1, opset=13),
        lambda net: softmax(net, axis=1, opset=11),
        lambda net: softmax(net, axis=3, opset=11),
    ],
    "QLinearWhere": [where],
    "QuantizeLinear": [linear],
}
