"""What each pass on dfg does, as text: golden/<pass>/<case>.txt has the graph before and after."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.passes.bypass_identity import BypassIdentity
from furiosa.compiler.dfg.passes.fold_affine import FoldAffine
from furiosa.compiler.dfg.passes.fold_constants import FoldConstants
from furiosa.compiler.dfg.passes.hoist_quantize import HoistQuantize
from furiosa.compiler.dfg.passes.merge_quantize import MergeQuantize
from furiosa.compiler.dfg.passes.remove_dead import RemoveDead
from furiosa.compiler.dfg.passes.sink_dequantize import SinkDequantize
from furiosa.compiler.dfg.passes.split import Split
from furiosa.compiler.value import QuantParams
from support.passes import changed, golden, unchanged
from support.sketches import WINDOW, Sketch, per_channel, q

S = (1, 2, 4, 4)


def test_identity_is_bypassed_but_for_outputs() -> None:
    s = Sketch()
    x = s.input("x", S)
    i = s.node("Identity", [s.node("Identity", [x], "i", S)], "j", S)
    golden(
        "chain",
        BypassIdentity(),
        s.done(s.node("Relu", [i], "r", S), s.node("Identity", [i], "o", S)),
    )


def test_equal_quantizes_of_one_value_become_one() -> None:
    s = Sketch()
    x = s.input("x", S)
    a, b, other, out = (
        s.node("Quantize", [x], name, S, "int8", q(scale))
        for name, scale in (("a", 0.5), ("b", 0.5), ("other", 0.25), ("out", 0.5))
    )
    reals = [s.node("Dequantize", [name], f"{name}.real", S) for name in (a, b, other)]
    graph = s.done(*reals, out)
    golden("copies", MergeQuantize(), graph)
    unchanged(MergeQuantize(), changed(MergeQuantize(), graph))


def test_dead_nodes_and_constants_go_and_inputs_stay() -> None:
    s = Sketch()
    x, _unused = s.input("x", S), s.input("unused", S)
    s.constant("k", [1.0], "float32")
    s.node("Neg", [s.node("Abs", [x], "dead", S)], "deader", S)
    golden("branch", RemoveDead(), s.done(s.node("Relu", [x], "r", S)))


def test_constants_are_folded_and_shapes_are_constants() -> None:
    s = Sketch()
    x = s.input("x", S)
    shape = s.node("Shape", [x], "shape", (4,), "int64")
    two = s.constant("two", 2, "int64")
    channels = s.node(
        "Gather", [shape, s.constant("one", 1, "int64")], "channels", (), "int64", axis=0
    )
    total = s.node("Mul", [channels, two], "total", (), "int64")
    scale = s.node("Cast", [total], "scale", (), to=1)
    golden("shape", FoldConstants(dequantize=False), s.done(s.node("Mul", [x, scale], "y", S)))


def test_weights_quantised_in_the_graph_are_folded_up_to_their_dequantize() -> None:
    s = Sketch()
    x = s.input("x", S)
    w = s.constant("w", [[0.1, -2.0], [0.26, 9.0]], "float32")
    stored = s.node("Quantize", [w], "wq", (2, 2), "int8", per_channel(0.1, 0.02))
    real = s.node("Dequantize", [stored], "wr", (2, 2))
    graph = s.done(s.node("MatMul", [x, real], "y", S))
    golden("quantize", FoldConstants(dequantize=False), graph)
    folded = changed(FoldConstants(dequantize=True), graph)
    assert np.array_equal(folded.values["wq"].data, [[1, -20], [13, 127]])  # type: ignore[arg-type]  # folded
    expected = np.array([[1, -20], [13, 127]], np.float32) * np.array([[0.1], [0.02]], np.float32)
    assert np.array_equal(folded.values["wr"].data, expected)  # type: ignore[arg-type]  # folded


def test_what_has_no_exact_kernel_or_grows_too_large_is_not_folded() -> None:
    s = Sketch()
    k = s.constant("k", [1e30], "float32")
    whole = s.node("Cast", [k], "whole", (1,), "int64", to=7)  # undefined: out of range
    wide = s.node(
        "Expand", [k, s.constant("to", [1 << 25], "int64")], "wide", (1 << 25,)
    )  # 128 MiB
    unchanged(
        FoldConstants(dequantize=True),
        s.done(s.node("Abs", [whole], "y", (1,)), s.node("Abs", [wide], "z", (1 << 25,))),
    )


def test_batch_norm_goes_into_the_convolution_before_it() -> None:
    s = Sketch()
    x = s.input("x", S)
    w = s.constant("w", np.ones((2, 2, 1, 1)), "float32")
    c = s.node(
        "Conv", [x, w], "c", S, group=1, **{**WINDOW, "kernel_shape": (1, 1), "pads": (0,) * 4}
    )
    params = {"scale": [1.0, 2.0], "shift": [0.5, 0.0], "mean": [1.0, 2.0], "var": [0.25, 4.0]}
    names = [s.constant(name, data, "float32") for name, data in params.items()]
    golden(
        "conv",
        FoldAffine(),
        s.done(s.node("BatchNormalization", [c, *names], "n", S, epsilon=0.0)),
    )


def test_factors_and_summands_of_channels_go_into_dequantised_weights() -> None:
    s = Sketch()
    x = s.input("x", S)
    stored = s.constant("w", np.arange(-2, 2).reshape(2, 2, 1, 1), "int8", q(0.5))
    w = s.node("Dequantize", [stored], "wd", (2, 2, 1, 1))
    one = {**WINDOW, "kernel_shape": (1, 1), "pads": (0,) * 4}
    c = s.node("Conv", [x, w], "c", S, group=1, **one)
    m = s.node("Mul", [c, s.constant("m", [[[-2.0]], [[0.5]]], "float32")], "cm", S)
    golden(
        "dequantised",
        FoldAffine(),
        s.done(s.node("Add", [m, s.constant("a", 3.0, "float32")], "y", S)),
    )


def test_batch_norm_stays_when_the_convolution_has_another_reader() -> None:
    s = Sketch()
    c = s.node("Conv", [s.input("x", S), s.constant("w", np.ones((2, 2, 1, 1)), "float32")], "c", S)
    names = [s.constant(name, [1.0, 1.0], "float32") for name in ("a", "b", "m", "v")]
    n = s.node("BatchNormalization", [c, *names], "n", S, epsilon=0.0)
    unchanged(FoldAffine(), s.done(n, s.node("Relu", [c], "r", S)))


def test_dequantize_sinks_below_reshape_and_max_pool() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", S, "uint8", q(0.5, 7))], "d", S)
    pool = {**WINDOW, "kernel_shape": (2, 2), "strides": (2, 2), "pads": (0,) * 4}
    p = s.node("MaxPool", [d], "p", (1, 2, 2, 2), **pool)
    golden("chain", SinkDequantize(), s.done(s.node("Reshape", [p], "f", (1, 8))))


def test_dequantize_does_not_sink_below_a_pool_the_npu_cannot_do() -> None:
    s = Sketch()
    d = s.node(
        "Dequantize", [s.input("x", (1, 2, 4, 4, 4), "uint8", q(0.5, 7))], "d", (1, 2, 4, 4, 4)
    )
    pool: dict[str, Any] = {"kernel_shape": (2,) * 3, "strides": (2,) * 3, "pads": (0,) * 6}
    unchanged(
        SinkDequantize(),
        s.done(s.node("MaxPool", [d], "p", (1, 2, 2, 2, 2), dilations=(1,) * 3, **pool)),
    )


def test_dequantize_sinks_below_what_joins_parts_and_pads() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", S, "int8", q(0.5, 7))], "d", S)
    k = s.constant("k", np.full(S, 1.5), "float32")
    c = s.node("Concat", [d, k], "c", (1, 4, 4, 4), axis=1)
    pads = s.constant("pads", [0, 0, 0, 0, 0, 0, 1, 0], "int64")
    p = s.node("Pad", [c, pads], "p", (1, 4, 5, 4))
    s.graph.nodes.append(Node("s", "Split", (p,), ("s0", "s1"), {"axis": 1}, ("s",)))
    for name in ("s0", "s1"):
        s.graph.add(replace(s.graph.values["p"], name=name, shape=(1, 2, 5, 4)))
    golden("parts", SinkDequantize(), s.done("s0", "s1"))


@pytest.mark.parametrize(
    ("left", "right", "number"),
    [
        pytest.param(q(0.5, 7), q(0.25, 7), 1.5, id="other scales"),
        pytest.param(q(0.5, 7), q(0.5, 7), 1.4, id="a constant between two stored numbers"),
        pytest.param(q(0.5, 7), q(0.5, 7), 90.0, id="a constant beyond the stored numbers"),
    ],
)
def test_dequantize_does_not_sink_below_parts_that_mean_different_things(
    left: QuantParams, right: QuantParams, number: float
) -> None:
    s = Sketch()
    a = s.node("Dequantize", [s.input("a", S, "int8", left)], "ad", S)
    b = s.node("Dequantize", [s.input("b", S, "int8", right)], "bd", S)
    k = s.constant("k", np.full(S, number), "float32")
    unchanged(SinkDequantize(), s.done(s.node("Concat", [a, b, k], "c", (1, 6, 4, 4), axis=1)))


def test_dequantize_does_not_sink_below_a_border_of_no_stored_number() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", S, "int8", q(0.5, 7))], "d", S)
    pads, k = s.constant("pads", [0] * 7 + [1], "int64"), s.constant("k", [1.4], "float32")
    unchanged(SinkDequantize(), s.done(s.node("Pad", [d, pads, k], "p", (1, 2, 4, 5))))


def test_quantize_moves_ahead_of_movements_operand_by_operand() -> None:
    s = Sketch()
    a = s.node("Sin", [s.input("a", S)], "sin", S)
    b = s.node("Dequantize", [s.input("b", S, "int8", q(0.25, 7))], "bd", S)
    c = s.node("Concat", [a, b, a], "c", (1, 6, 4, 4), axis=1)
    pads, k = s.constant("pads", [0] * 7 + [1], "int64"), s.constant("k", [1.4], "float32")
    p = s.node("Pad", [c, pads, k], "p", (1, 6, 4, 5))
    t = s.node("Transpose", [p], "t", (1, 6, 5, 4), perm=(0, 1, 3, 2))
    graph = s.done(s.node("Quantize", [t], "y", (1, 6, 5, 4), "int8", q(0.5, 1)))
    golden("chain", HoistQuantize(), graph)


@pytest.mark.parametrize("wanted", [False, True])
def test_quantize_stays_behind_what_others_read(wanted: bool) -> None:
    s = Sketch()
    t = s.node("Transpose", [s.input("x", S)], "t", S, perm=(0, 1, 3, 2))
    y = s.node("Quantize", [t], "y", S, "int8", q(0.5, 1))
    unchanged(HoistQuantize(), s.done(y, t if wanted else s.node("Sin", [t], "z", S)))


def test_an_identity_between_two_meanings_of_the_same_numbers_stays() -> None:
    s = Sketch()
    x = s.input("x", S, "int8", q(0.5, 1))
    i = s.node("Identity", [x], "i", S, "int8", q(0.25, 1))
    unchanged(BypassIdentity(), s.done(s.node("Dequantize", [i], "y", S)))


def test_an_output_that_is_an_identity_is_made_by_what_makes_its_input() -> None:
    s = Sketch()
    r = s.node("Requantize", [s.input("x", S, "int8", q(1))], "r", S, "int8", q(0.5), low=0, high=9)
    i = s.node("Identity", [r], "i", S, "int8")
    golden("output", BypassIdentity(), s.done(i, s.node("Identity", [r], "j", S, "int8", q(0.5))))


def test_split_makes_the_fewest_sections_in_an_order_that_works() -> None:
    """Two independent host branches, met by NPU work in between: host, npu, host and no more."""
    s = Sketch()
    x = s.input("x", S)
    a = s.node("Sigmoid", [x], "a", S)
    aq = s.node("Quantize", [a], "aq", S, "int8", q(0.1))
    xq = s.node("Quantize", [x], "xq", S, "int8", q(0.1))
    r = s.node("Requantize", [xq], "r", S, "int8", q(0.2), low=-128, high=127)
    t = s.node("QAdd", [aq, r], "t", S, "int8", q(0.2), low=-128, high=127)
    b = s.node("Tanh", [x], "b", S)
    d = s.node("Dequantize", [t], "d", S)
    golden("branches", Split(), s.done(s.node("Add", [d, b], "y", S)))


def test_split_leaves_what_only_the_host_reads_on_the_host() -> None:
    s = Sketch()
    a = s.node("Sigmoid", [s.input("x", S)], "a", S)
    stored = s.node("Quantize", [a], "aq", S, "int8", q(0.1))
    d = s.node("Dequantize", [stored], "d", S)
    golden(
        "host-only",
        Split(),
        s.done(s.node("Tanh", [s.node("Reshape", [d], "f", (2, 16))], "y", (2, 16))),
    )
