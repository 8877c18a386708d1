"""Buffers share memory over time only as the rules allow."""

from dataclasses import replace

import pytest

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Program, Space
from furiosa.enf.verify import verify
from support.programs import Draft, a_program

I8 = DType.INT8


def at(index: int, offset: int, program: Program) -> Program:
    """The program with one buffer elsewhere in an SRAM that is large enough."""
    moved = replace(program.buffers[index], offset=offset)
    buffers = (*program.buffers[:index], moved, *program.buffers[index + 1 :])
    return replace(program, buffers=buffers, sram_bytes=1024)


def a_reshape_in_place(read_source_later: bool, offset: int) -> Program:
    """x -> pool -> reshape at the pool's own address (+ offset) -> y, and the pool's result -> z."""
    draft = Draft()
    x = draft.input(I8, (1, 4, 4, 4))
    pooled = draft.buffer(I8, (1, 4, 4, 4))
    draft.emit(Opcode.MAX_POOL2D, pooled, x, low=-128, high=127)
    flat = draft.buffer(I8, (1, 64))
    draft.emit(Opcode.RESHAPE, flat, pooled)
    y = draft.buffer(I8, (1, 64), Space.DRAM)
    draft.emit(Opcode.RESHAPE, y, flat)
    draft.output(y)
    if read_source_later:
        z = draft.buffer(I8, (1, 4, 4, 4), Space.DRAM)
        draft.emit(Opcode.MAX_POOL2D, z, pooled, low=-128, high=127)
        draft.output(z)
    return at(flat, offset, draft.finish())


@pytest.mark.parametrize("read_source_later", [True, False])
def test_a_reshape_may_stay_in_place(read_source_later: bool) -> None:
    verify(a_reshape_in_place(read_source_later, offset=0))


def test_other_instructions_may_not_write_over_what_they_read() -> None:
    program = a_program()
    convolution = program.instructions[1]
    with pytest.raises(InvalidProgram, match="overlap while both are alive"):
        verify(at(convolution.out, program.buffers[convolution.source0].offset, program))


def test_a_program_output_stays_alive_to_the_end() -> None:
    """An output written early must not share memory with a later buffer."""
    draft = Draft()
    x = draft.input(I8, (1, 4, 4, 4))
    early, mid, late = (draft.buffer(I8, (1, 4, 4, 4)) for _ in range(3))
    draft.emit(Opcode.MAX_POOL2D, early, x, low=-128, high=127)
    draft.emit(Opcode.MAX_POOL2D, mid, x, low=-128, high=127)
    draft.emit(Opcode.MAX_POOL2D, late, mid, low=-128, high=127)
    draft.output(early)
    draft.output(late)
    program = draft.finish()
    verify(program)
    with pytest.raises(InvalidProgram, match=r"buffers 1 \(0..64\) and 3 \(0..64\) of sram"):
        verify(at(late, 0, program))
