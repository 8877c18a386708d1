"""Models of every opset, operator by operator, in the two opsets that the quantizer knows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from furiosa.optimizer import optimize_model
from support.onnx_models import Builder, operators, random_inputs, run

Net = Callable[[Builder, str, int], str]  # from [1, 4, 6, 6] and the opset to the result's name


def plain(operator: str, *constants: Any, **attributes: Any) -> Net:
    """Constants that are lists hold integers, others floats."""

    def build(net: Builder, x: str, opset: int) -> str:
        rest = [net.constant(c, np.int64 if isinstance(c, list) else np.float32) for c in constants]
        return net.node(operator, x, *rest, **attributes)

    return build


def reduction(operator: str) -> Net:
    def build(net: Builder, x: str, opset: int) -> str:
        if opset >= 18:
            return net.node(operator, x, net.constant([1, 3], np.int64), keepdims=0)
        return net.node(operator, x, axes=[1, 3], keepdims=0)

    return build


def split(net: Builder, x: str, opset: int) -> str:
    if opset >= 18:
        net.node("Split", x, result="first", axis=2, num_outputs=3)
    else:
        net.node("Split", x, net.constant([2, 2, 2], np.int64), result="first", axis=2)
    net.nodes[-1].output.extend(["second", "third"])
    return net.node("Sub", "first", "third")


def resize(*, by_size: bool = False, **attributes: Any) -> Net:
    def build(net: Builder, x: str, opset: int) -> str:
        if by_size:
            return net.node("Resize", x, "", "", net.constant([1, 4, 9, 9], np.int64), **attributes)
        return net.node("Resize", x, "", net.constant([1.0, 1, 2, 2]), **attributes)

    return build


def positive(operator: str) -> Net:
    return lambda net, x, opset: net.node(operator, net.node("Exp", x))


def both(operator: str, **attributes: Any) -> Net:
    return lambda net, x, opset: net.node(operator, x, net.node("Relu", x), **attributes)


# by operator, the first opset that has this form
NETS: dict[str, tuple[int, Net]] = {
    "Add": (13, both("Add")),
    "AveragePool": (13, plain("AveragePool", kernel_shape=[2, 2])),
    "BatchNormalization": (13, lambda net, x, opset: net.batch_norm(x, 4)),
    "Clip": (13, plain("Clip", 0.0, 1.0)),
    "Concat": (13, both("Concat", axis=1)),
    "Conv": (13, lambda net, x, opset: net.conv(x, 4, 3)),
    "ConvTranspose": (
        13,
        lambda net, x, opset: net.node("ConvTranspose", x, net.random(4, 3, 2, 2)),
    ),
    "DepthToSpace": (13, plain("DepthToSpace", blocksize=2)),
    "Div": (13, both("Max")),
    "Elu": (13, plain("Elu")),
    "Erf": (13, plain("Erf")),
    "Expand": (13, plain("Expand", [2, 4, 6, 6])),
    "Flatten": (13, plain("Flatten")),
    "Gather": (13, plain("Gather", [0, 2], axis=1)),
    "Gelu": (20, plain("Gelu")),
    "GlobalAveragePool": (13, plain("GlobalAveragePool")),
    "HardSigmoid": (13, plain("HardSigmoid")),
    "HardSwish": (14, plain("HardSwish")),
    "LeakyRelu": (13, plain("LeakyRelu")),
    "Log": (13, positive("Log")),
    "LogSoftmax": (13, plain("LogSoftmax", axis=2)),
    "LpNormalization": (13, plain("LpNormalization", axis=1)),
    "MatMul": (13, both("MatMul")),
    "MaxPool": (13, plain("MaxPool", kernel_shape=[2, 2])),
    "Mean": (13, both("Mean")),
    "Pad": (13, plain("Pad", [0, 0, 1, 1, 0, 0, 1, 1])),
    "Pow": (13, plain("Pow", 2.0)),
    "ReduceL2": (13, reduction("ReduceL2")),
    "ReduceMax": (13, reduction("ReduceMax")),
    "ReduceMean": (13, reduction("ReduceMean")),
    "ReduceSum": (13, plain("ReduceSum", [1])),
    "Reshape": (13, plain("Reshape", [1, -1])),
    "Resize": (13, resize()),
    "Resize by size": (13, resize(by_size=True, mode="linear")),
    "Sigmoid": (13, plain("Sigmoid")),
    "Slice": (13, plain("Slice", [1], [3], [2])),
    "Softmax": (13, plain("Softmax", axis=1)),
    "Softmax over the last axis": (13, plain("Softmax")),
    "Softplus": (13, plain("Softplus")),
    "SpaceToDepth": (13, plain("SpaceToDepth", blocksize=2)),
    "Split": (13, split),
    "Sqrt": (13, positive("Sqrt")),
    "Squeeze": (13, plain("Squeeze", [0])),
    "Sum": (13, both("Sum")),
    "Tanh": (13, plain("Tanh")),
    "Transpose": (13, plain("Transpose", perm=[0, 2, 3, 1])),
    "Unsqueeze": (13, plain("Unsqueeze", [0])),
}


def model_of(name: str, opset: int) -> ModelProto:
    net = Builder()
    return net.model(NETS[name][1](net, net.input("x", [1, 4, 6, 6]), opset), opset=opset)


@pytest.mark.parametrize("name", NETS)
def test_later_operators_are_said_in_earlier_ones(name: str) -> None:
    for opset in {max(13, NETS[name][0]), 18, 20, 22}:
        if opset < NETS[name][0]:
            continue
        model = model_of(name, opset)
        inputs = random_inputs(model)
        expected = run(model, *inputs)
        for target in (12, 13):
            converted = optimize_model(model, opset_version=target)
            onnx.checker.check_model(converted, full_check=True)
            for old, new in zip(expected, run(converted, *inputs), strict=True):
                np.testing.assert_allclose(new, old, atol=1e-5, rtol=1e-5)


def test_uneven_parts_stay_uneven() -> None:
    net = Builder()
    net.node("Split", net.input("x", [1, 5]), result="first", axis=1, num_outputs=2)
    net.nodes[-1].output.append("second")
    model = net.model("first", "second", opset=18)
    for target in (12, 13):
        found = run(optimize_model(model, opset_version=target), *random_inputs(model))
        assert [array.shape for array in found] == [(1, 3), (1, 2)]


def test_a_softmax_over_a_middle_axis_is_turned_for_opset_12() -> None:
    converted = optimize_model(model_of("Softmax", 13), opset_version=12)
    assert operators(converted) == ["Transpose", "Softmax", "Transpose"]


def test_a_reduction_over_nothing_is_none() -> None:
    net = Builder()
    x = net.node("ReduceMean", net.input("x", [2, 3]), noop_with_empty_axes=1)
    assert operators(optimize_model(net.model(net.node("Abs", x), opset=18))) == ["Abs"]


def test_a_reduction_over_everything_stays_so() -> None:
    net = Builder()
    model = net.model(net.node("ReduceMean", net.input("x", [2, 3]), keepdims=0), opset=18)
    (found,) = run(optimize_model(model), np.ones((2, 3), np.float32))
    assert found.shape == ()


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("operator", "opset"), [("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("factor", [2, 2.5])
def test_upsampling_of_old_takes_its_values_where_it_did(
    operator: str, opset: int, mode: str, factor: float
) -> None:
    net = Builder()
    scales = net.constant([1, 1, factor, factor])
    x = net.node(operator, net.input("x", [1, 4, 6, 6]), scales, mode=mode)
    model = net.model(x, opset=opset)
    inputs = random_inputs(model)
    for target in (12, 13):
        (found,) = run(optimize_model(model, opset_version=target), *inputs)
        np.testing.assert_allclose(found, run(model, *inputs)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (plain("Gelu", approximate="tanh"), r"'node' \(Gelu\) uses a later form: it approximates"),
        (resize(antialias=1), r"'node' \(Resize\) uses a later attribute 'antialias'"),
        (plain("Mish"), "No Previous Version of Mish"),
        (
            lambda net, x, opset: net.node(
                "ReduceMean", x, net.node("Cast", net.node("Size", x), to=7)
            ),
            r"'node' \(ReduceMean\) uses a later form: its axes are not constant",
        ),
    ],
)
def test_what_has_no_earlier_form_is_refused_by_name(build: Net, message: str) -> None:
    net = Builder()
    y = build(net, net.input("x", [1, 4, 6, 6]), 20)
    net.nodes[-1].name = "node"
    with pytest.raises(NotImplementedError, match=f"from opset 20 to 13: .*{message}"):
        optimize_model(net.model(y, opset=20))
