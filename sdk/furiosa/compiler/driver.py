"""Runs the stages: verifies between steps, reports progress, stops where it was told to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from furiosa.common.clock import Clock
from furiosa.compiler.infra import Instrument, Stage, Step, graph_of
from furiosa.compiler.instruments import LogSteps, Verify
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS
from furiosa.compiler.progress import Progress, SilentProgress
from furiosa.compiler.source import blamed_on, stages_from, steps_before
from furiosa.compiler.text import with_data

_IRS = {ir.name: ir for ir in IRS}


def compile(
    model: bytes,
    options: CompilerOptions | None = None,
    progress: Progress | None = None,
    *,
    instruments: Sequence[Instrument] = (),
    clock: Clock = time.perf_counter,
) -> bytes:
    """Compile an ONNX or TensorFlow Lite model, or the text of an IR, to an ENF program or to such a text.

    `options.target_ir` says which. Target and batch size are for what does not have its own yet: a cdfg
    and what follows keep their target, what follows a dfg its batch size. The same model, options and
    version give the same bytes; nothing else is read. `instruments` see every step, after those that
    verify and log it.
    Raises: CompileError.
    """
    options = options or CompilerOptions()
    progress = progress or SilentProgress()
    own: tuple[Instrument, ...] = (Verify({ir.type: ir for ir in IRS}), LogSteps())
    stages = stages_from(model, options)
    run = _Run(model, options, progress, (*own, *instruments), clock)
    start = clock()
    with blamed_on(model):
        for step in steps_before(model):
            run.step(step)
        for index, stage in enumerate(stages, 1):
            progress.stage_started(index, len(stages), stage.source, stage.target)
            began = clock()
            run.stage(stage)
            progress.stage_done(clock() - began)
    progress.finished(clock() - start)
    if options.target_ir == "enf":
        assert isinstance(run.graph, bytes)
        return run.graph
    ir = _IRS[options.target_ir]
    return with_data(ir.print(run.graph), ir.arrays(run.graph)).encode()


@dataclass(slots=True)
class _Run:
    """`graph` is the only graph that is kept: what a step was given is gone when the next one runs."""

    graph: Any
    options: CompilerOptions
    progress: Progress
    instruments: Sequence[Instrument]
    clock: Clock

    def stage(self, stage: Stage) -> None:
        groups = [(label, tuple(steps)) for label, steps in groupby(stage.steps, lambda s: s.label)]
        for index, (label, steps) in enumerate(groups, 1):
            began = self.clock()
            for step in steps:
                self.step(step)
            if label:
                self.progress.step_done(index, len(groups), label, self.clock() - began)

    def step(self, step: Step) -> None:
        began = self.clock()
        with np.errstate(all="ignore"):  # rules, not warnings, refuse what an overflow leads to
            result = step.work.run(self.graph, self.options)
        seconds = self.clock() - began
        for instrument in self.instruments:
            instrument.after(step.work, self.graph, result, seconds)
        self.graph = graph_of(result)
