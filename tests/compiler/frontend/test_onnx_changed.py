"""Models changed at random: the frontend gives a graph or an error of the compiler's own."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from furiosa.compiler import CompilationFailed, CompileError, InvalidFormat, InvalidModel, compile
from furiosa.compiler.frontend.onnx import import_onnx
from furiosa.compiler.options import CompilerOptions
from support import models
from support.onnx_models import Builder
from support.onnx_mutations import mutated


def plain() -> onnx.ModelProto:
    net = Builder()
    x = net.node("Softmax", net.node("Relu", net.input("x", [1, 3, 4, 4])))
    return net.model(net.node("Sigmoid", x))


def old() -> onnx.ModelProto:
    net = Builder(opset=9)
    x = net.node("Softmax", net.node("Clip", net.input("x", [1, 3, 4, 4]), min=0.0))
    x = net.node(
        "Slice", net.node("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1]), starts=[0], ends=[1], axes=[2]
    )
    return net.model(net.node("Squeeze", net.node("Dropout", x), axes=[2]))


def stored() -> onnx.ModelProto:
    net = Builder()
    scale, zero = net.constant(0.1), net.constant(3, np.uint8)
    x = net.node("QuantizeLinear", net.input("x", [1, 3, 4, 4]), scale, zero)
    parameters = [scale, zero]
    x = net.node("QLinearAdd", *[x, *parameters] * 2, *parameters, domain="com.microsoft")
    x = net.node("QLinearSoftmax", x, *parameters * 2, domain="com.microsoft", opset=11, axis=1)
    return net.model(net.node("DequantizeLinear", x, *parameters, result="y"))


def declared(model: onnx.ModelProto) -> bytes:
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(model.graph.output[0].name, TensorProto.FLOAT, ["a"] * 4)
    )
    return model.SerializeToString()


CORPUS = {
    "float": plain().SerializeToString(),
    "quantised": models.quantized(models.residual_cnn()).SerializeToString(),
    "old": old().SerializeToString(),
    "stored": declared(stored()),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", CORPUS)
def test_changed_models_never_escape_the_error_tree(name: str, batch: int) -> None:
    rng = np.random.default_rng([batch, *name.encode()])
    options = CompilerOptions(batch_size=batch)
    outcomes = set()
    for _ in range(250):
        try:
            import_onnx(mutated(CORPUS[name], rng), options)
            outcomes.add("graph")
        except CompileError as exc:
            outcomes.add(exc.summary)
    assert (
        {"graph", InvalidModel.summary}
        <= outcomes
        <= {
            "graph",
            InvalidModel.summary,
            InvalidFormat.summary,
        }
    )


@pytest.mark.parametrize("name", CORPUS)
def test_changed_bytes_never_escape_the_error_tree(name: str) -> None:
    rng = np.random.default_rng([*name.encode()])
    outcomes = set()
    for _ in range(400):
        data = bytearray(CORPUS[name])
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.2:
            del data[int(rng.integers(len(data))) :]
        try:
            import_onnx(bytes(data), CompilerOptions())
            outcomes.add("graph")
        except CompileError as exc:
            outcomes.add(exc.summary)
    assert {"graph", InvalidFormat.summary} <= outcomes


def test_what_a_changed_model_becomes_compiles_or_is_refused() -> None:
    rng = np.random.default_rng(7)
    whole = models.quantized(models.residual_cnn(middle="Sigmoid")).SerializeToString()
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= 1 << int(rng.integers(8))
        try:
            compile(bytes(data))
            outcomes.add("program")
        except CompileError as exc:
            outcomes.add(exc.summary)
    assert {"program", InvalidFormat.summary} <= outcomes
    assert CompilationFailed.summary not in outcomes  # that would be a defect of ours


@pytest.mark.parametrize("name", CORPUS)
def test_the_models_that_are_changed_are_good_ones(name: str) -> None:
    assert import_onnx(CORPUS[name], CompilerOptions()).nodes
