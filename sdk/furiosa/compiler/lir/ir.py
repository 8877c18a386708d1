"""lir: a whole program but for its encoding: instructions, constants, buffers, sections."""

from dataclasses import dataclass

from furiosa.compiler.value import Array, ModelInfo
from furiosa.enf.isa import Instruction
from furiosa.enf.program import Buffer, Port, Section


@dataclass(frozen=True, slots=True)
class Lir:
    """Indices refer to `buffers` and `constants`; `provenance` has one entry for each instruction."""

    model: ModelInfo
    target: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[Array, ...]
    sections: tuple[Section, ...]
    instructions: tuple[Instruction, ...]
    provenance: tuple[str, ...]
    dram_bytes: int
    sram_bytes: int
