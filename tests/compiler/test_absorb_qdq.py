"""What becomes of operators between Dequantize and Quantize: golden/absorb-qdq/<case>.txt."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.passes.absorb_qdq import AbsorbQdq
from support.passes import changed, golden, unchanged
from support.sketches import WINDOW, Sketch, per_channel, q

S = (1, 2, 4, 4)


def qdq_conv(s: Sketch, weights: str, *, bias: str = "", **attributes: Any) -> str:
    d = s.node("Dequantize", [s.input("x", S, "int8", q(0.5, 1))], "d", S)
    wd = s.node("Dequantize", [weights], "wd", (2, 2, 3, 3))
    given = {**WINDOW, "group": 1, **attributes}
    return s.node("Conv", [d, wd, *filter(None, [bias])], "c", S, **given)


def test_convolution_with_bias_and_relu_becomes_one_operator() -> None:
    s = Sketch()
    w = s.constant("w", np.arange(36).reshape(2, 2, 3, 3), "int8", per_channel(0.25, 0.5))
    b = s.constant("b", [100, -100], "int32", per_channel(0.125, 0.25))
    bd = s.node("Dequantize", [b], "bd", (2,))
    r = s.node("Relu", [qdq_conv(s, w, bias=bd)], "r", S)
    golden("conv-relu", AbsorbQdq(), s.done(s.node("Quantize", [r], "y", S, "uint8", q(0.1, 4))))


def test_clip_becomes_a_clamp_and_a_float_bias_an_integer_one() -> None:
    s = Sketch()
    w = s.constant("w", np.arange(36).reshape(2, 2, 3, 3), "int8", q(0.25))
    b = s.constant("b", [0.5, -0.26], "float32")
    bounds = [s.constant("lo", -1.0, "float32"), s.constant("hi", 6.0, "float32")]
    r = s.node("Clip", [qdq_conv(s, w, bias=b), *bounds], "r", S)
    golden("conv-clip", AbsorbQdq(), s.done(s.node("Quantize", [r], "y", S, "int8", q(0.1, 4))))


@pytest.mark.parametrize(
    ("dtype", "first", "point", "expected", "moved"),
    [
        pytest.param("uint8", 110, 128, -18, 0, id="unsigned within int8"),
        pytest.param("uint8", 110, 250, -18, 122, id="unsigned beyond int8"),
        pytest.param("int8", 20, 30, -10, 0, id="asymmetric within int8"),
        pytest.param("int8", 20, -100, 20, -100, id="asymmetric beyond int8"),
    ],
)
def test_weights_become_int8_with_zero_point_0_where_they_fit(
    dtype: str, first: int, point: int, expected: int, moved: int
) -> None:
    s = Sketch()
    w = s.constant("w", np.arange(36).reshape(2, 2, 3, 3) + first, dtype, q(0.25, point))
    graph = s.done(s.node("Quantize", [qdq_conv(s, w)], "y", S, "int8", q(0.1, 4)))
    held = changed(AbsorbQdq(), graph).values["c/weights"]
    assert held.data is not None
    assert held.data.dtype == np.int8
    assert held.data.ravel().tolist() == list(range(expected, expected + 36))
    assert held.quantization == q(0.25, moved)


def test_gemm_weights_get_their_output_channels_first() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", (1, 2), "int8", q(0.5, 1))], "d", (1, 2))
    w = s.constant("w", [[1, 2, 3], [4, 5, 6]], "int8", per_channel(0.25, 0.5, 1.0, axis=1))
    wd = s.node("Dequantize", [w], "wd", (2, 3))
    g = s.node("Gemm", [d, wd, s.constant("b", [[1.0, 2.0, 3.0]], "float32")], "g", (1, 3))
    golden("gemm", AbsorbQdq(), s.done(s.node("Quantize", [g], "y", (1, 3), "int8", q(0.1, 4))))


def scaled_gemm(**scaled: Any) -> Dfg:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", (2, 2), "int8", q(0.5, 1))], "d", (2, 2))
    w = s.node("Dequantize", [s.constant("w", np.ones((2, 2)), "int8", q(1))], "wd", (2, 2))
    b = s.constant("b", [1.0, -2.0], "float32")
    g = s.node("Gemm", [d, w, b], "g", (2, 2), **scaled)
    return s.done(s.node("Quantize", [g], "y", (2, 2), "int8", q(0.1, 4)))


def test_alpha_goes_into_the_scale_of_the_weights_and_beta_into_the_bias() -> None:
    golden("scaled-gemm", AbsorbQdq(), scaled_gemm(alpha=0.5, beta=2.0, transA=1))


def test_a_gemm_of_matrices_that_do_not_fit_is_left_alone() -> None:
    s = Sketch()
    w = s.node("Dequantize", [s.constant("w", np.ones((3, 2)), "int8", q(1))], "wd", (3, 2))
    g = s.node("Gemm", [stored(s, "x", 2, 2), w], "g", (2, 2))
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [g], "y", (2, 2), "int8", q(0.1, 4))))


def test_a_gemm_with_a_negative_alpha_stays_in_float() -> None:
    unchanged(AbsorbQdq(), scaled_gemm(alpha=-0.5))


def stored(s: Sketch, name: str, *shape: int, scale: float = 0.5) -> str:
    """What a stored input stands for."""
    return s.node("Dequantize", [s.input(name, shape, "int8", q(scale, 1))], f"{name}d", shape)


def test_elementwise_operators_become_tables_and_products() -> None:
    s = Sketch()
    x = stored(s, "x", *S)
    slope = s.constant("slope", [[[0.1]], [[-1.0]]], "float32")
    p = s.node("PRelu", [s.node("Tanh", [x], "t", S), slope], "p", S)
    table = s.node("Quantize", [p], "y", S, "int8", q(0.01))
    k = s.constant("k", np.arange(16).reshape(4, 4), "int8", q(0.25))
    m = s.node("Mul", [x, s.node("Dequantize", [k], "kd", (4, 4))], "m", S)
    golden("elementwise", AbsorbQdq(), s.done(table, s.node("Quantize", [m], "z", S, "int8", q(2))))


def test_a_rounding_inside_an_elementwise_graph_goes_into_its_table() -> None:
    s = Sketch()
    x = stored(s, "x", *S)
    half = s.node("Quantize", [s.node("Sigmoid", [x], "h", S)], "hq", S, "int8", q(1 / 256, -128))
    m = s.node("Mul", [x, s.node("Dequantize", [half], "hd", S)], "m", S)
    graph = changed(AbsorbQdq(), s.done(s.node("Quantize", [m], "y", S, "int8", q(0.5))))
    assert [(n.op, n.inputs[0]) for n in graph.nodes if n.op.startswith("Q")] == [
        ("QTable", "x")
    ] * 2
    by_hand = []
    for v in range(-128, 128):
        real = np.float32((v - 1) * 0.5)
        rounded = min(round(256 / (1 + np.exp(-float(real)))) - 128, 127)
        by_hand.append(
            int(np.clip(np.rint(real * np.float32((rounded + 128) / 256) * 2), -128, 127))
        )
    table = graph.data("y/table")
    assert table is not None
    assert table.tolist() == by_hand


@pytest.mark.parametrize("slopes", [(3, 1, 1), (5,), (1, 1, 1, 2, 1, 1)])
def test_operands_that_do_not_fit_are_left_alone(slopes: tuple[int, ...]) -> None:
    s = Sketch()
    slope = s.constant("slope", np.linspace(0, 1, math.prod(slopes)).reshape(slopes), "float32")
    p = s.node("PRelu", [stored(s, "x", 1, 1, 4, 4), slope], "p", (1, 1, 4, 4))
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [p], "y", (1, 1, 4, 4), "int8", q(0.1))))


def test_reductions_and_products_of_two_tensors_become_integer_operators() -> None:
    s = Sketch()
    x, y = stored(s, "x", *S), stored(s, "y", 4, 4, scale=0.25)
    results = [
        s.node("MatMul", [x, y], "mm", S),
        s.node("Softmax", [x], "sm", S, axis=1),
        s.node("ReduceMean", [x], "rm", (1, 2, 4), axes=(-1,), keepdims=0),
        s.node("LpNormalization", [x], "ln", S, axis=1),
    ]
    shapes = [s.graph.values[name].shape for name in results]
    outputs = [
        s.node("Quantize", [name], f"{name}q", shape, "int8", q(0.1))
        for name, shape in zip(results, shapes, strict=True)
    ]
    golden("reductions", AbsorbQdq(), s.done(*outputs))


def test_add_pool_and_bare_requantisation_become_integer_operators() -> None:
    s = Sketch()
    a = s.node("Dequantize", [s.input("a", S, "int8", q(0.5, 1))], "ad", S)
    b = s.node("Dequantize", [s.input("b", S, "uint8", q(0.25, 9))], "bd", S)
    y = s.node("Quantize", [s.node("Add", [a, b], "sum", S)], "y", S, "int8", q(1.0, -3))
    yd = s.node("Dequantize", [y], "yd", S)
    mean = s.node("GlobalAveragePool", [yd], "mean", (1, 2, 1, 1))
    z = s.node("Quantize", [mean], "z", (1, 2, 1, 1), "int8", q(0.5))
    again = s.node(
        "Quantize",
        [s.node("Dequantize", [z], "zd", (1, 2, 1, 1))],
        "u",
        (1, 2, 1, 1),
        "uint8",
        q(0.25),
    )
    golden("add-pool", AbsorbQdq(), s.done(again))


def test_quantising_what_was_dequantised_alike_is_an_identity() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", S, "int8", q(0.5, 1))], "d", S)
    golden("identity", AbsorbQdq(), s.done(s.node("Quantize", [d], "y", S, "int8", q(0.5, 1))))


@pytest.mark.parametrize(
    ("attributes", "points"),
    [
        pytest.param({"dilations": (13, 1)}, (0, 0), id="dilation"),
        pytest.param({}, (100, -100), id="weights of two zero points that leave int8"),
    ],
)
def test_what_the_npu_cannot_do_stays_in_float(
    attributes: dict[str, Any], points: tuple[int, ...]
) -> None:
    s = Sketch()
    params = replace(per_channel(0.25, 0.5), zero_points=points)
    data = np.linspace(-128, 127, 36).round().reshape(2, 2, 3, 3)
    w = s.constant("w", data, "int8", params)
    c = qdq_conv(s, w, **attributes)
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [c], "y", S, "int8", q(0.1, 4))))


def test_a_convolution_whose_float_result_is_wanted_stays_in_float() -> None:
    s = Sketch()
    c = qdq_conv(s, s.constant("w", np.ones((2, 2, 3, 3)), "int8", q(0.25)))
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [c], "y", S, "int8", q(0.1, 4)), c))
