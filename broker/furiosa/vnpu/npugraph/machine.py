"""What of onnxruntime is exact on this machine, and so may be in graphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from furiosa.enf import Instruction, Opcode, Program
from furiosa.vnpu.npugraph.carriers import flip

PAIRED: Final[Mapping[Opcode, str]] = {Opcode.ADD: "QLinearAdd", Opcode.MULTIPLY: "QLinearMul"}
PAIRED_DOMAIN: Final = "com.microsoft"

Factors = tuple[float, float]  # of the two sources


class Pair(NamedTuple):
    """ADD or MULTIPLY of two carriers of one shape, without its clamp."""

    opcode: Opcode
    factors: Factors
    zero0: int
    zero1: int
    zero_out: int


@dataclass(frozen=True, slots=True)
class Machine:
    """`wide_weights`: int8 weights must be carried as uint8. Without VNNI, products of uint8 and int8
    saturate in pairs at 16 bits, products of uint8 and uint8 do not.
    `fused`: pairs for which the operator in PAIRED gives the right bits, if its scales are these factors
    and 1.
    """

    wide_weights: bool = False
    fused: Mapping[Pair, Factors] = field(default_factory=dict)


def pair_of(program: Program, i: Instruction) -> Pair | None:
    """None: it is another instruction, or one source is repeated."""
    if i.opcode not in PAIRED:
        return None
    sources = program.buffers[i.source0], program.buffers[i.source1]
    if sources[0].shape != sources[1].shape:
        return None
    first, second = program.constants[i.multiplier].tolist()
    zeros = (i.zero0 + flip(sources[0].dtype), i.zero1 + flip(sources[1].dtype))
    return Pair(i.opcode, (first, second), *zeros, i.zero_out + flip(program.buffers[i.out].dtype))
