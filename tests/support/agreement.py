"""The engine against the interpreter, and programs of one instruction to hold them to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Program, Space
from furiosa.enf.instruction_rules import FIELDS
from furiosa.enf.table_rules import RANGES
from furiosa.enf.verify import verify
from furiosa.vnpu import Engine, Interpreter
from support.programs import Draft

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def agree(program: Program, inputs: Sequence[Array], threads: int = 1) -> list[Array]:
    """The outputs, which both give to the bit."""
    verify(program)
    expected = Interpreter(program).run(inputs)
    found = Engine(program, threads).run(inputs)
    for e, f, port in zip(expected, found, program.outputs, strict=True):
        assert f.dtype == e.dtype
        np.testing.assert_array_equal(f, e, err_msg=port.name)
    return found


def one(
    opcode: Opcode,
    sources: Sequence[tuple[DType, Shape]],
    out: tuple[DType, Shape],
    *,
    constants: dict[str, Any] | None = None,
    **fields: Any,
) -> Program:
    """One instruction; constants are int32, but for weights and multiplier. The clamp is none."""
    draft = Draft()
    buffers = [draft.input(*source) for source in sources]
    result = draft.buffer(*out, Space.DRAM)
    types = {"multiplier": DType.FLOAT32, "weights": out[0]}
    if opcode in (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D):
        types["weights"] = DType.INT8
    elif opcode is Opcode.SOFTMAX:
        types["weights"] = DType.FLOAT32
    numbers = {
        field: draft.constant(values, types.get(field, DType.INT32))
        for field, values in (constants or {}).items()
    }
    operands = {f"source{k}": buffer for k, buffer in enumerate(buffers)}
    if "low" in FIELDS[opcode]:
        low, high = RANGES[out[0]]
        fields = {"low": low, "high": high} | fields
    draft.emit(opcode, result, **operands, **numbers, **fields)
    draft.output(result)
    return draft.finish()
