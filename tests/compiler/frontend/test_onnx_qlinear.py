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
from furiosa.compiler.frontend.qlinear import QLINEAR, STANDARD, dequantize_everywhere
from furiosa.compiler.frontend.shapes import check, infer_shapes
from furiosa.compiler.options import CompilerOptions
from support import models
from support.onnx_models import operators, run
from support.qlinear_models import (
    IMAGE,
    SAMPLES,
    Stored,
    average_pool,
    concat,
    conv,
    gelu,
    inputs_of,
    unary,
)


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    result = read_model(model.SerializeToString())
    assert dequantize_everywhere(result)
    settle(result)
    name_nodes(result.graph)
    check(result)
    infer_shapes(result)
    return result


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
