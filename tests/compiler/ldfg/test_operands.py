"""Of each operation: operands that it takes, and operands that are refused, with the reason given."""

from typing import Any

import numpy as np
import pytest

from furiosa.common.tensor import DType
from furiosa.compiler.ldfg.ir import Ldfg, NpuNode, NpuSection
from furiosa.compiler.ldfg.operands import OPERANDS
from furiosa.compiler.ldfg.verify import RULES
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode, Window
from support.sketches import INFO

Shape = tuple[int, ...]
IMAGE = (1, 2, 4, 4)
WEIGHTS, COLUMN = np.zeros((2, 2, 1, 1), np.int8), np.zeros(2, np.int32)
ONE, TWO = np.ones(1, np.float32), np.ones(2, np.float32)
TABLE, EXP = np.zeros(256, np.int8), np.ones(256, np.float32)
CONV: dict[str, Any] = {"weights": WEIGHTS, "bias": COLUMN, "multiplier": TWO}


def ints(*numbers: Any) -> Any:
    return np.array(numbers, np.int32)


def check(
    opcode: Opcode,
    sources: tuple[Shape, ...],
    result: Shape,
    types: str = "",
    **fields: Any,
) -> list[str]:
    """What the rules say. `types`, of sources and result: i int8, u uint8, f float32; int8 if left out."""
    kinds = {"i": DType.INT8, "u": DType.UINT8, "f": DType.FLOAT32}
    dtypes = [kinds[letter] for letter in types or "i" * (len(sources) + 1)]
    names = tuple(f"x{index}" for index in range(len(sources)))
    shapes = zip((*names, "y"), (*sources, result), dtypes, strict=True)
    values = {name: Value(name, dtype, shape) for name, shape, dtype in shapes}
    node = NpuNode("n", opcode, names, "y", ("n",), **fields)
    graph = Ldfg(INFO, names, ("y",), (NpuSection((node,)),), values)
    prefix = f"n ({opcode.name.lower()}) "
    return [message.removeprefix(prefix) for rule in RULES for message in rule(graph)]


Op = Opcode
TAKEN: list[tuple[Any, ...]] = [
    (Op.CONV2D, (IMAGE,), IMAGE, "iu", CONV),
    (
        Op.DEPTHWISE_CONV2D,
        (IMAGE,),
        IMAGE,
        "",
        {**CONV, "weights": WEIGHTS[:, :1], "window": Window(group=2)},
    ),
    (Op.ADD, ((1, 2, 3), (4, 1, 3)), (4, 2, 3), "iui", {"multiplier": TWO}),
    (Op.MAX_POOL2D, (IMAGE,), (1, 2, 2, 2), "", {}),
    (Op.RESHAPE, (IMAGE,), (32,), "ff", {}),
    (Op.QUANTIZE, (IMAGE,), IMAGE, "fu", {"multiplier": ONE}),
    (Op.DEQUANTIZE, (IMAGE,), IMAGE, "if", {"multiplier": ONE}),
    (Op.LOAD, (), (2,), "f", {"weights": TWO}),
    (Op.MULTIPLY, ((2, 3), (1, 1)), (2, 3), "", {"multiplier": TWO}),
    (Op.TABLE, (IMAGE,), IMAGE, "iu", {"weights": TABLE}),
    (Op.TABLE, (IMAGE,), IMAGE, "", {"weights": np.zeros((4, 256), np.int8), "axis": 3}),
    (Op.TABLE, ((),), (), "", {"weights": TABLE}),
    (Op.CONCAT, ((2, 3), (2, 1)), (2, 4), "fff", {"axis": 1}),
    (Op.TRANSPOSE, ((2, 3, 4),), (4, 2, 3), "", {"parameters": ints(2, 0, 1)}),
    (Op.SLICE, ((4, 4),), (2, 4), "", {"parameters": ints((0, 0), (2, 1))}),
    (Op.PAD, ((4, 4),), (6, 4), "", {"parameters": ints(1, 0)}),
    (Op.EXPAND, ((1, 4),), (3, 4), "", {}),
    (Op.GATHER, ((2, 4),), (2, 3), "", {"parameters": ints(3, 3, 0), "axis": 1}),
    (
        Op.RESIZE_LINEAR,
        (IMAGE,),
        (1, 2, 3, 5),
        "",
        {"parameters": ints(*[0] * 16), "multiplier": EXP[:9]},
    ),
    (Op.AVERAGE_POOL2D, (IMAGE,), (1, 2, 2, 3), "", {"multiplier": np.ones((2, 3), np.float32)}),
    (Op.REDUCE_SUM, ((2, 3),), (2, 1), "iu", {"parameters": ints(1), "multiplier": ONE}),
    (Op.REDUCE_L2, ((2, 3),), (1, 1), "", {"parameters": ints(0, 1), "multiplier": ONE}),
    (Op.L2_NORMALIZE, ((2, 3),), (2, 3), "", {"parameters": ints(1), "multiplier": ONE}),
    (Op.SOFTMAX, ((2, 3),), (2, 3), "", {"weights": EXP, "multiplier": ONE, "axis": 1}),
    (Op.MATMUL, ((5, 2, 3), (5, 3, 4)), (5, 2, 4), "iui", {"multiplier": ONE}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    # of the operands of the operation above, something else; and what is said of it
    ("has 1 sources, takes 2", {"of": Op.ADD, "sources": (IMAGE,), "types": "ii"}),
    ("makes float32 of int8", {"of": Op.TABLE, "types": "if"}),
    ("makes uint8 of int8", {"of": Op.MAX_POOL2D, "types": "iu"}),
    ("makes int8 of int8", {"of": Op.DEQUANTIZE, "types": "ii"}),
    ("makes int8 of int8 and uint8", {"of": Op.CONCAT, "types": "iui"}),
    ("makes float32 of float32", {"of": Op.PAD, "types": "ff"}),
    (
        "makes [4, 2, 3] of [1, 2, 3] and [4, 2, 2]",
        {"of": Op.ADD, "sources": ((1, 2, 3), (4, 2, 2))},
    ),
    ("makes [4, 2, 3] of [2, 3] and [4, 1, 3]", {"of": Op.ADD, "sources": ((2, 3), (4, 1, 3))}),
    (
        "makes [2, 2] of [2, 1] and [1, 1]",
        {"of": Op.MULTIPLY, "sources": ((2, 1), (1, 1)), "result": (2, 2)},
    ),
    ("makes [1, 4, 4] of [1, 2, 4, 4]", {"of": Op.CONV2D, "result": (1, 4, 4)}),
    ("makes [1, 3, 2, 2] of [1, 2, 4, 4]", {"of": Op.MAX_POOL2D, "result": (1, 3, 2, 2)}),
    ("makes [33] of [1, 2, 4, 4]", {"of": Op.RESHAPE, "result": (33,)}),
    ("makes [2, 5] of [2, 3] and [2, 1]", {"of": Op.CONCAT, "result": (2, 5)}),
    ("makes [2, 4] of [2, 3] and [2, 1]", {"of": Op.CONCAT, "axis": 0}),
    ("makes [4, 2, 3] of [2, 3, 4]", {"of": Op.TRANSPOSE, "parameters": ints(2, 0, 0)}),
    ("makes [4, 2, 3] of [2, 3, 4]", {"of": Op.TRANSPOSE, "parameters": ints(0, 1, 2)}),
    ("makes [3, 4] of [2, 4]", {"of": Op.EXPAND, "sources": ((2, 4),)}),
    ("makes [2, 3] of [2, 4]", {"of": Op.GATHER, "parameters": ints(0, 1)}),
    ("makes [2, 1] of [2, 3]", {"of": Op.REDUCE_SUM, "parameters": ints(0)}),
    ("makes [2, 1] of [2, 3]", {"of": Op.L2_NORMALIZE, "result": (2, 1)}),
    ("makes [2, 3] of [2, 3]", {"of": Op.SOFTMAX, "axis": 2}),
    (
        "makes [5, 2, 4] of [1, 2, 3] and [5, 3, 4]",
        {"of": Op.MATMUL, "sources": ((1, 2, 3), (5, 3, 4))},
    ),
    (
        "makes [5, 2, 4] of [5, 2, 3] and [5, 4, 4]",
        {"of": Op.MATMUL, "sources": ((5, 2, 3), (5, 4, 4))},
    ),
    ("has weights [2, 2, 1, 1], needs [2, 2, 3, 3]", {"of": Op.CONV2D, "window": Window((3, 3))}),
    ("has multiplier [1], needs [2]", {"of": Op.MULTIPLY, "multiplier": ONE}),
    ("has multiplier None, needs [1]", {"of": Op.MATMUL, "multiplier": None}),
    ("has bias [2], needs None", {"of": Op.TABLE, "bias": COLUMN}),
    ("has weights [255], needs [256]", {"of": Op.TABLE, "weights": TABLE[1:]}),
    ("has weights [2], needs [3]", {"of": Op.LOAD, "result": (3,)}),
    ("has parameters [1, 2], needs [2, 2]", {"of": Op.SLICE, "parameters": ints((0, 0))}),
    ("has parameters [3], needs [2]", {"of": Op.PAD, "parameters": ints(0, 0, 0)}),
    ("has multiplier [2, 3], needs [2, 2]", {"of": Op.AVERAGE_POOL2D, "result": (1, 2, 2, 2)}),
    ("has parameters [16], needs [18]", {"of": Op.RESIZE_LINEAR, "result": (1, 2, 3, 6)}),
]


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case[0].name)
def test_operands_are_taken(case: tuple[Any, ...]) -> None:
    opcode, sources, result, types, fields = case
    assert check(opcode, sources, result, types, **fields) == []


@pytest.mark.parametrize(("message", "change"), REFUSED, ids=lambda item: str(item)[:40])
def test_operands_are_refused(message: str, change: dict[str, Any]) -> None:
    opcode, sources, result, types, fields = next(c for c in TAKEN if c[0] is change["of"])
    given = {"sources": sources, "result": result, "types": types, **fields, **change}
    del given["of"]
    assert message in check(opcode, given.pop("sources"), given.pop("result"), **given)


def test_every_operation_is_tried() -> None:
    assert {case[0] for case in TAKEN} == set(OPERANDS) == set(Opcode)
