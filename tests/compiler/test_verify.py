"""One refusal for each rule of each IR: a graph that breaks that rule, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.compiler.cdfg import ir as cdfg
from furiosa.compiler.cdfg import verify as cdfg_rules
from furiosa.compiler.dfg import verify as dfg_rules
from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.gir import ir as gir
from furiosa.compiler.gir import verify as gir_rules
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg import ir as ldfg
from furiosa.compiler.ldfg import verify as ldfg_rules
from furiosa.compiler.lir import ir as lir
from furiosa.compiler.lir import verify as lir_rules
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode
from furiosa.enf.program import Space
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


def weights_with_a_zero_point() -> Dfg:
    s = Sketch()
    w = s.constant("w", np.ones((2, 2, 1, 1)), "int8", q(1, 5))
    x = s.input("x", S, "int8", q(1))
    return s.done(s.node("QConv", [x, w], "y", S, "int8", q(1), low=0, high=1))


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
        dfg_rules.q_weights_are_symmetric_constants,
        weights_with_a_zero_point,
        "y (QConv) has weights 'w' with a zero point other than 0",
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
        ldfg_rules.npu_operands_have_the_types_of_the_operation,
        with_npu(on("c", opcode=Opcode.DEQUANTIZE)),
        "c (dequantize) makes int8 of int8",
    ),
    (
        ldfg_rules.npu_shapes_fit_the_operation,
        with_npu(on("c", opcode=Opcode.ADD)),
        "c (add) makes [1, 2, 4, 4] of [1, 1, 4, 4]",
    ),
    (
        ldfg_rules.convolutions_have_a_constant_for_each_channel,
        with_npu(on("c", bias=np.zeros(3, np.int32))),
        "c (conv2d) has bias [3] for 2 channels",
    ),
]


def tasks() -> cdfg.Cdfg:
    return LdfgToCdfg().run(lowered(), OPTIONS)


def with_task(index: int, **fields: Any) -> Callable[[], cdfg.Cdfg]:
    def build() -> cdfg.Cdfg:
        graph = tasks()
        changed = list(graph.tasks)
        changed[index] = replace(changed[index], **fields)
        return replace(graph, tasks=tuple(changed))

    return build


def on_pe_2() -> cdfg.Cdfg:
    graph = tasks()
    npu, host = graph.tasks
    assert isinstance(npu, cdfg.NpuTask)
    moved = tuple(replace(operation, pes=4) for operation in npu.operations)
    return replace(graph, tasks=(replace(npu, operations=moved), host))


CDFG: list[Case] = [
    (
        cdfg_rules.neighbouring_tasks_differ_in_place,
        lambda: replace(tasks(), tasks=(tasks().tasks[0], tasks().tasks[0])),
        "tasks 0 and 1 are both of NpuTask",
    ),
    (
        cdfg_rules.task_inputs_are_what_it_reads_from_outside,
        with_task(1, inputs=()),
        "task 1 reads ['d'], declares []",
    ),
    (
        cdfg_rules.task_inputs_are_there_in_time,
        with_task(0, outputs=()),
        "task 1 reads 'd' before any task made it",
    ),
    (
        cdfg_rules.task_outputs_are_made_by_it,
        with_task(0, outputs=("d", "y")),
        "task 0 declares 'y', which it does not make",
    ),
    (
        cdfg_rules.operations_have_pes_of_the_target,
        on_pe_2,
        "xq is placed on PE mask 0b100, warboy-2pe has 2 PEs",
    ),
]


def allocated() -> gir.Gir:
    return Allocate().run(CdfgToGir().run(tasks(), OPTIONS), OPTIONS).graph


def with_buffer(name: str, **fields: Any) -> Callable[[], gir.Gir]:
    def build() -> gir.Gir:
        graph = allocated()
        buffers = (replace(b, **fields) if b.name == name else b for b in graph.buffers)
        return replace(graph, buffers=tuple(buffers))

    return build


GIR: list[Case] = [
    (
        gir_rules.buffers_exist,
        lambda: replace(allocated(), outputs=(99,)),
        "buffer b99 is named, there are 10",
    ),
    (
        gir_rules.buffers_live_while_they_are_used,
        with_buffer("c", last=1),
        "step 2 uses 'c', which lives 1..1",
    ),
    (
        gir_rules.callers_buffers_live_throughout,
        with_buffer("x", last=1),
        "'x' is the caller's and lives 0..1",
    ),
    (
        gir_rules.shared_buffers_are_in_dram,
        with_buffer("d", space=Space.SRAM, offset=1 << 20),
        "'d' is shared and lies in SRAM",
    ),
    (
        gir_rules.offsets_are_aligned_and_within,
        with_buffer("c", offset=32),
        "'c' starts at 32, no multiple of 64",
    ),
    (
        gir_rules.aliases_share_place_and_size,
        with_buffer("f", offset=0),
        "'f' is not in the place of 'p'",
    ),
    (
        gir_rules.live_buffers_do_not_overlap,
        with_buffer("xq", offset=0),
        "'xq' and 'c' overlap at sram+0",
    ),
]


def instructions() -> lir.Lir:
    return GirToLir().run(allocated(), OPTIONS)


def with_wild_index() -> lir.Lir:
    graph = instructions()
    first, *rest = graph.instructions
    return replace(graph, instructions=(replace(first, multiplier=99), *rest))


LIR: list[Case] = [
    (lir_rules.indices_exist, with_wild_index, "instruction 0 (QUANTIZE) has multiplier 99 of 9"),
    (
        lir_rules.every_instruction_has_a_source,
        lambda: replace(instructions(), provenance=("",) * 8),
        "instruction 0 comes from nowhere",
    ),
    (
        lir_rules.constants_are_distinct_and_used,
        lambda: replace(instructions(), constants=(*instructions().constants, np.zeros(1))),
        "constant 9 is not used",
    ),
]
CASES = [*DFG, *LDFG, *CDFG, *GIR, *LIR]
RULES = [
    rule
    for module in (dfg_rules, ldfg_rules, cdfg_rules, gir_rules, lir_rules)
    for rule in module.RULES
]


@pytest.mark.parametrize(
    ("rule", "graph", "message"), CASES, ids=lambda item: getattr(item, "__name__", "")
)
def test_rule_refuses(rule: Rule, graph: Callable[[], Any], message: str) -> None:
    assert next(rule(graph()), None) == message


def test_every_rule_has_its_refusal() -> None:
    assert [rule for rule, _, _ in CASES] == RULES
