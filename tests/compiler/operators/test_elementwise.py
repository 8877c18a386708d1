"""Sums and products of two stored tensors answer as onnxruntime does within 1 LSB: multipliers are rounded
before they are multiplied, not after."""

from typing import Any

import numpy as np
import onnx
import pytest

from support.qdq_nets import BATCHES, TARGETS, Qdq, opcodes, program, worst

S = (1, 4, 6, 5)
OPERATORS = {"Add": "ADD", "Sub": "ADD", "Mul": "MULTIPLY", "Mean": "ADD", "Sum": "ADD"}


def two(op: str, left: tuple[int, ...], right: tuple[int, ...], dtype: Any = np.int8) -> Qdq:
    net = Qdq()
    zero = 3 if dtype == np.int8 else 131
    a = net.input(*left, scale=0.05, zero=zero, dtype=dtype)
    b = net.input(*right, scale=0.013, zero=-9)
    net.quantized(net.node(op, a, b), 0.06, zero, dtype)
    return net


def last(net: Qdq) -> onnx.ModelProto:
    return net.model(net.nodes[-1].output[0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("op", OPERATORS)
def test_two_tensors_are_one_operation(op: str, dtype: Any) -> None:
    made = last(two(op, S, S, dtype))
    assert opcodes(made) == [OPERATORS[op]]
    assert worst(made) <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("op", ["Sub", "Mul"])
def test_targets_and_batches_change_nothing(op: str, batch: int, target: str) -> None:
    assert worst(last(two(op, S, S)), target, batch) <= 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(S, (1, 4, 1, 1), id="channels"),
        pytest.param((1, 4, 1, 5), (1, 1, 6, 1), id="both ways"),
        pytest.param(S, (6, 5), id="ranks"),
        pytest.param((5,), S, id="ranks, left"),
        pytest.param(S, (), id="scalar"),
    ],
)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Sum"])
def test_shapes_broadcast(op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    made = last(two(op, left, right))
    reshaped = ["RESHAPE"] if len(left) != len(right) else []
    assert opcodes(made) == [*reshaped, OPERATORS[op]]
    assert worst(made) <= 1


@pytest.mark.parametrize("shape", [(6, 5), (1, 4, 6, 5), (2, 4, 6, 5)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_a_stored_constant_is_loaded(op: str, shape: tuple[int, ...]) -> None:
    net = Qdq()
    net.quantized(net.node(op, net.stored(*shape, zero=4), net.input(*S)), 0.06, 3)
    made = last(net)
    assert opcodes(made) == ["LOAD", OPERATORS[op]]
    assert worst(made) <= 1


def test_a_constant_is_loaded_once() -> None:
    net = Qdq()
    x, k = net.input(*S), net.stored(*S)
    made = net.model(*(net.quantized(net.node(op, x, k)) for op in ("Add", "Mul")))
    assert sorted(opcodes(made)) == ["ADD", "LOAD", "MULTIPLY"]
    assert worst(made) <= 1


def test_a_float_constant_of_several_axes_stays_on_the_host() -> None:
    net = Qdq()
    k = net.constant(net.rng.normal(size=S).astype(np.float32))
    net.quantized(net.node("Add", net.input(*S), k))
    assert "ADD" not in opcodes(last(net))


@pytest.mark.parametrize("op", ["Relu", "Clip"])
def test_an_activation_is_a_clamp(op: str) -> None:
    net = Qdq()
    bounds = [net.constant(np.float32(b)) for b in (-0.5, 2)] if op == "Clip" else []
    total = net.node("Sub", net.input(*S), net.input(*S, scale=0.1))
    net.quantized(net.node(op, total, *bounds))
    made = last(net)
    (add,) = program(made).instructions
    assert (add.low, add.high) == ((-15, 35) if op == "Clip" else (-5, 127))
    assert worst(made) <= 1


def several(op: str, *scales: float) -> onnx.ModelProto:
    net = Qdq()
    x = [net.input(*S, scale=scale, zero=7) for scale in scales]
    net.quantized(net.node(op, *x), 0.1, -3)
    return last(net)


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_several_of_one_scale_are_stacked_and_summed(op: str, count: int) -> None:
    made = several(op, *[0.05] * count)
    assert [name for name in opcodes(made) if name != "RESHAPE"] == [
        *["CONCAT"] * (count - 1),
        "REDUCE_SUM",
    ]
    assert worst(made) <= 1


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_several_of_different_scales_stay_on_the_host(op: str) -> None:
    assert "REDUCE_SUM" not in opcodes(several(op, 0.05, 0.05, 0.06))
