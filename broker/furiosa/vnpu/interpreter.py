"""The reference: executes a program instruction by instruction on arrays. Never the hot path."""

from collections.abc import Sequence
from typing import Any, Final

import numpy.typing as npt

from furiosa.enf import NONE, HostSection, Instruction, NpuSection, Program
from furiosa.vnpu.host import HostGraph
from furiosa.vnpu.kernels import KERNELS, Result
from furiosa.vnpu.memory import Memory
from furiosa.vnpu.tensors import check

_SOURCES: Final = ("source0", "source1")
_CONSTANTS: Final = ("weights", "bias", "multiplier", "parameters")


class Interpreter:
    """Runs a verified program with the arithmetic of `furiosa.vnpu.kernels`.

    Buffers lie in device memory at their offsets, so a wrong allocation gives wrong results.
    Raises: InvalidProgram for a host graph that may not run.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._memory = Memory(program)
        self._graphs = {
            number: HostGraph(program, section)
            for number, section in enumerate(program.sections)
            if isinstance(section, HostSection)
        }

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Outputs in program order; they are the caller's.

        Raises: ValueError for inputs of another type or shape; ExecutionFailed from a host graph.
        """
        program, memory = self._program, self._memory
        check("input", inputs, program.input_specs, bound=False)
        for port, array in zip(program.inputs, inputs, strict=True):
            memory[port.buffer][...] = array
        for number, section in enumerate(program.sections):
            if isinstance(section, NpuSection):
                for i in program.instructions[section.first : section.first + section.count]:
                    self._execute(i)
            else:
                results = self._graphs[number].run([memory[b] for b in section.inputs])
                for buffer, result in zip(section.outputs, results, strict=True):
                    memory[buffer][...] = result
        return [memory[port.buffer].copy() for port in program.outputs]

    def _execute(self, i: Instruction) -> None:
        operands = [self._memory[b] for f in _SOURCES if (b := getattr(i, f)) != NONE]
        constants = self._program.constants
        operands += [constants[c] for f in _CONSTANTS if (c := getattr(i, f)) != NONE]
        out = self._memory[i.out]
        out[...] = KERNELS[i.opcode](i, Result(out.dtype, out.shape), *operands)
