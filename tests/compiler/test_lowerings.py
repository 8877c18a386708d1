"""From dfg down to lir, as text: golden/<step>/<case>.txt has the graph before and after."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.cdfg.ir import Cdfg
from furiosa.compiler.cdfg.printer import print_cdfg
from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.dfg.printer import print_dfg
from furiosa.compiler.diagnostics import InvalidModel, OutOfDram
from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.gir.printer import print_gir
from furiosa.compiler.infra import Ir, Lowering, Pass
from furiosa.compiler.ldfg.ir import HostSection, Ldfg, NpuNode, NpuSection
from furiosa.compiler.ldfg.passes.merge_sections import MergeSections
from furiosa.compiler.ldfg.passes.remove_reshapes import RemoveReshapes
from furiosa.compiler.ldfg.printer import print_ldfg
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS
from furiosa.enf.limits import Limits
from furiosa.enf.program import Space
from support import goldens
from support.sketches import WINDOW, Sketch, per_channel, placed_cnn, q

NPU: dict[str, Any] = {"place": Place.NPU}
OPTIONS = CompilerOptions()
S = (1, 2, 4, 4)
_IR = {ir.type: ir for ir in IRS}


def ldfg(graph: Dfg) -> Ldfg:
    return DfgToLdfg().run(graph, OPTIONS)


def cdfg(graph: Dfg, target: str = "warboy-2pe") -> Cdfg:
    return LdfgToCdfg().run(ldfg(graph), CompilerOptions(target=target))


def gir(graph: Dfg) -> Gir:
    return CdfgToGir().run(cdfg(graph), OPTIONS)


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


def test_requantising_any_shape_is_a_convolution_of_one_pixel() -> None:
    s = Sketch()
    x = s.input("x", (2, 3), "int8", q(0.5, 3))
    graph = s.done(
        s.node("Requantize", [x], "y", (2, 3), "uint8", q(0.3, 9), place=Place.NPU, low=9, high=255)
    )
    golden("dfg-to-ldfg/requantize", graph, ldfg(graph))


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


@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
def test_pes_share_convolutions_with_a_channel_for_each(target: str) -> None:
    s = Sketch()
    x = s.input("x", S, "int8", q(0.5))
    given = {**WINDOW, "group": 1, "low": -128, "high": 127, **NPU}
    w, v = (s.constant(n, np.ones((c, 2, 3, 3)), "int8", q(0.5)) for n, c in (("w", 2), ("v", 1)))
    wide = s.node("QConv", [x, w], "wide", S, "int8", q(0.5), **given)
    one = s.node("QConv", [wide, v], "one", (1, 1, 4, 4), "int8", q(0.5), **given)
    graph = ldfg(s.done(one, s.node("Dequantize", [wide], "d", S, place=Place.NPU)))
    golden(f"ldfg-to-cdfg/{target}", graph, LdfgToCdfg().run(graph, CompilerOptions(target=target)))


def test_buffers_live_from_their_writer_to_their_last_reader() -> None:
    graph = cdfg(placed_cnn())
    golden("cdfg-to-gir/cnn", graph, CdfgToGir().run(graph, OPTIONS))


def test_buffers_that_never_meet_share_addresses() -> None:
    graph = gir(placed_cnn())
    golden("allocate/cnn", graph, run(Allocate(), graph))


def test_what_does_not_fit_in_sram_spills_to_dram() -> None:
    placed = run(Allocate(Limits(sram_bytes=64)), gir(placed_cnn()))
    spaces = {buffer.name: (buffer.space, buffer.offset) for buffer in placed.buffers}
    assert broken(placed) == []
    assert placed.sram_bytes <= 64
    assert spaces["c"] == (Space.SRAM, 0)  # the largest comes first
    assert spaces["xq"][0] is Space.DRAM
    assert spaces["f"] == spaces["p"]  # a reshape stays in the place of its source


def test_tensors_that_do_not_fit_in_dram_are_named() -> None:
    with pytest.raises(OutOfDram, match=r"need 192 bytes of DRAM and 100 .*'x' \(64 bytes\)"):
        Allocate(Limits(dram_bytes=100)).run(gir(placed_cnn()), OPTIONS)


def test_operations_become_instructions() -> None:
    """Without a host section: its bytes are the business of the onnx package."""
    graph = run(Allocate(), gir(placed_cnn(host=False)))
    golden("gir-to-lir/cnn", graph, GirToLir().run(graph, OPTIONS))


def test_equal_constants_become_one() -> None:
    s = Sketch()
    x = s.input("x", S, "int8", q(0.5))
    w, v = (s.constant(name, np.ones((2, 2, 3, 3)), "int8", q(0.5)) for name in "wv")
    given = {**WINDOW, "group": 1, "low": -128, "high": 127, **NPU}
    a = s.node("QConv", [x, w], "a", S, "int8", q(0.5), **given)
    b = s.node("QConv", [a, v], "b", S, "int8", q(0.25), **given)
    lir = GirToLir().run(run(Allocate(), gir(s.done(b))), OPTIONS)
    first, second = lir.instructions
    assert (first.weights, first.bias) == (second.weights, second.bias)
    assert first.multiplier != second.multiplier
    assert len(lir.constants) == 4


def test_a_lowering_does_not_change_its_input() -> None:
    graph: Any = placed_cnn()
    steps: tuple[tuple[Any, Lowering[Any, Any] | Pass[Any]], ...] = (
        (print_dfg, DfgToLdfg()),
        (print_ldfg, LdfgToCdfg()),
        (print_cdfg, CdfgToGir()),
        (print_gir, Allocate()),
        (print_gir, GirToLir()),
    )
    for show, work in steps:
        before = show(graph)
        result = work.run(graph, OPTIONS)
        assert show(graph) == before
        graph = result.graph if isinstance(work, Allocate) else result
    assert isinstance(graph, Lir)
