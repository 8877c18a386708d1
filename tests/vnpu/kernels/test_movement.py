"""Elements go to other places."""

import numpy as np

from furiosa.enf import Opcode
from support.kernels import I8, i8, i32, run


def test_reshape_keeps_the_elements() -> None:
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert run(Opcode.RESHAPE, I8, (3, 2), x).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_moves() -> None:
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert run(Opcode.LOAD, I8, (2, 3), x).tolist() == x.tolist()
    assert run(Opcode.CONCAT, I8, (2, 4), x, i8([9], [8]), axis=1).tolist() == [
        [0, 1, 2, 9],
        [3, 4, 5, 8],
    ]
    assert run(Opcode.TRANSPOSE, I8, (3, 2), x, i32(1, 0)).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert run(Opcode.SLICE, I8, (1, 2), x, i32([1, 0], [1, 2])).tolist() == [[3, 5]]
    assert run(Opcode.PAD, I8, (3, 4), x, i32(1, 0), zero0=-7).tolist() == [
        [-7, -7, -7, -7],
        [0, 1, 2, -7],
        [3, 4, 5, -7],
    ]
    assert run(Opcode.EXPAND, I8, (2, 2), i8([1], [2])).tolist() == [[1, 1], [2, 2]]
    assert run(Opcode.GATHER, I8, (2, 2), x, i32(2, 2), axis=1).tolist() == [[2, 2], [5, 5]]


def test_a_step_of_a_slice_may_reach_beyond_the_end() -> None:
    x = np.arange(7, dtype=np.int8)
    assert run(Opcode.SLICE, I8, (3,), x, i32([1], [2])).tolist() == [1, 3, 5]
    assert run(Opcode.SLICE, I8, (1,), x, i32([6], [9])).tolist() == [6]
