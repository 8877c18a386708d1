"""What each pass on dfg does, as text: golden/<pass>/<case>.txt has the graph before and after."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.dfg.passes.absorb_qdq import AbsorbQdq
from furiosa.compiler.dfg.passes.bypass_identity import BypassIdentity
from furiosa.compiler.dfg.passes.fold_batch_norm import FoldBatchNorm
from furiosa.compiler.dfg.passes.fold_constants import FoldConstants
from furiosa.compiler.dfg.passes.remove_dead import RemoveDead
from furiosa.compiler.dfg.passes.sink_dequantize import SinkDequantize
from furiosa.compiler.dfg.passes.split import Split
from furiosa.compiler.dfg.printer import print_dfg
from furiosa.compiler.dfg.verify import RULES
from furiosa.compiler.infra import Pass
from furiosa.compiler.options import CompilerOptions
from support import goldens
from support.sketches import WINDOW, Sketch, per_channel, q

S = (1, 2, 4, 4)


def changed(work: Pass[Dfg], graph: Dfg) -> Dfg:
    """Result of a pass that must change the graph, leave its input alone and its output verified."""
    before = print_dfg(graph)
    result = work.run(graph, CompilerOptions())
    assert result.changed
    assert print_dfg(graph) == before
    assert [message for rule in RULES for message in rule(result.graph)] == []
    return result.graph


def golden(case: str, work: Pass[Dfg], graph: Dfg) -> None:
    goldens.check(f"{work.name}/{case}", print_dfg(graph), print_dfg(changed(work, graph)))


def unchanged(work: Pass[Dfg], graph: Dfg) -> None:
    result = work.run(graph, CompilerOptions())
    assert not result.changed
    assert result.graph is graph


def test_identity_is_bypassed_but_for_outputs() -> None:
    s = Sketch()
    x = s.input("x", S)
    i = s.node("Identity", [s.node("Identity", [x], "i", S)], "j", S)
    golden(
        "chain",
        BypassIdentity(),
        s.done(s.node("Relu", [i], "r", S), s.node("Identity", [i], "o", S)),
    )


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
        FoldBatchNorm(),
        s.done(s.node("BatchNormalization", [c, *names], "n", S, epsilon=0.0)),
    )


def test_batch_norm_stays_when_the_convolution_has_another_reader() -> None:
    s = Sketch()
    c = s.node("Conv", [s.input("x", S), s.constant("w", np.ones((2, 2, 1, 1)), "float32")], "c", S)
    names = [s.constant(name, [1.0, 1.0], "float32") for name in ("a", "b", "m", "v")]
    n = s.node("BatchNormalization", [c, *names], "n", S, epsilon=0.0)
    unchanged(FoldBatchNorm(), s.done(n, s.node("Relu", [c], "r", S)))


def test_dequantize_sinks_below_reshape_and_max_pool() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", S, "uint8", q(0.5, 7))], "d", S)
    pool = {**WINDOW, "kernel_shape": (2, 2), "strides": (2, 2), "pads": (0,) * 4}
    p = s.node("MaxPool", [d], "p", (1, 2, 2, 2), **pool)
    golden("chain", SinkDequantize(), s.done(s.node("Reshape", [p], "f", (1, 8))))


def test_dequantize_does_not_sink_below_a_pool_the_npu_cannot_do() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", (1, 2, 4), "uint8", q(0.5, 7))], "d", (1, 2, 4))
    p = s.node(
        "MaxPool", [d], "p", (1, 2, 2), kernel_shape=(2,), strides=(2,), pads=(0, 0), dilations=(1,)
    )
    unchanged(SinkDequantize(), s.done(p))


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


def test_unsigned_weights_around_128_become_signed() -> None:
    s = Sketch()
    w = s.constant("w", np.arange(36).reshape(2, 2, 3, 3) + 110, "uint8", q(0.25, 128))
    graph = s.done(s.node("Quantize", [qdq_conv(s, w)], "y", S, "int8", q(0.1, 4)))
    stored = changed(AbsorbQdq(), graph).values["c/weights"]
    assert stored.data is not None
    assert stored.data.dtype == np.int8
    assert stored.data.ravel().tolist() == list(range(-18, 18))


def test_gemm_weights_get_their_output_channels_first() -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", (1, 2), "int8", q(0.5, 1))], "d", (1, 2))
    w = s.constant("w", [[1, 2, 3], [4, 5, 6]], "int8", per_channel(0.25, 0.5, 1.0, axis=1))
    wd = s.node("Dequantize", [w], "wd", (2, 3))
    g = s.node("Gemm", [d, wd, s.constant("b", [[1.0, 2.0, 3.0]], "float32")], "g", (1, 3))
    golden("gemm", AbsorbQdq(), s.done(s.node("Quantize", [g], "y", (1, 3), "int8", q(0.1, 4))))


@pytest.mark.parametrize("scaled", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}])
def test_a_scaled_gemm_stays_in_float(scaled: dict[str, Any]) -> None:
    s = Sketch()
    d = s.node("Dequantize", [s.input("x", (2, 2), "int8", q(0.5, 1))], "d", (2, 2))
    w = s.node("Dequantize", [s.constant("w", np.ones((2, 2)), "int8", q(1))], "wd", (2, 2))
    g = s.node("Gemm", [d, w], "g", (2, 2), **scaled)
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [g], "y", (2, 2), "int8", q(0.1, 4))))


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
    ("attributes", "weights", "point"),
    [
        pytest.param({"dilations": (13, 1)}, "int8", 0, id="dilation"),
        pytest.param({}, "int8", 3, id="asymmetric weights"),
        pytest.param({}, "uint8", 127, id="unsigned weights off 128"),
    ],
)
def test_what_the_npu_cannot_do_stays_in_float(
    attributes: dict[str, Any], weights: str, point: int
) -> None:
    s = Sketch()
    w = s.constant("w", np.arange(36).reshape(2, 2, 3, 3), weights, q(0.25, point))
    c = qdq_conv(s, w, **attributes)
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [c], "y", S, "int8", q(0.1, 4))))


def test_a_convolution_whose_float_result_is_wanted_stays_in_float() -> None:
    s = Sketch()
    c = qdq_conv(s, s.constant("w", np.ones((2, 2, 3, 3)), "int8", q(0.25)))
    unchanged(AbsorbQdq(), s.done(s.node("Quantize", [c], "y", S, "int8", q(0.1, 4)), c))


def test_average_over_padding_stays_in_float_unless_padding_counts() -> None:
    for counts in (0, 1):
        s = Sketch()
        d = s.node("Dequantize", [s.input("x", S, "int8", q(0.5, 1))], "d", S)
        p = s.node("AveragePool", [d], "p", S, count_include_pad=counts, **WINDOW)
        graph = s.done(s.node("Quantize", [p], "y", S, "int8", q(0.1, 4)))
        assert AbsorbQdq().run(graph, CompilerOptions()).changed == bool(counts)


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
