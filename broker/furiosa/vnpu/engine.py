"""The fast way to run a program: onnxruntime, with the interpreter's bits.

Each NPU section is one graph (`npugraph`), each host section its own. Everything that can be done before
the first inference is done when the program is loaded or an `Engine.bind` is made; `Bound.execute` only
runs. A traced program has a graph for each instruction instead, and measures them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.errors import InvalidProgram
from furiosa.enf import HostSection, Program, spans
from furiosa.enf.limits import ALIGNMENT
from furiosa.vnpu import npugraph, session
from furiosa.vnpu.fused import fused
from furiosa.vnpu.host import HostGraph
from furiosa.vnpu.tensors import check

Array = npt.NDArray[Any]
_FLIP = np.uint8(npugraph.FLIP)
_clock = time.monotonic_ns


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds of one run: all of it, and the part in which NPU sections computed."""

    task_ns: int
    tensor_ns: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A graph with a session. `inputs` and `outputs` pair buffers with names in the graph."""

    session: Any
    inputs: tuple[tuple[int, str], ...]
    outputs: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Stage:
    """A section. `rows` are those of `enf.spans`: of an NPU section load, the steps and store."""

    steps: tuple[_Step, ...]
    rows: tuple[int, ...]
    on_npu: bool


@dataclass(frozen=True, slots=True)
class _BoundStage:
    """A stage on fixed memory. `before` and `after` flip int8 into its carrier and back."""

    steps: tuple[tuple[Any, Any], ...]  # sessions and bindings
    before: tuple[tuple[Array, Array], ...]
    after: tuple[Array, ...]
    on_npu: bool

    def load(self) -> None:
        for source, carrier in self.before:
            np.bitwise_xor(source, _FLIP, out=carrier)

    def store(self) -> None:
        for result in self.after:
            np.bitwise_xor(result, _FLIP, out=result)


class Bound:
    """A program on fixed input and output arrays, which it keeps alive. Made by `Engine.bind`."""

    def __init__(self, stages: tuple[_BoundStage, ...], arrays: dict[int, Array]) -> None:
        self._stages = stages
        self._arrays = arrays  # the bindings hold bare pointers into these

    def execute(self) -> Timing:
        """Read the inputs, run, write the outputs.

        Raises: ExecutionFailed when a host section failed; the outputs are then undefined.
        """
        start, tensor_ns = _clock(), 0
        try:
            for stage in self._stages:
                stage.load()
                begun = _clock()
                for made, binding in stage.steps:
                    made.run_with_iobinding(binding)
                if stage.on_npu:
                    tensor_ns += _clock() - begun
                stage.store()
        except Exception as error:  # onnxruntime's own types have no common base
            raise session.ExecutionFailed(f"{error!s:.300}") from None
        return Timing(_clock() - start, tensor_ns)


class TracedBound(Bound):
    """The same of a traced program. `times`, a further output, takes its spans; `rows`, which of them."""

    def __init__(
        self,
        stages: tuple[_BoundStage, ...],
        arrays: dict[int, Array],
        rows: npt.NDArray[np.intp],
        times: Array,
    ) -> None:
        super().__init__(stages, arrays)
        self._rows = rows
        self._times = times

    def execute(self) -> Timing:
        ends, tensor_ns = [_clock()], 0  # each span begins where the one before ended
        try:
            for stage in self._stages:
                if stage.on_npu:
                    stage.load()
                    ends.append(_clock())
                begun = ends[-1]
                for made, binding in stage.steps:
                    made.run_with_iobinding(binding)
                    ends.append(_clock())
                if stage.on_npu:
                    tensor_ns += ends[-1] - begun
                    stage.store()
                    ends.append(_clock())
        except Exception as error:
            raise session.ExecutionFailed(f"{error!s:.300}") from None
        times = np.array(ends)
        self._times[self._rows, 0] = times[:-1]
        self._times[self._rows, 1] = times[1:]
        return Timing(ends[-1] - ends[0], tensor_ns)


class Engine:
    """A verified program, ready to run on `threads` cores. One run at a time.

    A `traced` one measures each instruction: its last output is `enf.spans.output_spec`.
    Set the CPU affinity of the process first; a forked child must create its own.
    Raises: InvalidProgram for a section that may not or cannot run.
    """

    def __init__(self, program: Program, threads: int = 1, *, traced: bool = False) -> None:
        # the program itself is not kept: its constants are in the sessions by now
        self.input_specs, self.output_specs = program.input_specs, program.output_specs
        self._ports = [port.buffer for port in (*program.inputs, *program.outputs)]
        if traced:
            self.output_specs += (spans.output_spec(program),)
        self._traced = traced
        self._stages = tuple(_stages(program, threads, traced))
        self._closed = False
        self._inner = _between(program, self._stages)

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Bound:
        """Tie the program to these arrays, which must stay where they are.

        Shapes and dtypes are the program's, in C order; outputs are writable.
        Raises: ValueError.
        """
        if self._closed:
            raise ValueError("the engine is closed")
        check("input", inputs, self.input_specs, bound=True)
        check("output", outputs, self.output_specs, bound=True)
        for array, spec in zip(outputs, self.output_specs, strict=True):
            if not array.flags.writeable:
                raise ValueError(f"output {spec.name!r} is read-only")
        arrays = self._inner | dict(zip(self._ports, (*inputs, *outputs), strict=False))
        stages = tuple(_bind(stage, arrays) for stage in self._stages)
        if not self._traced:
            return Bound(stages, arrays)
        times = outputs[-1]
        times[...] = 0
        rows = np.array([row for stage in self._stages for row in stage.rows], np.intp)
        return TracedBound(stages, arrays, rows, times)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once on new output arrays, which are the caller's.

        Raises: ValueError for inputs of another type or shape; ExecutionFailed.
        """
        check("input", inputs, self.input_specs, bound=False)
        outputs = [_aligned(spec.shape, spec.dtype.numpy) for spec in self.output_specs]
        self.bind(
            [np.require(array, requirements=("C", "A")) for array in inputs], outputs
        ).execute()
        return outputs

    def close(self) -> None:
        """Let go of the sessions; their memory is free once every Bound is gone, too."""
        self._closed = True
        self._stages = ()
        self._inner = {}


def _stages(program: Program, threads: int, traced: bool) -> Iterator[_Stage]:
    last = npugraph.last_readers(program)
    machine = npugraph.Machine(not session.has_exact_u8s8(), fused(program))
    row = 0
    for number, section in enumerate(program.sections):
        if isinstance(section, HostSection):
            host = HostGraph(program, section, threads)
            inputs = tuple(zip(section.inputs, host.input_names, strict=True))
            outputs = tuple(zip(section.outputs, host.output_names, strict=True))
            yield _Stage((_Step(host.session, inputs, outputs),), (row,), False)
            row += 1
            continue
        lower = npugraph.pieces if traced else npugraph.whole
        graphs = lower(program, number, section, last, machine)
        rows, steps = [row], []
        for index, graph in enumerate(graphs, row + 1):
            if graph is None:
                continue  # nobody reads what it computes
            try:
                made = session.create(graph.model, threads)
            except Exception as error:  # onnxruntime's own types have no common base
                found = f"section {number} cannot be made ready: {error!s:.300}"
                raise InvalidProgram("npu-section", found) from None
            steps.append(_Step(made, graph.inputs, graph.outputs))
            rows.append(index)
        if steps:
            yield _Stage(tuple(steps), (*rows, row + len(graphs) + 1), True)
        row += len(graphs) + 2


def _between(program: Program, stages: Sequence[_Stage]) -> dict[int, Array]:
    """Buffers from one graph to another. Runs do not overlap, so all bindings share them."""
    ports = {port.buffer for port in (*program.inputs, *program.outputs)}
    found: dict[int, Array] = {}
    for buffer, name in (made for stage in stages for step in stage.steps for made in step.outputs):
        if buffer in ports:
            continue
        shape, dtype = program.buffers[buffer].shape, program.buffers[buffer].dtype
        if name == npugraph.inner_name(buffer):
            shape, dtype = npugraph.channels_last(shape), npugraph.carrier(dtype)
        found[buffer] = _aligned(shape, dtype.numpy)
    return found


def _bind(stage: _Stage, arrays: dict[int, Array]) -> _BoundStage:
    seen = dict(arrays)  # as the graphs of this stage see them
    steps, before, after = [], [], []
    for step in stage.steps:
        binding = step.session.io_binding()
        for buffer, name in step.inputs:
            array = seen[buffer]
            if stage.on_npu and array.dtype == np.int8:
                source, array = array.view(np.uint8), _aligned(array.shape, np.dtype(np.uint8))
                before.append((source, array))
                seen[buffer] = array
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for buffer, name in step.outputs:
            array = seen[buffer]
            if stage.on_npu and array.dtype == np.int8:
                seen[buffer] = array = array.view(np.uint8)
                after.append(array)
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        steps.append((step.session, binding))
    return _BoundStage(tuple(steps), tuple(before), tuple(after), stage.on_npu)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
