"""Runs the stages: verifies between steps, reports progress, stops where it was told to."""

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from furiosa.common.clock import Clock
from furiosa.compiler.frontend import ImportTflite, is_tflite
from furiosa.compiler.infra import Instrument, PassResult, Stage, Step
from furiosa.compiler.instruments import LogSteps, Verify
from furiosa.compiler.options import IRS as NAMES
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS, STAGES
from furiosa.compiler.progress import Progress, SilentProgress

_PRINT = {ir.name: ir.print for ir in IRS}


def compile(
    model: bytes,
    options: CompilerOptions | None = None,
    progress: Progress | None = None,
    *,
    clock: Clock = time.perf_counter,
) -> bytes:
    """Compile the bytes of an ONNX or TensorFlow Lite model to an ENF program or the text of an IR.

    `options.target_ir` says which. The same model, options and version give the same bytes; nothing
    else is read.
    Raises: CompileError.
    """
    options = options or CompilerOptions()
    progress = progress or SilentProgress()
    instruments: tuple[Instrument, ...] = (Verify({ir.type: ir for ir in IRS}), LogSteps())
    stages = _stages(model)[: NAMES.index(options.target_ir) + 1]
    graph: Any = model
    start = clock()
    for index, stage in enumerate(stages, 1):
        progress.stage_started(index, len(stages), stage.source, stage.target)
        began = clock()
        graph = _stage(stage, graph, options, progress, instruments, clock)
        progress.stage_done(clock() - began)
    progress.finished(clock() - start)
    if options.target_ir == "enf":
        assert isinstance(graph, bytes)
        return graph
    return _PRINT[options.target_ir](graph).encode()


def _stages(model: bytes) -> tuple[Stage, ...]:
    """The pipeline, which begins with ONNX, with the frontend for this model."""
    if not is_tflite(model):
        return STAGES
    first, *others = STAGES
    return Stage("tflite", first.target, (Step(ImportTflite()), *first.steps[1:])), *others


def _stage(
    stage: Stage,
    graph: Any,
    options: CompilerOptions,
    progress: Progress,
    instruments: Sequence[Instrument],
    clock: Clock,
) -> Any:
    groups = [(label, tuple(steps)) for label, steps in groupby(stage.steps, lambda s: s.label)]
    for index, (label, steps) in enumerate(groups, 1):
        began = clock()
        for step in steps:
            graph = _step(step, graph, options, instruments, clock)
        if label:
            progress.step_done(index, len(groups), label, clock() - began)
    return graph


def _step(
    step: Step,
    graph: Any,
    options: CompilerOptions,
    instruments: Sequence[Instrument],
    clock: Clock,
) -> Any:
    began = clock()
    with np.errstate(all="ignore"):  # rules, not warnings, refuse what an overflow leads to
        result = step.work.run(graph, options)
    seconds = clock() - began
    for instrument in instruments:
        instrument.after(step.work, graph, result, seconds)
    return result.graph if isinstance(result, PassResult) else result
