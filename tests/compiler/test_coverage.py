"""Each condition of the NPU: a node that just meets it, and one that does not with the reason given."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.coverage import COVERAGE, uncovered
from furiosa.compiler.dfg.ir import Dfg
from support.sketches import WINDOW, Sketch, q

ZERO: dict[str, Any] = {"low": -128, "high": 127}


def conv(channels: int = 4, out: int = 4, **attributes: Any) -> Dfg:
    s = Sketch()
    group = attributes.get("group", 1)
    x = s.input("x", (1, channels, 4, 4), "int8", q(1))
    w = s.constant("w", np.zeros((out, channels // group, 3, 3)), "int8", q(1))
    given = {**WINDOW, "group": 1, **ZERO, **attributes}
    return s.done(s.node("QConv", [x, w], "y", (1, out, 4, 4), "int8", q(1), **given))


def gemm(features: int, bias: int = 0) -> Dfg:
    s = Sketch()
    x = s.input("x", (1, features), "int8", q(1))
    w = s.constant("w", np.zeros((1, features)), "int8", q(1))
    b = s.constant("b", [bias], "int32")
    return s.done(s.node("QGemm", [x, w, b], "y", (1, 1), "int8", q(1), **ZERO))


def add(*shape: int) -> Dfg:
    s = Sketch()
    a, b = s.input("a", (1, 2, 4, 4), "int8", q(1)), s.input("b", shape, "int8", q(1))
    return s.done(s.node("QAdd", [a, b], "y", (1, 2, 4, 4), "int8", q(1), **ZERO))


def pool(op: str, size: int, out: int, dtype: str = "int8", **attributes: Any) -> Dfg:
    s = Sketch()
    x = s.input("x", (1, 2, size, size), dtype, None if dtype == "float32" else q(1))
    given = {**WINDOW, "pads": (0, 0, 0, 0), **attributes}
    return s.done(s.node(op, [x], "y", (1, 2, out, out), dtype, q(1), **given))


def one(op: str, before: str, after: str, **more: Any) -> Dfg:
    s = Sketch()
    return s.done(
        s.node(
            op,
            [s.input("x", (2, 3), before, more.get("source"))],
            "y",
            (2, 3),
            after,
            more.get("result"),
        )
    )


def of_constant() -> Dfg:
    s = Sketch()
    k = s.constant("k", np.zeros((2, 3)), "float32")
    return s.done(s.node("Quantize", [k], "y", (2, 3), "int8", q(1)))


CONDITIONS: list[tuple[Dfg, str | None]] = [
    (conv(dilations=(12, 1)), None),
    (conv(dilations=(13, 1)), "it has dilation 13, at most 12"),
    (conv(256, 256, group=128), None),
    (conv(258, 258, group=129), "it has 129 groups, at most 128"),
    (conv(256, 256, group=256), None),  # depthwise
    (gemm(65791), None),
    (gemm(65791, 2**31 - 65791 * 255 * 128), "its sums reach 2147483648"),
    (gemm(65794), "its sums reach 2147516160"),
    (add(1, 2, 4, 4), None),
    (add(1, 2, 1, 1), "it broadcasts [1, 2, 4, 4] and [1, 2, 1, 1]"),
    (pool("QAveragePool", 5, 3, **ZERO), None),
    (
        pool("QAveragePool", 6, 3, strides=(2, 2), ceil_mode=1, **ZERO),
        "a window of its average is cut off",
    ),
    (pool("QAveragePool", 4, 4, pads=(1, 1, 1, 1), **ZERO), "padding enters its average"),
    (pool("QAveragePool", 4, 4, pads=(1, 1, 1, 1), count_include_pad=1, **ZERO), None),
    (pool("MaxPool", 6, 3, strides=(2, 2), ceil_mode=1), None),
    (pool("MaxPool", 6, 3, "float32", strides=(2, 2)), "its input is float32"),
    (
        pool("MaxPool", 4, 2, kernel_shape=(1, 1), strides=(4, 4), ceil_mode=1),
        "its padding [0, 0, 1, 1] is not less than its kernel [1, 1]",
    ),
    (one("Quantize", "float32", "uint8", result=q(1)), None),
    (one("Quantize", "float32", "int32", result=q(1)), "it converts between float32 and int32"),
    (one("Dequantize", "int8", "float32", source=q(1)), None),
    (one("Dequantize", "int8", "float32"), "it has more than one scale"),
    (one("Reshape", "uint8", "uint8"), None),
    (one("Reshape", "int64", "int64"), "its input is int64"),
    (one("Requantize", "int8", "uint8", source=q(1), result=q(2)), None),
    (one("Erf", "float32", "float32"), "the NPU has no Erf"),
    (of_constant(), "it reads a constant"),
]


@pytest.mark.parametrize(
    ("graph", "reason"),
    CONDITIONS,
    ids=[f"{g.nodes[-1].op}-{why or 'fits'}" for g, why in CONDITIONS],
)
def test_condition(graph: Dfg, reason: str | None) -> None:
    assert uncovered(graph.nodes[-1], graph) == reason


def test_every_operator_of_the_npu_is_tried() -> None:
    assert {graph.nodes[-1].op for graph, _ in CONDITIONS} - {"Erf"} == set(COVERAGE)
