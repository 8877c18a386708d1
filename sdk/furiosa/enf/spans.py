"""What a traced program measures: the steps of a run, in the order of execution.

A device that was asked to trace a program gives it one output more: begin and end of each step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from furiosa.common.tensor import DType, TensorSpec
from furiosa.enf.isa import Opcode
from furiosa.enf.onnxgraph import operator_types
from furiosa.enf.program import HostSection, NpuSection, Program

OUTPUT_NAME: Final = "furiosa.spans"
MAX_NAME: Final = 120  # characters of a host section's name
_HOST_NAMES: Final = {"QuantizeLinear": "Quantize", "DequantizeLinear": "Dequantize"}


class Step(Enum):
    LOAD = "load"  # inputs of an NPU section on their way to the NPU
    OPERATOR = "operator"  # one instruction
    STORE = "store"  # its outputs on their way back
    HOST = "host"  # one host section


@dataclass(frozen=True, slots=True)
class Span:
    """`index`: the instruction of an OPERATOR, else the section, both counted from 0.

    Source of the names: runtime reference 10.1.
    """

    step: Step
    name: str
    index: int


def spans(program: Program) -> Iterator[Span]:
    for number, section in enumerate(program.sections):
        if isinstance(section, NpuSection):
            yield Span(Step.LOAD, "Load", number)
            for index in range(section.first, section.first + section.count):
                yield Span(Step.OPERATOR, operator_name(program.instructions[index].opcode), index)
            yield Span(Step.STORE, "Store", number)
        else:
            yield Span(Step.HOST, _host_name(program, section), number)


def count(program: Program) -> int:
    return sum(s.count + 2 if isinstance(s, NpuSection) else 1 for s in program.sections)


def output_spec(program: Program) -> TensorSpec:
    """The further output: for each of `spans` begin and end, ns of the device's CLOCK_MONOTONIC.

    Zeros: the step was left out, because nobody reads what it makes.
    """
    return TensorSpec(OUTPUT_NAME, DType.INT64, (count(program), 2))


def operator_name(opcode: Opcode) -> str:
    """CONV2D is LowLevelConv2d."""
    return "LowLevel" + "".join(word.capitalize() for word in opcode.name.split("_"))


def _host_name(program: Program, section: HostSection) -> str:
    operators = operator_types(program.constants[section.graph].tobytes())
    return "+".join(_HOST_NAMES.get(name, name) for name in operators)[:MAX_NAME]
