"""From dfg to ldfg, as text: golden/<step>/<case>.txt has the graph before and after."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.infra import Ir, Pass
from furiosa.compiler.ldfg.ir import HostSection, Ldfg, NpuNode, NpuSection
from furiosa.compiler.ldfg.passes.merge_sections import MergeSections
from furiosa.compiler.ldfg.passes.remove_reshapes import RemoveReshapes
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS
from support import goldens
from support.sketches import WINDOW, Sketch, per_channel, placed_cnn, q

NPU: dict[str, Any] = {"place": Place.NPU}
OPTIONS = CompilerOptions()
S = (1, 2, 4, 4)
_IR = {ir.type: ir for ir in IRS}


def ldfg(graph: Dfg) -> Ldfg:
    return DfgToLdfg().run(graph, OPTIONS)


def broken(graph: Any) -> list[str]:
    ir: Ir = _IR[type(graph)]
    return [message for rule in ir.rules for message in rule(graph)]


def golden(name: str, before: Any, after: Any) -> None:
    assert broken(after) == []
    goldens.check(name, _IR[type(before)].print(before), _IR[type(after)].print(after))


def run(work: Pass[Any], graph: Any) -> Any:
    result = work.run(graph, OPTIONS)
    assert result.changed
    return result.graph


def test_operators_become_operations_and_host_nodes() -> None:
    golden("dfg-to-ldfg/cnn", placed_cnn(), ldfg(placed_cnn()))


def test_multipliers_are_rounded_step_by_step_in_float32() -> None:
    """(input scale * weight scale) / output scale; any other order gives other last bits."""
    rng = np.random.default_rng(3)
    x, y, *w = (float(scale) for scale in rng.uniform(0.01, 1, 66).astype(np.float32))
    s = Sketch()
    weights = s.constant("w", np.ones((64, 2)), "int8", per_channel(*w))
    source = s.input("x", (1, 2), "int8", q(x))
    graph = ldfg(
        s.done(s.node("QGemm", [source, weights], "y", (1, 64), "int8", q(y), **NPU, low=0, high=1))
    )
    (node,) = (n for n in graph.nodes if isinstance(n, NpuNode) and n.weights is not None)
    f = np.float32
    assert node.multiplier is not None
    assert node.multiplier.tolist() == [float(f(f(f(x) * f(scale)) / f(y))) for scale in w]
    assert node.multiplier.tolist() != [float(f(f(x) * f(f(scale) / f(y)))) for scale in w]


def pooled(op: str, after: tuple[int, ...], **attributes: Any) -> Dfg:
    s = Sketch()
    x = s.input("x", (1, 2, 5, 5), "int8", q(0.5, 3))
    given = {**WINDOW, **attributes}
    if op == "QAveragePool":
        given |= {"low": -128, "high": 127}
    params = q(0.5, 3) if op == "MaxPool" else q(0.25)
    return s.done(s.node(op, [x], "y", after, "int8", params, place=Place.NPU, **given))


def test_rounding_a_pool_up_is_padding_at_the_end() -> None:
    pads = {"pads": (0, 0, 0, 0), "strides": (2, 2), "kernel_shape": (2, 2), "ceil_mode": 1}
    graph = pooled("MaxPool", (1, 2, 3, 3), **pads)
    golden("dfg-to-ldfg/max-pool-ceil", graph, ldfg(graph))


def test_an_average_is_a_depthwise_sum_of_ones() -> None:
    graph = pooled("QAveragePool", (1, 2, 3, 3), pads=(0, 0, 0, 0))
    golden("dfg-to-ldfg/average-pool", graph, ldfg(graph))


def test_requantising_is_a_table() -> None:
    s = Sketch()
    x = s.input("x", (2, 3), "int8", q(0.5, 3))
    given: dict[str, Any] = {"place": Place.NPU, "low": 9, "high": 255}
    graph = s.done(s.node("Requantize", [x], "y", (2, 3), "uint8", q(0.3, 9), **given))
    golden("dfg-to-ldfg/requantize", graph, ldfg(graph))


FULL: dict[str, Any] = {"low": -128, "high": 127, **NPU}


def test_a_constant_operand_is_loaded_and_shapes_get_one_rank() -> None:
    s = Sketch()
    k = s.constant("k", np.arange(16).reshape(4, 4), "int8", q(0.25, 2))
    a = s.node("QSub", [s.input("x", S, "int8", q(0.5)), k], "a", S, "int8", q(0.125, 1), **FULL)
    b = s.node("QMul", [s.input("z", (4, 1), "int8", q(2)), a], "b", S, "int8", q(0.5), **FULL)
    t = s.constant("t", np.zeros((4, 256)), "int8")
    graph = s.done(s.node("QTable", [b, t], "y", S, "int8", q(1), axis=2, **NPU))
    golden("dfg-to-ldfg/elementwise", graph, ldfg(graph))


def test_several_of_one_scale_are_stacked_and_summed() -> None:
    s = Sketch()
    names = [s.input(name, (2, 3), "int8", q(0.5, 4)) for name in "abc"]
    graph = s.done(s.node("QMean", names, "y", (2, 3), "int8", q(0.25), **FULL))
    golden("dfg-to-ldfg/mean-of-three", graph, ldfg(graph))


def test_matrices_become_stacks_and_rows_become_images() -> None:
    s = Sketch()
    a, b = s.input("a", (2, 1, 3, 4), "int8", q(0.5, 1)), s.input("b", (5, 4, 2), "int8", q(0.25))
    m = s.node("QMatMul", [a, b], "m", (2, 5, 3, 2), "int8", q(1), **FULL)
    w = s.constant("w", np.ones((3, 4)), "int8", q(0.5, 7))
    x = s.input("x", (4, 2), "int8", q(0.5, 3))
    g = s.node("QGemm", [x, w], "g", (2, 3), "int8", q(1), transA=1, **FULL)
    graph = s.done(m, g)
    golden("dfg-to-ldfg/matrices", graph, ldfg(graph))


def test_what_sums_along_axes() -> None:
    s = Sketch()
    x = s.input("x", (2, 3, 4), "int8", q(0.5, 1))
    shapes = {"QReduceSum": (2, 1, 1), "QReduceMean": (2,), "QReduceL2": (2, 1, 1)}
    outputs = [
        s.node(op, [x], op, shape, "int8", q(0.25), axes=(1, 2), **FULL)
        for op, shape in shapes.items()
    ]
    outputs += [
        s.node(op, [x], op, (2, 3, 4), "int8", q(0.25, -8), axes=(1,), **FULL)
        for op in ("QL2Normalize", "QSoftmax")
    ]
    graph = s.done(*outputs)
    golden("dfg-to-ldfg/reductions", graph, ldfg(graph))


def test_a_line_is_an_image_of_one_row() -> None:
    s = Sketch()
    w = s.constant("w", np.ones((3, 2, 3)), "int8", q(0.5))
    given: dict[str, Any] = {
        "kernel_shape": (3,),
        "strides": (2,),
        "dilations": (1,),
        "pads": (1, 0),
        "group": 1,
    }
    x = s.input("x", (1, 2, 8), "int8", q(0.5))
    graph = s.done(s.node("QConv", [x, w], "y", (1, 3, 4), "int8", q(1), **given, **FULL))
    golden("dfg-to-ldfg/line", graph, ldfg(graph))


def test_host_forms_are_onnx() -> None:
    s = Sketch()
    a = s.node("Quantize", [s.input("x", S)], "a", S, "int8", q(0.1, 3), place=Place.HOST)
    d = s.node("Dequantize", [a], "d", S, place=Place.HOST)
    f = s.node("Reshape", [d], "f", (2, 16), place=Place.HOST)
    n = s.constant("n", [2, 16], "int64")
    z = s.node(
        "ConstantOfShape", [n], "z", (2, 16), place=Place.HOST, value=np.array([2.5], np.float32)
    )
    graph = s.done(s.node("Add", [f, z], "y", (2, 16), place=Place.HOST))
    golden("dfg-to-ldfg/host", graph, ldfg(graph))


def test_an_operator_no_section_may_hold_is_refused_by_name() -> None:
    s = Sketch()
    graph = s.done(s.node("NonZero", [s.input("x", S)], "y", S, place=Place.HOST))
    with pytest.raises(InvalidModel, match=r"node 'y' \(NonZero\): neither the NPU nor the host"):
        ldfg(graph)


def test_reshape_chains_collapse_and_empty_ones_vanish() -> None:
    s = Sketch()
    shapes = {"a": (1, 32), "b": (32, 1), "same": (1, 2, 4, 4), "c": (8, 4)}
    value = s.input("x", S, "int8", q(0.5))
    for name, shape in shapes.items():
        value = s.node("Reshape", [value], name, shape, "int8", q(0.5), place=Place.NPU)
        if name == "same":
            kept = s.node("Dequantize", [value], "kept", S, place=Place.NPU)
    graph = ldfg(s.done(value, kept))
    golden("remove-reshapes/chain", graph, run(RemoveReshapes(), graph))


def test_sections_left_as_neighbours_become_one() -> None:
    s = Sketch()
    a = s.node("Sigmoid", [s.input("x", S)], "a", S, place=Place.HOST)
    same = s.node("Reshape", [a], "same", S, place=Place.NPU)
    graph = ldfg(s.done(s.node("Tanh", [same], "y", S, place=Place.HOST)))
    assert [type(section) for section in graph.sections] == [HostSection, NpuSection, HostSection]
    graph = run(RemoveReshapes(), graph)
    golden("merge-sections/host", graph, run(MergeSections(), graph))
