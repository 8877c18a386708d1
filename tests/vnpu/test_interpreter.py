"""The interpreter keeps buffers where a program puts them, so that a wrong place shows."""

from dataclasses import replace

import numpy as np
import pytest

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import Buffer, Opcode, Program, Space
from furiosa.enf.verify import verify
from furiosa.vnpu import Interpreter
from support.programs import Draft, a_program, inputs_for
from support.random_programs import random_program


def an_addition_of_two_pools(second_at: int) -> Program:
    """y = pool(a) + pool(b); the pools' results lie in SRAM at 0 and `second_at`."""
    draft = Draft()
    shape = (1, 1, 4, 4)
    a, b = draft.input(DType.INT8, shape), draft.input(DType.INT8, shape)
    p, q = draft.buffer(DType.INT8, shape), draft.buffer(DType.INT8, shape)
    y = draft.buffer(DType.INT8, shape, Space.DRAM)
    draft.emit(Opcode.MAX_POOL2D, p, a, low=-128, high=127)
    draft.emit(Opcode.MAX_POOL2D, q, b, low=-128, high=127)
    one = draft.constant([1.0, 1.0], DType.FLOAT32)
    draft.emit(Opcode.ADD, y, p, source1=q, multiplier=one, low=-128, high=127)
    draft.output(y)
    program = draft.finish()
    moved = replace(program.buffers[q], offset=second_at)
    buffers = (*program.buffers[:q], moved, *program.buffers[q + 1 :])
    return replace(program, buffers=buffers, sram_bytes=1024)


def test_buffers_in_one_place_overwrite_each_other() -> None:
    three, four = np.full((1, 1, 4, 4), 3, np.int8), np.full((1, 1, 4, 4), 4, np.int8)
    apart, together = an_addition_of_two_pools(64), an_addition_of_two_pools(0)
    assert Interpreter(apart).run([three, four])[0].flat[0] == 7
    assert Interpreter(together).run([three, four])[0].flat[0] == 8
    verify(apart)
    with pytest.raises(InvalidProgram, match="overlap while both are alive"):
        verify(together)


def test_partly_overlapping_buffers_overwrite_each_other() -> None:
    x = np.arange(16, dtype=np.int8).reshape(1, 1, 4, 4)
    wide = Buffer("wide", DType.INT8, (1, 1, 4, 4), Space.SRAM, 8)
    program = an_addition_of_two_pools(64)
    program = replace(program, buffers=(*program.buffers[:3], wide, program.buffers[4]))
    found = Interpreter(program).run([x, x])[0].ravel()
    first = [*range(8), *range(8)]  # the second half holds the first half of the other
    assert found.tolist() == [a + b for a, b in zip(first, range(16), strict=True)]


def test_instructions_get_their_constants_and_need_no_source() -> None:
    """A constant behind the input, and of both the elements 3, 0 and 2."""
    draft = Draft()
    x = draft.input(DType.INT8, (1, 2))
    loaded, both = draft.buffer(DType.INT8, (1, 2)), draft.buffer(DType.INT8, (1, 4))
    y = draft.buffer(DType.INT8, (1, 3), Space.DRAM)
    draft.emit(Opcode.LOAD, loaded, weights=draft.constant([[7, 8]], DType.INT8))
    draft.emit(Opcode.CONCAT, both, x, source1=loaded, axis=1)
    places = draft.constant([3, 0, 2], DType.INT32)
    draft.emit(Opcode.GATHER, y, both, parameters=places, axis=1)
    draft.output(y)
    program = draft.finish()
    verify(program)
    assert Interpreter(program).run([np.array([[5, 6]], np.int8)])[0].tolist() == [[8, 5, 7]]


def test_runs_do_not_depend_on_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    program = random_program(np.random.default_rng(12))
    first, second = inputs_for(program, rng), inputs_for(program, rng)
    interpreter = Interpreter(program)
    expected = interpreter.run(first)
    interpreter.run(second)
    for a, b in zip(interpreter.run(first), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_outputs_are_the_callers() -> None:
    program = a_program()
    interpreter = Interpreter(program)
    x = inputs_for(program, np.random.default_rng(1))
    kept = interpreter.run(x)[0]
    copy = kept.copy()
    interpreter.run([-x[0]])
    np.testing.assert_array_equal(kept, copy)


def test_inputs_of_another_type_or_shape_are_refused() -> None:
    interpreter = Interpreter(a_program())
    with pytest.raises(ValueError, match="2 inputs given, the program has 1"):
        interpreter.run([np.zeros(1), np.zeros(1)])
    with pytest.raises(
        ValueError, match=r"input 'x0' is int8 \[1, 3, 8, 8\], the program has float32"
    ):
        interpreter.run([np.zeros((1, 3, 8, 8), np.int8)])


def test_a_large_space_costs_nothing_until_it_is_used() -> None:
    program = replace(a_program(), dram_bytes=2**30)
    verify(program)
    x = inputs_for(program, np.random.default_rng(2))
    np.testing.assert_array_equal(Interpreter(program).run(x), Interpreter(a_program()).run(x))
