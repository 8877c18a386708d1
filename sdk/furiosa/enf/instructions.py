"""Instructions as 68-byte records, little endian (docs/enf.md has the table of fields)."""

import struct
from collections.abc import Iterable
from typing import Final

from furiosa.common.errors import InvalidProgram
from furiosa.enf.isa import Instruction, Opcode, Window
from furiosa.enf.limits import Limits, bounded

# opcode, pes, axis, seven operands, group, five values of the arithmetic, ten of the window, reserved
_RECORD: Final = struct.Struct("<HBB8I5h11H")
RECORD_BYTES: Final = 68
assert _RECORD.size == RECORD_BYTES


def encode(instructions: Iterable[Instruction]) -> bytes:
    """Needs verified instructions: every field fits its place."""
    return b"".join(map(_encode, instructions))


def _encode(i: Instruction) -> bytes:
    operands = (i.out, i.source0, i.source1, i.weights, i.bias, i.multiplier, i.parameters)
    arithmetic = (i.zero0, i.zero1, i.zero_out, i.low, i.high)
    w = i.window
    window = (*w.kernel, *w.strides, *w.pads, *w.dilations)
    return _RECORD.pack(i.opcode, i.pes, i.axis, *operands, w.group, *arithmetic, *window, 0)


def decode(data: memoryview, limits: Limits) -> tuple[Instruction, ...]:
    """Raises: InvalidProgram."""
    if len(data) % RECORD_BYTES:
        raise InvalidProgram(
            "instruction-section", f"{len(data)} bytes are no whole number of {RECORD_BYTES}"
        )
    bounded(
        "counts-are-bounded",
        "the number of instructions",
        len(data) // RECORD_BYTES,
        limits.instructions,
    )
    return tuple(_decode(index, fields) for index, fields in enumerate(_RECORD.iter_unpack(data)))


def _decode(index: int, f: tuple[int, ...]) -> Instruction:
    if f[26]:
        raise InvalidProgram("reserved", f"instruction {index}: a reserved field is not zero")
    try:
        opcode = Opcode(f[0])
    except ValueError:
        raise InvalidProgram("opcode", f"instruction {index}: opcode {f[0]} is unknown") from None
    return Instruction(
        opcode,
        out=f[3],
        source0=f[4],
        source1=f[5],
        weights=f[6],
        bias=f[7],
        multiplier=f[8],
        parameters=f[9],
        zero0=f[11],
        zero1=f[12],
        zero_out=f[13],
        low=f[14],
        high=f[15],
        axis=f[2],
        window=Window(
            kernel=(f[16], f[17]),
            strides=(f[18], f[19]),
            pads=(f[20], f[21], f[22], f[23]),
            dilations=(f[24], f[25]),
            group=f[10],
        ),
        pes=f[1],
    )
