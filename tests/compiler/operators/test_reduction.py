"""Reductions, normalisation and softmax answer as onnxruntime does within 1 LSB."""

from typing import Any

import numpy as np
import onnx
import pytest

from furiosa.compiler.lower.operations.reduction import exponentials
from furiosa.vnpu.interpreter import Interpreter
from support.qdq_nets import BATCHES, TARGETS, Qdq, expected, opcodes, program, worst

S = (2, 3, 5, 4)
OPERATORS = {"ReduceSum": "REDUCE_SUM", "ReduceMean": "REDUCE_SUM", "ReduceL2": "REDUCE_L2"}


def last(net: Qdq) -> onnx.ModelProto:
    return net.model(net.nodes[-1].output[0])


def reduction(
    op: str, axes: tuple[int, ...] | None, shape: tuple[int, ...] = S, opset: int = 13, **more: Any
) -> onnx.ModelProto:
    """Axes as the opset has them: an operand of ReduceSum from 13 on, of the others from 18 on."""
    net = Qdq(opset=opset)
    x = [net.input(*shape)]
    if axes is not None and opset >= (13 if op == "ReduceSum" else 18):
        x.append(net.constant(np.array(axes)))
    elif axes is not None:
        more["axes"] = axes
    net.quantized(net.node(op, *x, **more), 0.04 if op == "ReduceMean" else 0.5)
    return last(net)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("axes", [(1,), (-1, 2), (3, 1), None])
@pytest.mark.parametrize("op", OPERATORS)
def test_reduction(op: str, axes: tuple[int, ...] | None, opset: int) -> None:
    made = reduction(op, axes, opset=opset)
    assert opcodes(made) == [OPERATORS[op]]
    assert worst(made) <= 1


@pytest.mark.parametrize("op", OPERATORS)
def test_reduced_axes_may_go(op: str) -> None:
    made = reduction(op, (1, 3), keepdims=0)
    assert opcodes(made) == [OPERATORS[op], "RESHAPE"]
    assert worst(made) <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("op", OPERATORS)
def test_targets_and_batches_change_nothing(op: str, batch: int, target: str) -> None:
    assert worst(reduction(op, (1, 2), (1, 3, 5, 4)), target, batch) <= 1


def normalized(axis: int, shape: tuple[int, ...] = S, p: int = 2) -> onnx.ModelProto:
    net = Qdq()
    net.quantized(net.node("LpNormalization", net.input(*shape), axis=axis, p=p), 1 / 127, 0)
    return last(net)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [1, -1])
def test_l2_normalisation(axis: int, target: str) -> None:
    made = normalized(axis)
    assert opcodes(made) == ["L2_NORMALIZE"]
    assert worst(made, target) <= 1


def softmax(
    shape: tuple[int, ...], axis: int | None, opset: int = 13, scale: float = 0.05
) -> onnx.ModelProto:
    net = Qdq(opset=opset)
    given: dict[str, Any] = {} if axis is None else {"axis": axis}
    net.quantized(net.node("Softmax", net.input(*shape, scale=scale), **given), 1 / 256, -128)
    return last(net)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scale", [0.002, 0.05, 0.6])
@pytest.mark.parametrize("axis", [1, 2, -1, None])
def test_softmax(axis: int | None, scale: float, target: str) -> None:
    made = softmax(S, axis, scale=scale)
    assert opcodes(made) == ["SOFTMAX"]
    assert worst(made, target) <= 1


@pytest.mark.parametrize("axis", [1, 2, -1, None])
def test_softmax_before_opset_13_is_along_all_axes_from_one_on(axis: int | None) -> None:
    made = softmax((1, 2, 5, 1), axis, opset=11)
    assert opcodes(made).count("SOFTMAX") == 1
    assert worst(made) <= 1


def test_softmax_along_dimension_0_is_of_no_batch() -> None:
    assert worst(softmax((30,), 0)) <= 1


def test_softmax_of_a_thousand_classes() -> None:
    assert worst(softmax((1, 1000), -1)) <= 1


@pytest.mark.parametrize(("count", "limit"), [(255, 1), (1000, 6)])
def test_softmax_of_classes_that_are_all_alike_but_one(count: int, limit: int) -> None:
    """Whose exponentials are all rounded the same way, which is the worst."""
    made = softmax((1, count), -1)
    interpreter, differences = Interpreter(program(made)), []
    for other in range(-73, 127, 4):
        x = np.full((1, count), other, np.int8)
        x[0, 0] = 127
        (wanted,), (found,) = expected(made, [x]), interpreter.run([x])
        differences.append(int(np.abs(wanted.astype(np.int32) - found).max()))
    assert max(differences) <= limit


@pytest.mark.parametrize(
    "made", [softmax((3, 8), -1), normalized(-1, (3, 8)), normalized(-1, p=1)], ids=str
)
def test_more_than_a_batch_of_two_or_another_norm_stays_on_the_host(made: onnx.ModelProto) -> None:
    assert not {"SOFTMAX", "L2_NORMALIZE"}.intersection(opcodes(made))


@pytest.mark.parametrize("batch", [1, 2])
def test_softmax_of_a_batch(batch: int) -> None:
    assert worst(softmax((1, 8), -1), batch=batch) <= 1


@pytest.mark.parametrize(("count", "top"), [(1, 2**24), (2, 2**23), (3, 2**22), (1000, 2**14)])
def test_exponentials_are_whole_numbers_whose_sum_float32_holds(count: int, top: int) -> None:
    table = exponentials(0.1, count)
    assert table[0] == top
    assert np.array_equal(table, np.rint(table))
    assert (np.diff(table) <= 0).all()
    assert (
        np.abs(table - top * np.exp(-np.float32(0.1).astype(float) * np.arange(256))).max() <= 0.501
    )


def test_the_clamp_of_an_activation_is_kept() -> None:
    net = Qdq()
    total = net.node("ReduceSum", net.input(*S), net.constant(np.array([1])))
    net.quantized(net.node("Relu", total), 0.5)
    (reduce,) = program(last(net)).instructions
    assert reduce.low == -5
