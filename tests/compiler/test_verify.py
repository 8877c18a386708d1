"""One refusal for each rule of dfg and ldfg: a graph that breaks that rule, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.compiler.dfg import verify as dfg_rules
from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg import ir as ldfg
from furiosa.compiler.ldfg import verify as ldfg_rules
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode
from support.sketches import Sketch, per_channel, placed_cnn, q

OPTIONS = CompilerOptions()
S = (1, 2, 4, 4)
Case = tuple[Rule, Callable[[], Any], str]


def unnamed() -> Dfg:
    s = Sketch()
    return s.done(s.node("Relu", ["nowhere"], "y", S))


def late() -> Dfg:
    s = Sketch()
    graph = s.done(s.node("Relu", [s.node("Relu", [s.input("x", S)], "a", S)], "y", S))
    graph.nodes.reverse()
    return graph


def twice() -> Dfg:
    graph = late()
    graph.nodes[:] = [replace(node, name="same") for node in reversed(graph.nodes)]
    return graph


def mistyped() -> Dfg:
    s = Sketch()
    k = s.constant("k", [1, 2], "int8")
    s.graph.values[k] = replace(s.graph.values[k], shape=(3,))
    return s.done(s.node("Relu", [k], "y", (3,)))


def badly_scaled() -> Dfg:
    s = Sketch()
    return s.done(s.node("Relu", [s.input("x", S, "int8", per_channel(1, 2, 3, axis=1))], "y", S))


def float_add() -> Dfg:
    s = Sketch()
    x = s.input("x", S)
    return s.done(s.node("QAdd", [x, x], "y", S, "int8", q(1), low=0, high=1))


def weights_with_zero_points() -> Dfg:
    s = Sketch()
    points = replace(per_channel(1, 1), zero_points=(5, 6))
    w = s.constant("w", np.ones((2, 2, 1, 1)), "int8", points)
    x = s.input("x", S, "int8", q(1))
    return s.done(s.node("QConv", [x, w], "y", S, "int8", q(1), low=0, high=1))


def short_table() -> Dfg:
    s = Sketch()
    names = [s.input("x", S, "int8", q(1)), s.constant("t", np.zeros((2, 256)), "int8")]
    return s.done(s.node("QTable", names, "y", S, "int8", q(1), axis=2))


def growing_reshape() -> Dfg:
    s = Sketch()
    return s.done(s.node("Reshape", [s.input("x", S)], "y", (33,)))


def sigmoid_on_the_npu() -> Dfg:
    s = Sketch()
    return s.done(s.node("Sigmoid", [s.input("x", S)], "y", S, place=Place.NPU))


DFG: list[Case] = [
    (dfg_rules.every_name_has_a_value, unnamed, "y (Relu) names 'nowhere', which has no value"),
    (
        dfg_rules.values_are_defined_once_and_before_use,
        late,
        "y (Relu) reads 'a' before it is defined",
    ),
    (dfg_rules.nodes_have_names_of_their_own, twice, "same (Relu) has the name of an earlier node"),
    (
        dfg_rules.constants_match_their_type,
        mistyped,
        "constant 'k' is ('int8', (2,)), declared ('int8', (3,))",
    ),
    (dfg_rules.quantization_fits_the_value, badly_scaled, "'x' has 3 scales, needs 2"),
    (
        dfg_rules.q_operators_read_and_write_quantised_values,
        float_add,
        "y (QAdd) has 'x' as float32, not quantised to 8 bits",
    ),
    (
        dfg_rules.q_weights_are_constants,
        weights_with_zero_points,
        "y (QConv) has weights 'w' with 2 zero points",
    ),
    (
        dfg_rules.q_tables_have_a_row_for_each_stored_value,
        short_table,
        "y (QTable) has int8[2, 256] as its table, needs int8[4, 256]",
    ),
    (
        dfg_rules.reshapes_keep_elements_and_type,
        growing_reshape,
        "y (Reshape) makes float32[33] of float32[1, 2, 4, 4]",
    ),
    (
        dfg_rules.the_npu_gets_only_what_it_can_do,
        sigmoid_on_the_npu,
        "y (Sigmoid) is placed on the NPU",
    ),
]


def lowered() -> ldfg.Ldfg:
    return DfgToLdfg().run(placed_cnn(), OPTIONS)


def with_npu(change: Callable[[ldfg.NpuNode], ldfg.NpuNode]) -> Callable[[], ldfg.Ldfg]:
    """The lowered CNN with every NPU node passed through `change`."""

    def build() -> ldfg.Ldfg:
        graph = lowered()
        npu, *rest = graph.sections
        assert isinstance(npu, ldfg.NpuSection)
        return replace(graph, sections=(ldfg.NpuSection(tuple(map(change, npu.nodes))), *rest))

    return build


def on(name: str, **fields: Any) -> Callable[[ldfg.NpuNode], ldfg.NpuNode]:
    return lambda node: replace(node, **fields) if node.name == name else node


def with_constant_input() -> ldfg.Ldfg:
    graph = lowered()
    data = np.zeros((1, 1, 4, 4), np.float32)
    values = {**graph.values, "x": replace(graph.values["x"], data=data)}
    return replace(graph, inputs=(), values=values)


LDFG: list[Case] = [
    (
        ldfg_rules.values_are_defined_once_and_before_use,
        with_npu(on("c", inputs=("p",))),
        "c (conv2d) reads 'p' before it is defined",
    ),
    (
        ldfg_rules.sections_are_not_empty,
        lambda: replace(lowered(), sections=(*lowered().sections, ldfg.HostSection(()))),
        "section 2 has no nodes",
    ),
    (
        ldfg_rules.npu_nodes_read_no_constants,
        with_constant_input,
        "xq (quantize) reads the constant 'x'",
    ),
    (
        ldfg_rules.outputs_are_made_by_nodes,
        lambda: replace(lowered(), outputs=("x",)),
        "output 0 is 'x', which no node makes or is an output already",
    ),
    (
        ldfg_rules.npu_operations_have_their_sources,
        with_npu(on("c", opcode=Opcode.ADD)),
        "c (add) has 1 sources, takes 2",
    ),
    (
        ldfg_rules.npu_operands_have_the_types_of_the_operation,
        with_npu(on("c", opcode=Opcode.DEQUANTIZE)),
        "c (dequantize) makes int8 of int8",
    ),
    (
        ldfg_rules.npu_shapes_fit_the_operation,
        with_npu(on("c", opcode=Opcode.TABLE)),
        "c (table) makes [1, 2, 4, 4] of [1, 1, 4, 4]",
    ),
    (
        ldfg_rules.npu_constants_fit_the_operation,
        with_npu(on("c", bias=np.zeros(3, np.int32))),
        "c (conv2d) has bias [3], needs [2]",
    ),
]


CASES = [*DFG, *LDFG]
RULES = [rule for module in (dfg_rules, ldfg_rules) for rule in module.RULES]


@pytest.mark.parametrize(
    ("rule", "graph", "message"), CASES, ids=lambda item: getattr(item, "__name__", "")
)
def test_rule_refuses(rule: Rule, graph: Callable[[], Any], message: str) -> None:
    assert next(rule(graph()), None) == message


def test_every_rule_has_its_refusal() -> None:
    assert [rule for rule, _, _ in CASES] == RULES
