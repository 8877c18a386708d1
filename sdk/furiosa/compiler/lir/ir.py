"""lir: a whole program but for its encoding: instructions, constants, buffers, sections."""

from dataclasses import dataclass

from furiosa.compiler.cdfg.ir import Split
from furiosa.compiler.value import Array, ModelInfo
from furiosa.enf.isa import Instruction
from furiosa.enf.program import Buffer, Port, Section


@dataclass(frozen=True, slots=True)
class Lir:
    """Indices refer to `buffers` and `constants`.

    `splits` and `provenance` have one entry for each instruction: how its PEs share it, and the
    operators of the model it comes from.
    """

    model: ModelInfo
    target: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[Array, ...]
    sections: tuple[Section, ...]
    instructions: tuple[Instruction, ...]
    splits: tuple[Split, ...]
    provenance: tuple[str, ...]
    dram_bytes: int
    sram_bytes: int
