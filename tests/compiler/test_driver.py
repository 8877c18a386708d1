"""Stages, progress lines, stopping early, options, and what instruments catch."""

import gc
import io
import logging
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from furiosa.common.clock import ManualClock
from furiosa.compiler import (
    CompilationFailed,
    CompilerOptions,
    InvalidConfig,
    InvalidNpuId,
    PrintProgress,
    compile,
)
from furiosa.compiler.cdfg.ir import Cdfg
from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.infra import Pass, PassResult, Work
from furiosa.compiler.instruments import Keep, Spills, Verify
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.measures import changes, measure
from furiosa.compiler.options import IRS as NAMES
from furiosa.compiler.pipeline import IRS, STAGES
from furiosa.compiler.progress import seconds_text
from support import models
from support.sketches import placed_cnn

MODEL = models.quantized(models.residual_cnn()).SerializeToString()


def lines(target_ir: str) -> list[str]:
    stream = io.StringIO()
    compile(
        MODEL, CompilerOptions(target_ir=target_ir), PrintProgress(stream), clock=ManualClock(5.0)
    )
    return stream.getvalue().splitlines()


def test_progress_has_the_published_lines() -> None:
    assert lines("enf") == [
        "[1/6] 🔍   Compiling from onnx to dfg",
        "Done in 0s",
        "[2/6] 🔍   Compiling from dfg to ldfg",
        "▪▪▪▪▪ [1/3] Splitting graph(LAS)...Done in 0s",
        "▪▪▪▪▪ [2/3] Lowering graph(LAS)...Done in 0s",
        "▪▪▪▪▪ [3/3] Optimizing graph...Done in 0s",
        "Done in 0s",
        "[3/6] 🔍   Compiling from ldfg to cdfg",
        "Done in 0s",
        "[4/6] 🔍   Compiling from cdfg to gir",
        "Done in 0s",
        "[5/6] 🔍   Compiling from gir to lir",
        "Done in 0s",
        "[6/6] 🔍   Compiling from lir to enf",
        "Done in 0s",
        "✨  Finished in 0s",
    ]


def test_stopping_early_runs_and_counts_fewer_stages() -> None:
    assert lines("dfg") == [
        "[1/1] 🔍   Compiling from onnx to dfg",
        "Done in 0s",
        "✨  Finished in 0s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0038304, "0.0038304s"),
        (29.331545, "29.331545s"),
        (1079.9143, "1079.9143s"),
        (0.000001198, "0.000001198s"),
        (2.0, "2s"),
        (0.1 + 0.2, "0.3s"),
        (12345678.0, "12345678s"),
    ],
)
def test_times_are_the_shortest_plain_decimal_of_a_float32(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize("name", NAMES[:-1])
def test_every_ir_has_a_text_form(name: str) -> None:
    text = compile(MODEL, CompilerOptions(target_ir=name.upper())).decode()
    assert text.startswith(f"{name} net opset 13 batch 1")


def test_stages_follow_each_other() -> None:
    assert [stage.source for stage in STAGES] == ["onnx", *NAMES[:-1]]
    assert [stage.target for stage in STAGES] == list(NAMES)


def test_options_are_checked() -> None:
    with pytest.raises(
        InvalidNpuId, match="invalid NPU id 'renegade': choose from warboy, warboy-2pe"
    ):
        CompilerOptions(target="renegade")
    with pytest.raises(InvalidConfig, match="invalid target ir 'sir'"):
        CompilerOptions(target_ir="sir")
    with pytest.raises(InvalidConfig, match="invalid batch size 0"):
        CompilerOptions(batch_size=0)


def test_kept_graphs_are_the_last_ones_and_no_others() -> None:
    keep = Keep(Dfg, Gir)
    compile(MODEL, instruments=(keep,))
    gir, dfg = keep.last(Gir), keep.last(Dfg)
    assert gir is not None
    assert gir.dram_bytes > 0  # allocated
    assert dfg is not None
    assert {node.place for node in dfg.nodes} == {Place.NPU}  # split
    assert keep.last(Lir) is None
    assert Keep().last(Gir) is None


def graphs() -> int:
    """How many graphs there are in this process."""
    return sum(type(each) in (Dfg, Ldfg, Cdfg, Gir, Lir) for each in gc.get_objects())


def test_no_graph_outlives_the_step_after_it() -> None:
    counts: list[int] = []

    class Watch:
        def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
            counts.append(graphs())

    gc.collect()
    already = graphs()
    compile(MODEL, instruments=(Watch(),))
    assert max(counts) - already == 2  # what went into a step and what came out


def test_instruments_see_every_step_after_it_was_verified() -> None:
    seen: list[str] = []

    class Note:
        def after(self, work: Work, before: Any, result: Any, seconds: float) -> None:
            seen.append(work.name)

    compile(MODEL, CompilerOptions(target_ir="ldfg"), instruments=(Note(),))
    assert seen == [step.work.name for stage in STAGES[:2] for step in stage.steps]


def test_the_log_says_what_each_step_did(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "furiosa.compiler"):
        program = compile(MODEL, clock=ManualClock(5.0))
    steps = [m for m in caplog.messages if " took " in m]
    assert len(steps) == sum(len(stage.steps) for stage in STAGES)
    assert "permute-inputs took 0.000000 s: nothing to do" in steps
    assert any(m.startswith("split took 0.000000 s: on the NPU 0 -> ") for m in steps)
    assert f"lower-lir-to-enf took 0.000000 s: {len(program)} bytes" == steps[-1]


def test_spilled_bytes_are_counted_when_all_is_allocated() -> None:
    keep, spills = Keep(Gir), Spills()
    compile(MODEL, instruments=(keep, spills))
    gir = keep.last(Gir)
    assert gir is not None
    assert spills.bytes == 0
    moved = replace(gir.buffers[0], spilled=True, alias=None)
    spilled = replace(gir, buffers=(moved, *gir.buffers[1:]))
    spills.after(Breaks(), gir, PassResult(spilled, True), 0.0)
    assert spills.bytes == moved.nbytes > 0
    assert changes(measure(gir), measure(spilled)) == f"spilled bytes 0 -> {moved.nbytes}"


class Breaks(Pass[Dfg]):
    """Leaves a graph whose output nobody defines."""

    name: ClassVar[str] = "breaks"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        return PassResult(replace(graph, nodes=graph.nodes[:-1]), True)


class Lies(Pass[Dfg]):
    """Says that it changed nothing and hands back another graph."""

    name: ClassVar[str] = "lies"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        return PassResult(graph.copy(), False)


def after(work: Pass[Dfg]) -> None:
    verify = Verify({ir.type: ir for ir in IRS})
    graph: Any = placed_cnn()
    verify.after(Breaks(), graph, PassResult(graph, False), 0.0)  # a good step before
    verify.after(work, graph, work.run(graph, CompilerOptions()), 0.0)


def test_a_pass_that_leaves_a_broken_graph_is_named_with_its_predecessors() -> None:
    with pytest.raises(CompilationFailed) as caught:
        after(Breaks())
    assert str(caught.value) == (
        "breaks left a broken dfg: the graph's output 'y' is never defined (rule "
        "values_are_defined_once_and_before_use, after breaks); this is a defect of the compiler, "
        "please report it with the model"
    )


def test_a_pass_that_changes_in_silence_is_caught() -> None:
    with pytest.raises(
        CompilationFailed, match="lies left a broken dfg: a graph replaced in silence"
    ):
        after(Lies())


def test_the_log_says_why_an_operator_is_not_for_the_npu(caplog: pytest.LogCaptureFixture) -> None:
    model = models.quantized(models.residual_cnn(middle="LogSoftmax"))
    with caplog.at_level(logging.DEBUG, "furiosa.compiler"):
        compile(model.SerializeToString())
    assert "middle (LogSoftmax) runs on the host: the NPU has no LogSoftmax" in caplog.messages
    assert any(message.startswith("absorb-qdq took ") for message in caplog.messages)
