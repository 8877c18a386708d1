"""Elementwise operators on one stored tensor become one table, and answer as onnxruntime does.

Bit for bit, but for operators that onnxruntime approximates, where 1 LSB is allowed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from furiosa.compiler.dfg.absorb import tables
from support.qdq_nets import BATCHES, TARGETS, Qdq, opcodes, worst

S = (1, 4, 9, 10)  # 360 elements: every stored value
Body = Callable[[Qdq, str], str]


def op(name: str, *constants: Any, **attributes: Any) -> Body:
    """The operator on x and constants."""
    return lambda net, x: net.node(name, x, *map(net.constant, constants), **attributes)


def chain(*bodies: Body) -> Body:
    def body(net: Qdq, x: str) -> str:
        for each in bodies:
            x = each(net, x)
        return x

    return body


def f(*numbers: float) -> np.ndarray[Any, Any]:
    return np.array(numbers[0] if len(numbers) == 1 else numbers, np.float32)


def column(*numbers: float) -> np.ndarray[Any, Any]:
    return f(*numbers).reshape(-1, 1, 1)


def expanded_gelu(net: Qdq, x: str) -> str:
    erf = net.node("Erf", net.node("Div", x, net.constant(f(2**0.5))))
    left = net.node("Mul", x, net.node("Add", erf, net.constant(f(1))))
    return net.node("Mul", left, net.constant(f(0.5)))


def silu(net: Qdq, x: str) -> str:
    return net.node("Mul", x, net.node("Sigmoid", x))


def rounded_silu(net: Qdq, x: str) -> str:
    return net.node("Mul", x, net.rounded(net.node("Sigmoid", x), 1 / 256, -128))


def rounded_chain(net: Qdq, x: str) -> str:
    x = net.rounded(net.node("HardSwish", x), 0.03, -100)
    x = net.rounded(net.node("Sub", x, net.constant(f(1.3))), 0.1, 7, np.uint8)
    return net.node("Mul", x, net.constant(column(1, -2, 0.5, 3)))


def stored_constant(name: str, *shape: int, **given: Any) -> Body:
    return lambda net, x: net.node(name, x, net.stored(*shape, **given))


def batch_norm(net: Qdq, x: str) -> str:
    given = (f(1, 2, -0.5, 1), f(0, 0.5, 1, -1), f(0.1, -0.2, 0, 1), f(1, 2, 0.25, 4))
    return net.node("BatchNormalization", x, *map(net.constant, given))


EXACT: dict[str, Body] = {
    "Abs": op("Abs"),
    "Add, a number": op("Add", f(0.7)),
    "Add, by channel": op("Add", column(0.1, 5, -2, 0)),
    "Add, by column": op("Add", np.linspace(-3, 3, 10, dtype=np.float32)),
    "Add, all alike": op("Add", np.full((1, 4, 9, 10), 0.3, np.float32)),
    "Add, stored": stored_constant("Add", 4, 1, 1, zero=5),
    "Add, stored by channel": stored_constant("Add", 4, 1, 1, scale=(0.1, 0.2, 0.3, 0.4)),
    "Add, itself": lambda net, x: net.node("Add", x, x),
    "BatchNormalization": batch_norm,
    "Ceil": op("Ceil"),
    "Clip of a sum": chain(op("Add", f(0.3)), op("Clip", f(-1), f(3))),
    "Div": op("Div", column(0.1, 5, -2, 3)),
    "Floor": op("Floor"),
    "HardSigmoid": op("HardSigmoid", alpha=0.3),
    "HardSwish": chain(op("HardSwish")),
    "LeakyRelu": op("LeakyRelu", alpha=0.2),
    "Max": op("Max", f(0.5), column(-1, 2, 0, 1)),
    "Mean": op("Mean", f(0.5)),
    "Min": op("Min", f(0.5)),
    "Mul": op("Mul", column(0.1, 5, -2, 3)),
    "Neg": op("Neg"),
    "PRelu": op("PRelu", column(0.1, 0.5, -2, 3)),
    "Pow, square": op("Pow", f(2)),
    "Pow, cube": op("Pow", f(3)),
    "Reciprocal": op("Reciprocal"),
    "Round": op("Round"),
    "Sign": op("Sign"),
    "Softsign": op("Softsign"),
    "Sqrt": chain(op("Abs"), op("Sqrt")),
    "Sub, from": lambda net, x: net.node("Sub", net.constant(f(1)), x),
    "Sum": op("Sum", f(0.5)),
    "ThresholdedRelu": op("ThresholdedRelu", alpha=1.5),
    "rounded chain": rounded_chain,
}
APPROXIMATED: dict[str, Body] = {
    "Celu": op("Celu", alpha=1.3),
    "Elu": op("Elu", alpha=0.7),
    "Erf": op("Erf"),
    "Exp": op("Exp"),
    "Gelu, expanded": expanded_gelu,
    "Log": op("Log"),
    "Pow": chain(op("Abs"), op("Pow", f(1.7))),
    "Selu": op("Selu"),
    "SiLU": silu,
    "SiLU, rounded inside": rounded_silu,
    "Sigmoid": op("Sigmoid"),
    "Softplus": op("Softplus"),
    "Tanh": op("Tanh"),
}
LATER: dict[str, tuple[int, Body]] = {
    "Gelu": (20, op("Gelu")),
    "Gelu, tanh": (20, op("Gelu", approximate="tanh")),
    "Mish": (18, op("Mish")),
}


def model(body: Body, *, dtype: Any = np.int8, opset: int = 14) -> onnx.ModelProto:
    net = Qdq(opset=opset)
    x = net.input(*S, zero=3 if dtype == np.int8 else 130, dtype=dtype)
    return net.model(net.quantized(body(net, x), 0.04, 100, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", EXACT)
def test_exact_operator_is_one_table(name: str, dtype: Any) -> None:
    made = model(EXACT[name], dtype=dtype)
    assert opcodes(made) == ["TABLE"]
    assert worst(made) == 0


@pytest.mark.parametrize("name", APPROXIMATED)
def test_approximated_operator_is_one_table(name: str) -> None:
    made = model(APPROXIMATED[name])
    assert opcodes(made) == ["TABLE"]
    assert worst(made) <= 1


@pytest.mark.parametrize("name", LATER)
def test_operator_of_a_later_opset_is_one_table(name: str) -> None:
    opset, body = LATER[name]
    made = model(body, opset=opset)
    assert opcodes(made) == ["TABLE"]
    assert worst(made) <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
def test_targets_and_batches_change_nothing(target: str, batch: int) -> None:
    assert worst(model(EXACT["PRelu"]), target, batch) == 0


def test_rounding_within_is_kept() -> None:
    """x / 8 rounded to whole numbers and back is another function than x."""
    net = Qdq()
    x = net.rounded(net.node("Mul", net.input(*S, scale=1), net.constant(f(0.125))), 1, 0)
    made = net.model(net.quantized(net.node("Mul", x, net.constant(f(8))), 1, 0))
    assert opcodes(made) == ["TABLE"]
    assert worst(made) == 0


def test_a_tensor_that_others_read_is_still_made() -> None:
    net = Qdq()
    x = net.quantized(net.node("Sigmoid", net.input(*S)), 1 / 256, -128)
    real = net._linear("DequantizeLinear", x, 1 / 256, -128, np.int8)
    made = net.model(x, net.quantized(net.node("Sqrt", real), 1 / 256, -128))
    assert opcodes(made) == ["TABLE", "TABLE"]
    assert worst(made) <= 1


def test_a_table_of_two_axes_is_none() -> None:
    net = Qdq()
    x = net.node("Mul", net.input(*S), net.constant(column(1, 2, 3, 4)))
    x = net.node("Mul", x, net.constant(np.arange(10, dtype=np.float32)))
    assert opcodes(net.model(net.quantized(x))) == []


CLAMPED: dict[str, Body] = {
    "Clip": op("Clip", f(-1), f(3)),
    "Clip, below": op("Clip", f(-1)),
    "Relu": op("Relu"),
    "Relu, Clip": chain(op("Relu"), op("Clip", f(0.5), f(6))),
    "nothing": lambda net, x: x,
}


@pytest.mark.parametrize("scales", [(0.05, 0.04), (0.05, 0.1), (0.05, 0.05), (1, 1e-4), (1e-4, 1)])
@pytest.mark.parametrize("name", CLAMPED)
def test_requantisation_is_exact(name: str, scales: tuple[float, float]) -> None:
    net = Qdq()
    x = net.input(*S, scale=scales[0])
    made = net.model(net.quantized(CLAMPED[name](net, x), scales[1], -100))
    assert opcodes(made) in (["DEPTHWISE_CONV2D"], ["TABLE"])
    assert worst(made) == 0


def test_what_stores_the_same_is_no_operation() -> None:
    net = Qdq()
    low = net.quantized(net.node("Relu", net.input(*S)), 0.05, -128)
    real = net._linear("DequantizeLinear", low, 0.05, -128, np.int8)
    made = net.model(net.quantized(net.node("Abs", net.node("Relu", real)), 0.05, -128))
    assert len(opcodes(made)) == 1
    assert worst(made) == 0


def test_a_graph_may_have_so_many_entries_of_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(chain(op("Neg"), op("Neg")))
    for limit, expected in ((512, ["TABLE"]), (511, [])):
        monkeypatch.setattr(tables, "MAX_ENTRIES", limit)
        assert [name for name in opcodes(made) if name == "TABLE"] == expected


@pytest.mark.parametrize(("channels", "expected"), [(4096, ["TABLE"]), (4097, [])])
def test_a_table_may_have_so_many_rows(channels: int, expected: list[str]) -> None:
    net = Qdq()
    slopes = net.constant(np.linspace(-1, 1, channels, dtype=np.float32))
    made = net.model(net.quantized(net.node("PRelu", net.input(1, channels), slopes)))
    assert [name for name in opcodes(made) if name == "TABLE"] == expected
