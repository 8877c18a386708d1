"""NPU sections as ONNX graphs that compute the same bits.

onnxruntime's fast integer kernels take uint8 activations and int8 weights, and their requantisation is
ours when the scales of source and result are 1 and the weights' scale is the multiplier. So every int8
buffer is carried as uint8, 128 higher, with zero points and clamps moved along; the bits differ in the
top one only. Other arithmetic is spelled out, one float32 operator for each rounding: what fused operators
such as QLinearAdd round depends on the CPU, so they are used where `Machine` says that they are right.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.enf import NONE, Instruction, NpuSection, Opcode, Program
from furiosa.vnpu.npugraph import elementwise, movement, reduction, windows
from furiosa.vnpu.npugraph.carriers import FLIP, carrier, channels_last, inner_name
from furiosa.vnpu.npugraph.graph import Graph, Lowering
from furiosa.vnpu.npugraph.machine import Machine

__all__ = [
    "FLIP",
    "Machine",
    "NpuGraph",
    "carrier",
    "channels_last",
    "inner_name",
    "last_readers",
    "pieces",
    "whole",
]

_LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    **windows.LOWERINGS,
    **elementwise.LOWERINGS,
    **movement.LOWERINGS,
    **reduction.LOWERINGS,
}


@dataclass(frozen=True, slots=True)
class NpuGraph:
    """`inputs` and `outputs` are buffers and the names of their values in the graph."""

    model: bytes
    inputs: tuple[tuple[int, str], ...]
    outputs: tuple[tuple[int, str], ...]


def last_readers(program: Program) -> dict[int, int]:
    """Buffer to the number of the last section that reads it; outputs are read after all sections."""
    last: dict[int, int] = {}
    for number, section in enumerate(program.sections):
        if isinstance(section, NpuSection):
            for i in _instructions(program, section):
                last[i.source0] = last[i.source1] = number
        else:
            last.update(dict.fromkeys(section.inputs, number))
    last.update(dict.fromkeys((port.buffer for port in program.outputs), len(program.sections)))
    return last


def whole(
    program: Program, number: int, section: NpuSection, last: dict[int, int], machine: Machine
) -> tuple[NpuGraph | None]:
    """One graph for a section; None when nobody reads what it computes.

    `last` is of `last_readers`.
    """
    run = _instructions(program, section)
    outputs = _outputs(run, number, last)
    return (_lower(program, run, outputs, frozenset(), machine) if outputs else None,)


def pieces(
    program: Program, number: int, section: NpuSection, last: dict[int, int], machine: Machine
) -> tuple[NpuGraph | None, ...]:
    """A graph for each instruction of a section, to be run one after the other; as `whole` otherwise.

    What only these graphs hand to each other, values called `inner_name`, they hand over as they carry
    it, images in NHWC: onnxruntime computes in that, and each graph would else begin and end with a
    transposition that the whole does not have.
    """
    run = _instructions(program, section)
    outputs = _outputs(run, number, last)
    kept = frozenset(outputs)
    inner = frozenset(i.out for i in run) - kept
    found: list[NpuGraph | None] = []
    wanted = set(kept)
    for i in reversed(run):
        if i.out in wanted:
            wanted.update((i.source0, i.source1))
            found.append(_lower(program, (i,), (i.out,), inner, machine))
        else:
            found.append(None)
    return tuple(reversed(found))


def _outputs(run: tuple[Instruction, ...], number: int, last: dict[int, int]) -> tuple[int, ...]:
    """What later sections or the program's outputs need of a section."""
    written = dict.fromkeys(i.out for i in run)
    return tuple(b for b in written if last.get(b, number) > number)


def _lower(
    program: Program,
    run: tuple[Instruction, ...],
    outputs: tuple[int, ...],
    inner: frozenset[int],
    machine: Machine,
) -> NpuGraph:
    written = {i.out for i in run}
    read = dict.fromkeys(b for i in run for b in (i.source0, i.source1) if b != NONE)
    graph = Graph(program, machine, _joined(run, outputs))
    inputs = tuple((b, graph.input(b, inner=b in inner)) for b in read if b not in written)
    for instruction in run:
        _LOWERINGS[instruction.opcode](graph, instruction)
    results = tuple((b, graph.output(b, inner=b in inner)) for b in outputs)
    return NpuGraph(graph.build(), inputs, results)


def _instructions(program: Program, section: NpuSection) -> tuple[Instruction, ...]:
    return program.instructions[section.first : section.first + section.count]


def _joined(instructions: tuple[Instruction, ...], outputs: tuple[int, ...]) -> frozenset[int]:
    """Results of CONCAT that only another CONCAT on the same axis reads: they become one node."""
    reads = Counter(b for i in instructions for b in (i.source0, i.source1))
    concats = [i for i in instructions if i.opcode is Opcode.CONCAT]
    axes = {i.out: i.axis for i in concats}
    read = {b for i in concats for b in (i.source0, i.source1) if axes.get(b) == i.axis}
    return frozenset(b for b in read if reads[b] == 1 and b not in outputs)
