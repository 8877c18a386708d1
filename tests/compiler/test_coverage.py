"""Each condition of the NPU: a node that just meets it, and one that does not with the reason given."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.operators import OPERATORS, uncovered
from support.sketches import WINDOW, Sketch, q

ZERO: dict[str, Any] = {"low": -128, "high": 127}


def conv(channels: int = 4, out: int = 4, **attributes: Any) -> Dfg:
    s = Sketch()
    group = attributes.get("group", 1)
    x = s.input("x", (1, channels, 4, 4), "int8", q(1))
    w = s.constant("w", np.zeros((out, channels // group, 3, 3)), "int8", q(1))
    given = {**WINDOW, "group": 1, **ZERO, **attributes}
    return s.done(s.node("QConv", [x, w], "y", (1, out, 4, 4), "int8", q(1), **given))


def gemm(features: int, bias: int = 0, point: int = 0) -> Dfg:
    s = Sketch()
    x = s.input("x", (1, features), "int8", q(1))
    w = s.constant("w", np.zeros((1, features)), "int8", q(1, point))
    b = s.constant("b", [bias], "int32")
    return s.done(s.node("QGemm", [x, w, b], "y", (1, 1), "int8", q(1), **ZERO))


def line(rank: int) -> Dfg:
    """A QConv on something of that rank."""
    s = Sketch()
    shape, ones = (1, 2, *(5,) * (rank - 2)), (1,) * (rank - 2)
    x = s.input("x", shape, "int8", q(1))
    w = s.constant("w", np.zeros((2, 2, *ones)), "int8", q(1))
    given: dict[str, Any] = {
        "kernel_shape": ones,
        "strides": ones,
        "dilations": ones,
        "pads": (0,) * 2 * len(ones),
    }
    return s.done(s.node("QConv", [x, w], "y", shape, "int8", q(1), **given, **ZERO))


def several(op: str, *scales: float, result: float = 1.0, constants: int = 0) -> Dfg:
    """`op` on as many tensors, of which the first `constants` are constant."""
    s = Sketch()
    names = [
        s.constant(f"k{i}", np.zeros((2, 3)), "int8", q(scale))
        if i < constants
        else s.input(f"x{i}", (2, 3), "int8", q(scale))
        for i, scale in enumerate(scales)
    ]
    return s.done(s.node(op, names, "y", (2, 3), "int8", q(result), **ZERO))


def spread(op: str) -> Dfg:
    """Three operands of different shapes."""
    s = Sketch()
    names = [s.input(f"x{i}", (i, 3), "int8", q(1)) for i in (1, 2, 2)]
    return s.done(s.node(op, names, "y", (2, 3), "int8", q(1), **ZERO))


def matmul(depth: int) -> Dfg:
    s = Sketch()
    names = [s.input("a", (1, depth), "int8", q(1)), s.input("b", (depth, 1), "int8", q(1))]
    return s.done(s.node("QMatMul", names, "y", (1, 1), "int8", q(1), **ZERO))


def along(op: str, shape: tuple[int, ...], *axes: int) -> Dfg:
    s = Sketch()
    x = s.input("x", shape, "int8", q(1))
    return s.done(s.node(op, [x], "y", shape, "int8", q(1), axes=axes, **ZERO))


def table() -> Dfg:
    s = Sketch()
    names = [s.input("x", (2, 3), "int8", q(1)), s.constant("t", np.zeros(256), "int8")]
    return s.done(s.node("QTable", names, "y", (2, 3), "int8", q(1)))


def pool(op: str, size: int, out: int, dtype: str = "int8", **attributes: Any) -> Dfg:
    s = Sketch()
    x = s.input("x", (1, 2, size, size), dtype, None if dtype == "float32" else q(1))
    given = {**WINDOW, "pads": (0, 0, 0, 0), **attributes}
    return s.done(s.node(op, [x], "y", (1, 2, out, out), dtype, q(1), **given))


def move(
    op: str,
    before: tuple[int, ...],
    after: tuple[int, ...],
    *constants: Any,
    dtype: str = "int8",
    **attributes: Any,
) -> Dfg:
    """Constants are int64, or float32 where they are floats; None is an operand that is no constant."""
    s = Sketch()
    x = s.input("x", before, dtype, q(1) if dtype == "int8" else None)
    names = [x]
    for index, data in enumerate(constants):
        if data is None:
            names.append(s.input(f"k{index}", (1,), "int64"))
        else:
            kind = "float32" if float in map(type, data) else "int64"
            names.append(s.constant(f"k{index}", data, kind) if data else "")
    return s.done(s.node(op, names, "y", after, dtype, q(1), **attributes))


def concat(dtype: str, *, constants: bool = False) -> Dfg:
    s = Sketch()
    a = s.constant("a", np.zeros((1, 2)), dtype) if constants else s.input("a", (1, 2), dtype)
    b = s.constant("b", np.zeros((1, 3)), dtype)
    return s.done(s.node("Concat", [a, b], "y", (1, 5), dtype, axis=1))


def transposed(channels: int = 2, out: int = 2, taps: int = 3, **attributes: Any) -> Dfg:
    s = Sketch()
    group = attributes.get("group", 1)
    x = s.input("x", (1, channels, 4, 4), "int8", q(1))
    w = s.constant("w", np.zeros((out, channels // group, taps, 1)), "int8", q(1))
    given = {**WINDOW, "kernel_shape": (taps, 1), "pads": (0,) * 4, "group": 1, **attributes}
    return s.done(
        s.node("QConvTranspose", [x, w], "y", (1, out, 9, 4), "int8", q(1), **given, **ZERO)
    )


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
    (gemm(33026, point=127), "its sums reach 2147515650"),
    (gemm(33025, point=127), None),
    (line(3), None),
    (line(5), "its input has 5 dimensions, not 3 or 4"),
    (several("QAdd", 1, 1), None),
    (several("QAdd", 1, 1, constants=1), None),
    (several("QAdd", 1, 1, constants=2), "it reads nothing but constants"),
    (several("QAdd", 1e10, 1, result=1e-30), "it rescales by 1e+40"),
    (several("QSub", 1, 1), None),
    (several("QSub", 1, 1e10, result=1e-30), "it rescales by 1e+40"),
    (several("QMul", 1, 1), None),
    (several("QMul", 1e30, 1), "it rescales by 1e+30"),
    (several("QSum", 1, 2), None),
    (several("QSum", 1, 1, 1), None),
    (several("QSum", 1, 1, 2), "its 3 operands have different scales"),
    (several("QSum", *[1.0] * 65), "it has 65 operands, at most 64"),
    (several("QMean", 1, 1, 1), None),
    (spread("QMean"), "its 3 operands have different shapes"),
    (matmul(33025), None),
    (matmul(33026), "its sums reach 2147515650"),
    (along("QReduceSum", (8421504,), 0), None),
    (along("QReduceSum", (4, 2105377), 0, 1), "its sums reach 2147484540"),
    (along("QReduceMean", (4, 2105377), 0, 1), "its sums reach 2147484540"),
    (along("QReduceMean", (4, 2105377), 1), None),
    (along("QReduceL2", (2, 33025), 1), None),
    (along("QReduceL2", (2, 33026), 1), "its sums reach 2147515650"),
    (along("QL2Normalize", (2, 5), 1), None),
    (along("QL2Normalize", (3, 5), 1), "its batch is 3, at most 2"),
    (along("QL2Normalize", (2, 33026), 1), "its sums reach 2147515650"),
    (along("QSoftmax", (2, 5), 1), None),
    (along("QSoftmax", (3, 5), 1), "its batch is 3, at most 2"),
    (along("QSoftmax", (3, 5), 0), None),
    (along("QSoftmax", (1, (1 << 24) + 1), 1), "it is over 16777217 elements"),
    (table(), None),
    (pool("QAveragePool", 5, 3, **ZERO), None),
    (pool("QAveragePool", 4, 4, pads=(1, 1, 1, 1), **ZERO), None),
    (
        pool("QAveragePool", 4, 2, pads=(3, 3, 3, 3), strides=(7, 7), **ZERO),
        "its padding [3, 3, 3, 3] is not less than its kernel [3, 3]",
    ),
    (pool("QAveragePool", 257, 1, kernel_shape=(256, 257), **ZERO), None),
    (pool("QAveragePool", 257, 1, kernel_shape=(257, 257), **ZERO), "its sums reach 16842495"),
    (
        pool("QAveragePool", 2, 1, kernel_shape=(2, 2), dilations=(3, 3), pads=(1,) * 4, **ZERO),
        "a window of its average is all padding",
    ),
    (pool("GlobalMaxPool", 6, 1), None),
    (pool("GlobalMaxPool", 6, 1, "float32"), "its input is float32"),
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
    (move("Identity", (2, 3), (2, 3)), None),
    (move("Identity", (2, 3), (2, 3), dtype="int64"), "its input is int64"),
    (move("Transpose", (2, 3), (3, 2), dtype="float32"), None),
    (move("Expand", (1, 3), (2, 3), [2, 3]), None),
    (move("Tile", (1, 3), (2, 3), [2, 1]), None),
    (move("DepthToSpace", (1, 4, 1, 1), (1, 1, 2, 2), blocksize=2), None),
    (move("SpaceToDepth", (1, 1, 2, 2), (1, 4, 1, 1), blocksize=2), None),
    (move("Slice", (9,), (2,), [7], [9]), None),
    (move("Slice", (9,), (2,), None, [9]), "its parameters are not constant"),
    (move("Slice", (9,), (2,), [7], [9], None), "its parameters are not constant"),
    (
        move("Slice", (9,), (2,), [7], [9], [0], [1, 1]),
        "its starts [7], ends [9] and steps [1, 1] do not fit",
    ),
    (move("Gather", (9,), (2,), [7, -9]), None),
    (move("Gather", (9,), (2,), None), "its parameters are not constant"),
    (move("Gather", (9,), (2,), [7, 9]), "it takes element 9 of 9"),
    (move("Gather", (9,), (2,), [7, -10]), "it takes element -10 of 9"),
    (move("Pad", (3,), (6,), [1, 2]), None),
    (move("Pad", (3,), (6,), None), "its parameters are not constant"),
    (move("Pad", (3,), (6,), [1, 2], dtype="float32"), "it pads float32 with numbers"),
    (move("Pad", (3,), (1,), [-1, -1], dtype="float32"), None),
    (move("Pad", (3,), (6,), [1, 2], mode="reflect"), None),
    (move("Pad", (3,), (7,), [1, 3], mode="reflect"), "it reflects more than there is"),
    (move("Pad", (3,), (4,), [-1, 2], mode="edge"), "its mode is edge and its padding negative"),
    (move("Split", (5,), (5,)), None),
    (move("Split", (5,), (5,), dtype="int64"), "its input is int64"),
    (concat("float32"), None),
    (concat("int64"), "its input is int64"),
    (concat("int8", constants=True), "it reads nothing but constants"),
    (move("Resize", (3,), (6,), [], [2.0]), None),
    (move("Resize", (3,), (6,), [], [0.0]), "its scales are [0.0]"),
    (move("Pad", (3,), (6,), [1, 2, 3]), "its padding is [1, 2, 3]"),
    (move("Resize", (3,), (6,), [], None), "its scales are not constant"),
    (
        move("Resize", (3,), (6,), [], [2.0], coordinate_transformation_mode="tf_crop_and_resize"),
        "its coordinate_transformation_mode is tf_crop_and_resize",
    ),
    (
        move("Resize", (3,), (6,), [], [2.0], mode="linear"),
        "its mode is linear, and its result is not quantised",
    ),
    (
        move(
            "QResize", (1, 1, 3, 3), (1, 1, 6, 3), [], [1.0, 1.0, 2.0, 1.0], mode="linear", **ZERO
        ),
        None,
    ),
    (
        move("QResize", (1, 1, 3), (1, 1, 6), [], [1.0, 1.0, 2.0], mode="linear", **ZERO),
        "it makes [1, 1, 6] of [1, 1, 3]; height and width can change",
    ),
    (move("QResize", (1, 1, 3, 3), (1, 1, 6, 3), mode="cubic", **ZERO), "its mode is cubic"),
    (
        move("QResize", (1, 1, 3, 3), (1, 1, 6, 3), mode="linear", antialias=1, **ZERO),
        "it smooths before it shrinks (antialias)",
    ),
    (transposed(strides=(2, 1)), None),
    (transposed(dilations=(12, 1)), None),
    (transposed(dilations=(13, 1)), "it has dilation 13, at most 12"),
    (transposed(dilations=(24, 1), strides=(2, 1)), None),
    (transposed(256, 256, group=128), None),
    (transposed(258, 258, group=129), "it has 129 groups, at most 128"),
    (transposed(129, 129, group=129), None),
    (transposed(21931), None),
    (transposed(21932), "its sums reach 2147581440"),
    (one("Requantize", "int8", "uint8", source=q(1), result=q(2)), None),
    (one("NonZero", "float32", "float32"), "the NPU has no NonZero"),
    (
        one("Erf", "float32", "float32"),
        "it is in float, not between 8-bit tensors in a form that the NPU takes",
    ),
    (of_constant(), "it reads nothing but constants"),
]


@pytest.mark.parametrize(
    ("graph", "reason"),
    CONDITIONS,
    ids=[f"{g.nodes[-1].op}-{why or 'fits'}" for g, why in CONDITIONS],
)
def test_condition(graph: Dfg, reason: str | None) -> None:
    assert uncovered(graph.nodes[-1], graph) == reason


def test_every_operator_of_the_npu_is_tried() -> None:
    assert {graph.nodes[-1].op for graph, _ in CONDITIONS} - {"Erf", "NonZero"} == set(OPERATORS)
