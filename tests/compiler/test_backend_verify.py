"""One refusal for each rule of cdfg, gir and lir: a graph that breaks that rule, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.compiler.cdfg import ir as cdfg
from furiosa.compiler.cdfg import verify as cdfg_rules
from furiosa.compiler.gir import ir as gir
from furiosa.compiler.gir import verify as gir_rules
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.infra import Rule
from furiosa.compiler.lir import ir as lir
from furiosa.compiler.lir import verify as lir_rules
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.program import Space
from support.npu_graphs import Plan

OPTIONS = CompilerOptions()
Case = tuple[Rule, Callable[[], Any], str]


def tasks(*, host: bool = True) -> cdfg.Cdfg:
    """table, conv, reshape, conv on the NPU; then the host, if wanted. v0 is the input."""
    plan = Plan()
    x = plan.conv(plan.table(plan.input(1, 4, 16, 16)), 4, 3)
    x = plan.conv(plan.reshape(x, 1, 1024, 1, 1), 8)
    return LdfgToCdfg().run(plan.done(plan.host(x) if host else x), OPTIONS)


def with_task(index: int, **fields: Any) -> Callable[[], cdfg.Cdfg]:
    def build() -> cdfg.Cdfg:
        graph = tasks()
        changed = list(graph.tasks)
        changed[index] = replace(changed[index], **fields)
        return replace(graph, tasks=tuple(changed))

    return build


def with_placed(name: str, **fields: Any) -> Callable[[], cdfg.Cdfg]:
    def build() -> cdfg.Cdfg:
        task = tasks().tasks[0]
        assert isinstance(task, cdfg.NpuTask)
        changed = (replace(o, **fields) if o.node.name == name else o for o in task.operations)
        return with_task(0, operations=tuple(changed))()

    return build


CDFG: list[Case] = [
    (
        cdfg_rules.neighbouring_tasks_differ_in_place,
        lambda: replace(tasks(), tasks=(tasks().tasks[0], tasks().tasks[0])),
        "tasks 0 and 1 are both of NpuTask",
    ),
    (
        cdfg_rules.task_inputs_are_what_it_reads_from_outside,
        with_task(1, inputs=()),
        "task 1 reads ['v4'], declares []",
    ),
    (
        cdfg_rules.task_inputs_are_there_in_time,
        with_task(0, outputs=()),
        "task 1 reads 'v4' before any task made it",
    ),
    (
        cdfg_rules.task_outputs_are_made_by_it,
        with_task(0, outputs=("v4", "v5")),
        "task 0 declares 'v5', which it does not make",
    ),
    (
        cdfg_rules.operations_have_pes_of_the_target,
        with_placed("table.v1", pes=4),
        "table.v1 is placed on PE mask 0b100, warboy-2pe has 2 PEs",
    ),
    (
        cdfg_rules.splits_are_among_the_pes,
        with_placed("conv2d.v4", pes=3, split=cdfg.Split.ROWS),
        "conv2d.v4 is split by rows, of which [1, 8, 1, 1] has none for each PE",
    ),
    (
        cdfg_rules.exchanges_follow_from_the_splits,
        with_placed("conv2d.v2", exchanged=1),
        "conv2d.v2 exchanges 1 bytes, needs 128",
    ),
]


def allocated(*, host: bool = True) -> gir.Gir:
    return Allocate().run(CdfgToGir().run(tasks(host=host), OPTIONS), OPTIONS).graph


def with_buffer(name: str, **fields: Any) -> Callable[[], gir.Gir]:
    def build() -> gir.Gir:
        graph = allocated()
        assert name in [b.name for b in graph.buffers]
        buffers = (replace(b, **fields) if b.name == name else b for b in graph.buffers)
        return replace(graph, buffers=tuple(buffers))

    return build


def with_operation(name: str, **fields: Any) -> Callable[[], gir.Gir]:
    def build() -> gir.Gir:
        graph = allocated()
        task, *rest = graph.tasks
        assert isinstance(task, gir.NpuTask)
        changed = (replace(o, **fields) if o.node.name == name else o for o in task.operations)
        return replace(graph, tasks=(gir.NpuTask(tuple(changed)), *rest))

    return build


def staging_first() -> gir.Gir:
    graph = allocated()
    *others, last = graph.buffers
    return replace(graph, buffers=(last, *others))


GIR: list[Case] = [
    (
        gir_rules.buffers_exist,
        lambda: replace(allocated(), outputs=(99,)),
        "buffer b99 is named, there are 11",
    ),
    (
        gir_rules.buffers_live_while_they_are_used,
        with_buffer("v1", last=0),
        "step 1 uses 'v1', which lives 0..0",
    ),
    (
        gir_rules.staging_lives_from_when_it_is_filled,
        with_buffer("conv2d.v2/constants", first=1),
        "'conv2d.v2/constants' is filled at step 0 for step 1, it lives 1..1",
    ),
    (
        gir_rules.callers_buffers_live_throughout,
        with_buffer("v0", last=1),
        "'v0' is the caller's and lives 0..1",
    ),
    (
        gir_rules.roles_are_what_buffers_are_used_for,
        with_buffer("v1", role=gir.Role.HOST),
        "'v1' is activation, declared host",
    ),
    (
        gir_rules.staging_comes_last,
        staging_first,
        "'conv2d.v4/tiles/v4' is b0, before a buffer of the program",
    ),
    (
        gir_rules.roles_lie_in_their_space,
        with_buffer("v1", spilled=True),
        "'v1' is activation and lies in sram",
    ),
    (
        gir_rules.splits_are_among_the_pes,
        with_operation("table.v1", split=cdfg.Split.NONE),
        "table.v1 is on PE mask 0b11 and split by none",
    ),
    (
        gir_rules.exchanges_are_not_negative,
        with_operation("table.v1", exchanged=-1),
        "table.v1 exchanges -1 bytes",
    ),
    (
        gir_rules.tiles_and_slices_are_there,
        with_operation("table.v1", tiles=17, axis=2),
        "table.v1 has 17 tiles of 16 on axis 2",
    ),
    (
        gir_rules.staging_holds_what_passes,
        with_operation("table.v1", scratch=()),
        "table.v1 has 0 scratch buffers for 1 operands",
    ),
    (
        gir_rules.offsets_are_aligned_and_within,
        with_buffer("v1", offset=32),
        "'v1' starts at 32, no multiple of 64",
    ),
    (
        gir_rules.memories_hold_their_peak,
        lambda: replace(allocated(), sram_capacity=64),
        "9408 bytes of SRAM are in use, there are 64",
    ),
    (
        gir_rules.aliases_share_place_and_size,
        with_buffer("v3", offset=64),
        "'v3' is not in the place of 'v2'",
    ),
    (
        gir_rules.live_buffers_do_not_overlap,
        with_buffer("v2", offset=0),
        "'v1' and 'v2' overlap at sram+0",
    ),
]


def instructions() -> lir.Lir:
    return GirToLir().run(allocated(host=False), OPTIONS)


def with_wild_index() -> lir.Lir:
    graph = instructions()
    first, *rest = graph.instructions
    return replace(graph, instructions=(replace(first, weights=99), *rest))


LIR: list[Case] = [
    (lir_rules.indices_exist, with_wild_index, "instruction 0 (TABLE) has weights 99 of 7"),
    (
        lir_rules.every_instruction_has_a_source,
        lambda: replace(instructions(), provenance=("",) * 4),
        "instruction 0 comes from nowhere",
    ),
    (
        lir_rules.every_instruction_has_a_split,
        lambda: replace(instructions(), splits=(cdfg.Split.NONE,) * 4),
        "instruction 0 (TABLE) is on PE mask 0b11 and split by none",
    ),
    (
        lir_rules.constants_are_distinct_and_used,
        lambda: replace(instructions(), constants=(*instructions().constants, np.zeros(1))),
        "constant 7 is not used",
    ),
]
CASES = [*CDFG, *GIR, *LIR]
RULES = [rule for module in (cdfg_rules, gir_rules, lir_rules) for rule in module.RULES]


@pytest.mark.parametrize(
    ("rule", "graph", "message"), CASES, ids=lambda item: getattr(item, "__name__", "")
)
def test_rule_refuses(rule: Rule, graph: Callable[[], Any], message: str) -> None:
    assert next(rule(graph()), None) == message


def test_every_rule_has_its_refusal() -> None:
    assert [rule for rule, _, _ in CASES] == RULES


def test_what_is_broken_there_is_whole_before() -> None:
    for graph, module in (
        (tasks(), cdfg_rules),
        (allocated(), gir_rules),
        (instructions(), lir_rules),
    ):
        assert [message for rule in module.RULES for message in rule(graph)] == []


@pytest.mark.parametrize(
    ("graph", "rule", "message"),
    [
        (
            with_operation("conv2d.v4", slices=9),
            gir_rules.tiles_and_slices_are_there,
            "conv2d.v4 has 9 slices of 8 channels",
        ),
        (
            with_operation("conv2d.v4", constants=None),
            gir_rules.staging_holds_what_passes,
            "conv2d.v4 has 0 bytes for its constants, needs 8320",
        ),
        (
            with_operation("table.v1", tiles=4, axis=2),
            gir_rules.staging_holds_what_passes,
            "'table.v1/tiles/v0' has 1024 bytes, 4 tiles need 512",
        ),
        (
            with_buffer("table.v1/tiles/v0", shape=(512,)),
            gir_rules.staging_holds_what_passes,
            "'table.v1/tiles/v0' has 512 bytes, 1 tiles need 1024",
        ),
        (
            with_buffer("v0", spilled=True),
            gir_rules.roles_lie_in_their_space,
            "'v0' is input and spilled",
        ),
        (
            with_buffer("v5", space=Space.SRAM),
            gir_rules.roles_lie_in_their_space,
            "'v5' is output and lies in sram",
        ),
        (
            lambda: replace(allocated(), dram_capacity=64),
            gir_rules.memories_hold_their_peak,
            "9840 bytes of DRAM are in use, there are 64",
        ),
        (
            lambda: replace(instructions(), constants=(*instructions().constants[:-1],) * 2),
            lir_rules.constants_are_distinct_and_used,
            "constants 0 and 6 are the same",
        ),
        (
            lambda: replace(instructions(), splits=()),
            lir_rules.every_instruction_has_a_split,
            "0 splits for 4 instructions",
        ),
    ],
)
def test_rules_refuse_in_other_words_too(
    graph: Callable[[], Any], rule: Rule, message: str
) -> None:
    assert next(rule(graph()), None) == message
