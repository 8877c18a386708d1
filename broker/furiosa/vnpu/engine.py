"""The fast way to run a program: onnxruntime, with the interpreter's bits.

Each NPU section is one graph (`npugraph`), each host section its own. Everything that can be done before
the first inference is done when the program is loaded or an `Engine.bind` is made; `Bound.execute` only
runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.errors import InvalidProgram
from furiosa.enf import NpuSection, Program
from furiosa.enf.limits import ALIGNMENT
from furiosa.vnpu import npugraph, session
from furiosa.vnpu.host import HostGraph
from furiosa.vnpu.tensors import check

Array = npt.NDArray[Any]
_FLIP = np.uint8(npugraph.FLIP)


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds of one run: all of it, and the part spent in NPU sections."""

    task_ns: int
    tensor_ns: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """A section with a session. `inputs` and `outputs` pair buffers with names in its graph."""

    session: Any
    inputs: tuple[tuple[int, str], ...]
    outputs: tuple[tuple[int, str], ...]
    on_npu: bool


@dataclass(frozen=True, slots=True)
class _BoundStage:
    """A stage on fixed memory. `before` and `after` flip int8 into its carrier and back."""

    session: Any
    binding: Any
    before: tuple[tuple[Array, Array], ...]
    after: tuple[Array, ...]
    on_npu: bool

    def execute(self) -> None:
        for source, carrier in self.before:
            np.bitwise_xor(source, _FLIP, out=carrier)
        self.session.run_with_iobinding(self.binding)
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
        clock = time.perf_counter_ns
        start, tensor_ns = clock(), 0
        try:
            for stage in self._stages:
                before = clock()
                stage.execute()
                if stage.on_npu:
                    tensor_ns += clock() - before
        except Exception as error:  # onnxruntime's own types have no common base
            raise session.ExecutionFailed(f"{error!s:.300}") from None
        return Timing(clock() - start, tensor_ns)


class Engine:
    """A verified program, ready to run on `threads` cores. One run at a time.

    Set the CPU affinity of the process first; a forked child must create its own.
    Raises: InvalidProgram for a section that may not or cannot run.
    """

    def __init__(self, program: Program, threads: int = 1) -> None:
        # the program itself is not kept: its constants are in the sessions by now
        self._inputs, self._outputs = program.input_specs, program.output_specs
        self._ports = tuple(port.buffer for port in (*program.inputs, *program.outputs))
        self._stages = tuple(_stages(program, threads))
        self._closed = False
        made = {buffer for stage in self._stages for buffer, _ in stage.outputs}
        # buffers between sections; runs do not overlap, so all bindings share them
        self._inner = {
            b: _aligned(program.buffers[b].shape, program.buffers[b].dtype.numpy)
            for b in made - set(self._ports)
        }

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Bound:
        """Tie the program to these arrays, which must stay where they are.

        Shapes and dtypes are the program's, in C order; outputs are writable.
        Raises: ValueError.
        """
        if self._closed:
            raise ValueError("the engine is closed")
        check("input", inputs, self._inputs, bound=True)
        check("output", outputs, self._outputs, bound=True)
        for array, spec in zip(outputs, self._outputs, strict=True):
            if not array.flags.writeable:
                raise ValueError(f"output {spec.name!r} is read-only")
        arrays = self._inner | dict(zip(self._ports, (*inputs, *outputs), strict=True))
        return Bound(tuple(_bind(stage, arrays) for stage in self._stages), arrays)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once on new output arrays, which are the caller's.

        Raises: ValueError for inputs of another type or shape; ExecutionFailed.
        """
        check("input", inputs, self._inputs, bound=False)
        outputs = [_aligned(spec.shape, spec.dtype.numpy) for spec in self._outputs]
        self.bind(
            [np.require(array, requirements=("C", "A")) for array in inputs], outputs
        ).execute()
        return outputs

    def close(self) -> None:
        """Let go of the sessions; their memory is free once every Bound is gone, too."""
        self._closed = True
        self._stages = ()
        self._inner = {}


def _stages(program: Program, threads: int) -> list[_Stage]:
    stages = []
    last = npugraph.last_readers(program)
    for number, section in enumerate(program.sections):
        if isinstance(section, NpuSection):
            graph = npugraph.lower(
                program, number, section, last, wide_weights=not session.has_exact_u8s8()
            )
            if not graph.outputs:
                continue  # nobody reads what it computes
            inputs = tuple((b, npugraph.name(b)) for b in graph.inputs)
            outputs = tuple((b, npugraph.name(b)) for b in graph.outputs)
            try:
                made = session.create(graph.model, threads)
            except Exception as error:  # onnxruntime's own types have no common base
                found = f"section {number} cannot be made ready: {error!s:.300}"
                raise InvalidProgram("npu-section", found) from None
            stages.append(_Stage(made, inputs, outputs, True))
        else:
            host = HostGraph(program, section, threads)
            inputs = tuple(zip(section.inputs, host.input_names, strict=True))
            outputs = tuple(zip(section.outputs, host.output_names, strict=True))
            stages.append(_Stage(host.session, inputs, outputs, False))
    return stages


def _bind(stage: _Stage, arrays: dict[int, Array]) -> _BoundStage:
    binding = stage.session.io_binding()
    before, after = [], []
    for buffer, name in stage.inputs:
        array = arrays[buffer]
        if stage.on_npu and array.dtype == np.int8:
            source, array = array.view(np.uint8), _aligned(array.shape, np.dtype(np.uint8))
            before.append((source, array))
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for buffer, name in stage.outputs:
        array = arrays[buffer]
        if stage.on_npu and array.dtype == np.int8:
            array = array.view(np.uint8)
            after.append(array)
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    return _BoundStage(stage.session, binding, tuple(before), tuple(after), stage.on_npu)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
