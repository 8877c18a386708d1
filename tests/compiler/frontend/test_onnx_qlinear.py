"""Operators on stored integers become Dequantize -> operator -> Quantize and mean the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.model import name_nodes, read_model
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.frontend.opset import settle
from furiosa.compiler.frontend.qlinear import MICROSOFT, QLINEAR, STANDARD, dequantize_everywhere
from furiosa.compiler.frontend.shapes import check, infer_shapes
from furiosa.compiler.options import CompilerOptions
from support import models
from support.onnx_models import Builder, operators, run

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


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    result = read_model(model.SerializeToString())
    assert dequantize_everywhere(result)
    settle(result)
    name_nodes(result.graph)
    check(result)
    infer_shapes(result)
    return result


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


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("operator", sorted({*QLINEAR, *STANDARD}))
def test_an_operator_on_stored_integers_gives_the_same_in_qdq_form(
    operator: str, dtype: type[np.generic], opset: int
) -> None:
    for sample in SAMPLES[operator]:
        model = sample(Stored(dtype, opset=opset))
        assert operator in operators(model)
        changed = rewritten(model)
        assert all(not node.domain for node in changed.graph.node)
        assert operator not in operators(changed) or operator in (
            "Gelu",
            "QuantizeLinear",
            "DequantizeLinear",
        )
        inputs = inputs_of(model)
        (before,), (after,) = run(model, *inputs), run(changed, *inputs)
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        assert len(np.unique(before)) > 3
        if before.dtype == np.float32:
            np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
        else:  # by an LSB where a float sum or a table rounds the other way
            away = np.abs(before.astype(int) - after.astype(int))
            assert away.max() <= 1
            assert np.count_nonzero(away) <= max(1, away.size // 50)


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_softmax_behind_operators_of_onnxruntime_keeps_its_old_meaning(opset: int) -> None:
    net = Stored(opset=opset)
    x = net.q("QLinearAdd", *[net.image(), *net.linear(0.0213, 120)] * 2, *net.linear(0.0507, 110))
    x = net.node("DequantizeLinear", x, *net.linear(0.0507, 110))
    model = net.stored(net.node("Softmax", x, axis=1), IMAGE, np.float32)
    changed = rewritten(model)
    inputs = inputs_of(model)
    (before,), (after,) = run(model, *inputs), run(changed, *inputs)
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_gelu_is_one_operator_where_the_opset_has_it() -> None:
    assert operators(rewritten(gelu(Stored(opset=20)))) == ["Gelu"]
    assert operators(rewritten(gelu(Stored(opset=19)))) == ["Div", "Erf", "Add", "Mul", "Mul"]


def test_a_quantised_operator_has_the_nodes_of_qdq_form() -> None:
    graph = import_onnx(conv(Stored()).SerializeToString(), CompilerOptions())
    found = [(node.name, node.op) for node in graph.nodes]
    assert found == [
        ("QLinearConv/x", "Dequantize"),
        ("QLinearConv/w", "Dequantize"),
        ("QLinearConv/b", "Dequantize"),
        ("QLinearConv", "Conv"),
        ("QLinearConv/y", "Quantize"),
    ]
    weights, bias = (graph.values[graph.nodes[index].inputs[0]].quantization for index in (1, 2))
    assert weights is not None
    assert bias is not None
    assert weights.axis == bias.axis == 0
    units = np.float32(0.0213) * np.array(weights.scales, np.float32)
    np.testing.assert_array_equal(np.array(bias.scales, np.float32), units)


def quantised_by_onnxruntime(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    class Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self.left = [{"image": image} for image in models.images(model, 4)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "quantised.onnx",
        Images(),
        quant_format=QuantFormat.QOperator,
        per_channel=True,
    )
    return onnx.load(folder / "quantised.onnx")


@pytest.mark.parametrize("tail", ["Sigmoid", "Softmax", "LeakyRelu"])
def test_a_model_of_onnxruntimes_quantiser_runs_as_in_onnxruntime(
    tail: str, tmp_path: Path
) -> None:
    original = models.residual_cnn(middle="LeakyRelu", tail=tail)
    model = quantised_by_onnxruntime(original, tmp_path)
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= set(operators(model))
    changed = rewritten(model)
    assert not {*QLINEAR, *STANDARD}.difference(
        ("QuantizeLinear", "DequantizeLinear")
    ).intersection(operators(changed))
    for image in models.images(original):
        (before,), (after,) = run(model, image), run(changed, image)
        step = np.diff(np.unique(before)).min()
        np.testing.assert_allclose(after, before, rtol=0, atol=step * 1.01)


def of_channels_last() -> onnx.ModelProto:
    return average_pool(Stored(), channels_last=1)


def with_scale_from_outside() -> onnx.ModelProto:
    model = conv(Stored())
    name = model.graph.node[0].input[1]
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    return model


def with_scales_per_row() -> onnx.ModelProto:
    net = Stored()
    operands = [net.image(shape=(2, 8)), *net.linear([0.1, 0.2], 120), net.weights(8, 4)]
    operands += [*net.symmetric(0.01), *net.linear(0.1, 100)]
    return net.stored(net.q("QLinearMatMul", *operands), (2, 4))


def without_zero_point() -> onnx.ModelProto:
    model = unary(Stored(), "QLinearSigmoid")
    del model.graph.node[0].input[-1]
    return model


def of_sixteen_bits() -> onnx.ModelProto:
    net = Stored()
    parameters = [net.constant(0.1), net.constant(0, np.int16)]
    x = net.q("QuantizeLinear", net.input("x", IMAGE), *parameters)
    return net.stored(net.q("DequantizeLinear", x, *parameters), IMAGE, np.float32)


def with_too_few_parts() -> onnx.ModelProto:
    model = concat(Stored())
    del model.graph.node[0].input[-1]
    return model


def of_an_attention() -> onnx.ModelProto:
    net = Stored()
    return net.stored(net.q("Attention", net.input("x", IMAGE)), IMAGE, np.float32)


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "channels last": (
        of_channels_last,
        (
            "node 'QLinearAveragePool' (QLinearAveragePool): attribute 'channels_last' is 1; "
            "quantise the model before onnxruntime optimises it"
        ),
    ),
    "scale from outside": (
        with_scale_from_outside,
        (
            "node 'QLinearConv' (QLinearConv): the scale of x is not a constant; "
            "quantise the model anew, in QDQ form"
        ),
    ),
    "scales per row": (
        with_scales_per_row,
        (
            "node 'QLinearMatMul' (QLinearMatMul): the scale of a is float32[2]; "
            "quantise the model anew, in QDQ form, per tensor"
        ),
    ),
    "no zero point": (
        without_zero_point,
        "node 'QLinearSigmoid' (QLinearSigmoid): the zero point of y is not a constant; quantise",
    ),
    "16 bits": (
        of_sixteen_bits,
        (
            "node 'QuantizeLinear' (QuantizeLinear): the zero point of y is of type int16; "
            "quantise to 8 bits"
        ),
    ),
    "too few parts": (
        with_too_few_parts,
        "node 'QLinearConcat' (QLinearConcat): it has 7 inputs, not 2 and 3 for each part; quantise",
    ),
    "other operator": (
        of_an_attention,
        (
            "node 'Attention' (Attention): its domain is 'com.microsoft', of which this operator is "
            "not taken; use operators of the ONNX domain or DequantizeLinear, Gelu, QGemm,"
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_qdq_form_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InvalidModel) as caught:
        import_onnx(build().SerializeToString(), CompilerOptions())
    assert str(caught.value).startswith(message)
