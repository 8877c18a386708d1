"""What each instruction refuses of its operands: a program that just passes, and changes to it."""

import re
from typing import Any

import numpy as np
import pytest

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Program, Window
from furiosa.enf.instruction_checks import CHECKS
from furiosa.enf.verify import verify
from support.programs import Draft

I8, U8, F32, I32 = DType.INT8, DType.UINT8, DType.FLOAT32, DType.INT32
STORED = {"low": -128, "high": 127}
CONSTANTS = {
    "weights": None,
    "multiplier": F32,
    "parameters": I32,
}  # weights have the result's type
EXP = np.rint(2**20 * np.exp(-np.arange(256) / 9))


def one(opcode: Opcode, source: Any, result: Any, second: Any = None, **fields: Any) -> Program:
    """One instruction; operands are (dtype, shape), constants their values."""
    draft = Draft()
    buffers = {}
    if source is not None:
        buffers["source0"] = draft.input(*source)
    if second is not None:
        buffers["source1"] = draft.input(*second)
    kinds = {**CONSTANTS, "weights": F32 if opcode is Opcode.SOFTMAX else result[0]}
    for name, dtype in kinds.items():
        if name in fields:
            fields[name] = draft.constant(fields[name], fields.pop(f"{name}_type", dtype))
    out = draft.buffer(*result)
    draft.emit(opcode, out, **buffers, **fields)
    draft.output(out)
    return draft.finish()


ENTRIES = np.arange(256) - 128
GOOD: dict[Opcode, dict[str, Any]] = {
    Opcode.LOAD: {"source": None, "result": (I8, (1, 3)), "weights": [[1, 2, 3]]},
    Opcode.MULTIPLY: {
        "source": (I8, (1, 3, 4)),
        "second": (U8, (1, 3, 1)),
        "result": (I8, (1, 3, 4)),
        "multiplier": [-1, 2.0**60],
        **STORED,
    },
    Opcode.TABLE: {
        "source": (U8, (1, 3)),
        "result": (I8, (1, 3)),
        "weights": np.stack([ENTRIES] * 3),
        "axis": 1,
    },
    Opcode.CONCAT: {
        "source": (I8, (1, 3, 2)),
        "second": (I8, (1, 4, 2)),
        "result": (I8, (1, 7, 2)),
        "axis": 1,
    },
    Opcode.TRANSPOSE: {
        "source": (I8, (1, 3, 2)),
        "result": (I8, (1, 2, 3)),
        "parameters": [0, 2, 1],
    },
    Opcode.SLICE: {
        "source": (I8, (1, 3, 9)),
        "result": (I8, (1, 2, 3)),
        "parameters": [[0, 1, 2], [1, 1, 3]],
    },
    Opcode.PAD: {
        "source": (I8, (1, 3)),
        "result": (I8, (1, 6)),
        "parameters": [0, 2],
        "zero0": -128,
    },
    Opcode.EXPAND: {"source": (I8, (1, 1, 3)), "result": (I8, (1, 4, 3))},
    Opcode.GATHER: {
        "source": (I8, (1, 3)),
        "result": (I8, (1, 4)),
        "parameters": [2, 0, 0, 1],
        "axis": 1,
    },
    Opcode.RESIZE_LINEAR: {
        "source": (I8, (1, 2, 2, 2)),
        "result": (U8, (1, 2, 1, 3)),
        "parameters": [0, 1, 0, 0, 1, 1, 1, 1],
        "multiplier": [0.5, 0, 0.25, 1, 2],
        "low": 0,
        "high": 255,
    },
    Opcode.AVERAGE_POOL2D: {
        "source": (I8, (1, 2, 2, 2)),
        "result": (I8, (1, 2, 1, 2)),
        "window": Window((2, 1)),
        "multiplier": [[0.5, 0.25]],
        **STORED,
    },
    Opcode.REDUCE_SUM: {
        "source": (I8, (1, 2, 3)),
        "result": (I8, (1, 2, 1)),
        "parameters": [2],
        "multiplier": [1],
        **STORED,
    },
    Opcode.REDUCE_L2: {
        "source": (I8, (1, 2, 3)),
        "result": (I8, (1, 1, 1)),
        "parameters": [1, 2],
        "multiplier": [1],
        **STORED,
    },
    Opcode.L2_NORMALIZE: {
        "source": (I8, (1, 2, 3)),
        "result": (I8, (1, 2, 3)),
        "parameters": [1],
        "multiplier": [1],
        **STORED,
    },
    Opcode.SOFTMAX: {
        "source": (I8, (1, 16)),
        "result": (I8, (1, 16)),
        "axis": 1,
        "weights": EXP,
        "multiplier": [1 / 256],
        **STORED,
    },
    Opcode.MATMUL: {
        "source": (I8, (1, 2, 3)),
        "second": (U8, (1, 3, 4)),
        "result": (I8, (1, 2, 4)),
        "multiplier": [0.5],
        **STORED,
    },
}
ELSEWHERE = {
    Opcode.CONV2D,
    Opcode.DEPTHWISE_CONV2D,
    Opcode.ADD,
    Opcode.MAX_POOL2D,
    Opcode.RESHAPE,
    Opcode.QUANTIZE,
    Opcode.DEQUANTIZE,
}

BAD: list[tuple[Opcode, dict[str, Any], str]] = [
    (Opcode.LOAD, {"weights": [[1, 2]]}, "weights is int8 [1, 2], expected int8 [1, 3]"),
    (Opcode.MULTIPLY, {"second": (F32, (1, 3, 1))}, "a source is float32, not int8 or uint8"),
    (Opcode.MULTIPLY, {"second": (U8, (3, 1))}, "ranks 3 and 2 become 3"),
    (Opcode.MULTIPLY, {"second": (U8, (1, 2, 1))}, "[1, 3, 4] and [1, 2, 1] do not combine to"),
    (Opcode.MULTIPLY, {"result": (I8, (2, 3, 4))}, "do not combine to [2, 3, 4]"),
    (Opcode.MULTIPLY, {"multiplier": [1, 2.0**61]}, "a multiplier is 2.3"),
    (Opcode.TABLE, {"result": (I8, (3, 1))}, "the shape changes from [1, 3] to [3, 1]"),
    (Opcode.TABLE, {"axis": 2}, "axis is 2, the rank 2"),
    (Opcode.TABLE, {"axis": 0}, "weights is int8 [3, 256], expected int8 [1, 256]"),
    (Opcode.TABLE, {"weights": ENTRIES, "axis": 1}, "axis is 1, there is one table for all"),
    (Opcode.TABLE, {"weights": ENTRIES[1:], "axis": 0}, "weights is int8 [255], expected"),
    (Opcode.TABLE, {"weights_type": U8}, "weights is uint8 [3, 256], expected int8"),
    (Opcode.CONCAT, {"second": (U8, (1, 4, 2))}, "the type changes from uint8 to int8"),
    (Opcode.CONCAT, {"second": (I8, (4, 2))}, "rank 2 becomes 3"),
    (Opcode.CONCAT, {"axis": 3}, "axis is 3, the rank 3"),
    (
        Opcode.CONCAT,
        {"second": (I8, (1, 4, 3))},
        "axis 2 of the result is 2, the sources have 2 and 3",
    ),
    (
        Opcode.CONCAT,
        {"result": (I8, (1, 8, 2))},
        "axis 1 of the result is 8, the sources have 3 and 4",
    ),
    (Opcode.TRANSPOSE, {"parameters": [0, 1]}, "parameters is int32 [2], expected int32 [3]"),
    (Opcode.TRANSPOSE, {"parameters": [0, 1, 1]}, "[0, 1, 1] are no order of 3 axes"),
    (Opcode.TRANSPOSE, {"parameters": [0, -1, 1]}, "[0, -1, 1] are no order of 3 axes"),
    (Opcode.TRANSPOSE, {"parameters": [0, 1, 2]}, "in the order [0, 1, 2] is not [1, 2, 3]"),
    (
        Opcode.SLICE,
        {"parameters": [[0, 1, 3], [1, 1, 3]]},
        "axis 2: 3 elements from 3 in steps of 3",
    ),
    (Opcode.SLICE, {"parameters": [[0, -1, 2], [1, 1, 3]]}, "axis 1: 2 elements from -1"),
    (
        Opcode.SLICE,
        {"parameters": [[0, 1, 2], [1, 0, 3]]},
        "axis 1: 2 elements from 1 in steps of 0",
    ),
    (Opcode.SLICE, {"parameters": [0, 1, 2]}, "parameters is int32 [3], expected int32 [2, 3]"),
    (Opcode.PAD, {"parameters": [0, 4]}, "axis 1: 3 elements behind 4 do not fit into 6"),
    (Opcode.PAD, {"parameters": [-1, 2]}, "axis 0: 1 elements behind -1"),
    (Opcode.PAD, {"zero0": 128}, "zero0 is 128, outside -128..127"),
    (Opcode.PAD, {"source": (F32, (1, 3)), "result": (F32, (1, 6))}, "float32, not int8 or uint8"),
    (Opcode.EXPAND, {"result": (I8, (2, 4, 4))}, "[1, 1, 3] does not expand to [2, 4, 4]"),
    (Opcode.GATHER, {"parameters": [2, 0, 3, 1]}, "index 3 is outside 0..2"),
    (Opcode.GATHER, {"parameters": [2, 0, -1, 1]}, "index -1 is outside 0..2"),
    (Opcode.GATHER, {"parameters": [2, 0]}, "parameters is int32 [2], expected int32 [4]"),
    (Opcode.GATHER, {"result": (I8, (2, 4))}, "axis 0 changes from 1 to 2"),
    (
        Opcode.RESIZE_LINEAR,
        {"result": (U8, (1, 3, 1, 3))},
        "does not become [1, 3, 1, 3] by resizing",
    ),
    (Opcode.RESIZE_LINEAR, {"parameters": [0, 2, 0, 0, 1, 1, 1, 1]}, "row 2 is outside 0..1"),
    (Opcode.RESIZE_LINEAR, {"parameters": [0, 1, 0, 0, 1, 1, 1, -1]}, "column -1 is outside 0..1"),
    (Opcode.RESIZE_LINEAR, {"multiplier": [1.5, 0, 0, 0, 2]}, "a multiplier is 1.5"),
    (
        Opcode.RESIZE_LINEAR,
        {"multiplier": [0.5] * 4},
        "multiplier is float32 [4], expected float32 [5]",
    ),
    (
        Opcode.AVERAGE_POOL2D,
        {"multiplier": [0.5]},
        "multiplier is float32 [1], expected float32 [1, 2]",
    ),
    (
        Opcode.AVERAGE_POOL2D,
        {"result": (I8, (1, 2, 2, 2)), "multiplier": np.ones((2, 2))},
        "axis 2 of the result is 2, the window gives 1",
    ),
    (Opcode.AVERAGE_POOL2D, {"result": (I8, (1, 4, 1, 2))}, "2 channels become 4"),
    (Opcode.AVERAGE_POOL2D, {"window": Window((2, 1), group=2)}, "group is 2"),
    (
        Opcode.AVERAGE_POOL2D,
        {"window": Window((257, 257), pads=(255, 256, 0, 1))},
        "it sums 66049 elements",
    ),
    (Opcode.REDUCE_SUM, {"parameters": []}, "constant"),
    (Opcode.REDUCE_SUM, {"parameters": [2, 1]}, "axes [2, 1] of rank 3"),
    (Opcode.REDUCE_SUM, {"parameters": [3]}, "axes [3] of rank 3"),
    (Opcode.REDUCE_SUM, {"parameters": [-1]}, "axes [-1] of rank 3"),
    (Opcode.REDUCE_SUM, {"result": (I8, (1, 2, 3))}, "over the axes [2] becomes [1, 2, 3]"),
    (
        Opcode.REDUCE_SUM,
        {"source": (I8, (1, 2, 8421505))},
        "a sum of 8421505 elements may exceed an int32",
    ),
    (Opcode.REDUCE_L2, {"source": (I8, (1, 2, 16513))}, "a sum of 33026 elements may exceed"),
    (Opcode.L2_NORMALIZE, {"result": (I8, (1, 1, 3))}, "over the axes [1] becomes [1, 1, 3]"),
    (Opcode.SOFTMAX, {"axis": 2}, "axis is 2, the rank 2"),
    (Opcode.SOFTMAX, {"weights": EXP + 0.5}, "not whole numbers of 0 to the first"),
    (Opcode.SOFTMAX, {"weights": -EXP}, "not whole numbers of 0 to the first"),
    (Opcode.SOFTMAX, {"weights": EXP * np.nan}, "not whole numbers of 0 to the first"),
    (Opcode.SOFTMAX, {"weights": EXP[::-1]}, "not whole numbers of 0 to the first"),
    (Opcode.SOFTMAX, {"weights": EXP * 0}, "not whole numbers of 0 to the first"),
    (Opcode.SOFTMAX, {"weights": EXP * 2}, "a sum of 16 times 2097152.0 exceeds 2^24"),
    (Opcode.SOFTMAX, {"multiplier": [0]}, "a multiplier is 0.0"),
    (Opcode.MATMUL, {"second": (U8, (1, 4, 3))}, "[1, 2, 3] times [1, 4, 3] is not [1, 2, 4]"),
    (Opcode.MATMUL, {"second": (U8, (2, 3, 4))}, "[1, 2, 3] times [2, 3, 4] is not [1, 2, 4]"),
    (Opcode.MATMUL, {"second": (U8, (3, 4))}, "rank 2 becomes 3"),
    (Opcode.MATMUL, {"multiplier": [-1]}, "a multiplier is -1.0"),
    (
        Opcode.MATMUL,
        {"source": (I8, (1, 2, 33026)), "second": (I8, (1, 33026, 4))},
        "a sum of 33026 products may exceed an int32",
    ),
]


def test_every_opcode_is_checked() -> None:
    assert set(CHECKS) == set(Opcode) == set(GOOD) | ELSEWHERE
    assert {opcode for opcode, _, _ in BAD} == set(GOOD)


@pytest.mark.parametrize("opcode", GOOD)
def test_what_keeps_the_rules_passes(opcode: Opcode) -> None:
    verify(one(opcode, **GOOD[opcode]))


@pytest.mark.parametrize(("opcode", "change", "text"), BAD)
def test_operands_that_do_not_fit_are_refused(
    opcode: Opcode, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)):
        verify(one(opcode, **{**GOOD[opcode], **change}))


def a_convolution(zero1: int, bias: int) -> Program:
    draft = Draft()
    x = draft.input(U8, (1, 2, 1, 1))
    out = draft.buffer(I8, (1, 1, 1, 1))
    operands = {
        "weights": draft.constant(np.full((1, 2, 1, 1), -128), I8),
        "bias": draft.constant([bias], I32),
        "multiplier": draft.constant([1e-9], F32),
    }
    draft.emit(Opcode.CONV2D, out, x, zero1=zero1, **operands, **STORED)
    draft.output(out)
    return draft.finish()


@pytest.mark.parametrize("zero1", [0, 127, -128, 5])
def test_the_zero_point_of_weights_enters_the_largest_sum(zero1: int) -> None:
    room = 2**31 - 1 - 2 * 255 * max(128 + zero1, 127 - zero1)
    verify(a_convolution(zero1, room))
    with pytest.raises(InvalidProgram, match="2 products and a bias"):
        verify(a_convolution(zero1, room + 1))


def test_the_zero_point_of_weights_is_an_int8() -> None:
    with pytest.raises(InvalidProgram, match=re.escape("zero1 is 128, outside -128..127")):
        verify(a_convolution(128, 0))
