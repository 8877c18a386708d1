"""Many elements become one, or are weighed against each other."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf.instruction_checks.operands import (
    Check,
    axis_exists,
    constant,
    is_activation,
    same_rank,
    same_shape,
)
from furiosa.enf.isa import Instruction, Opcode
from furiosa.enf.program import Program

_SUM: Final = 255  # the largest |x - zero0|
_SQUARE: Final = 255 * 255


def _one_multiplier(i: Instruction, program: Program) -> Iterator[str]:
    yield from constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (1,))


def _over_axes(i: Instruction, program: Program, largest: int, *, keeps: bool) -> Iterator[str]:
    """A sum over the axes in `parameters`; `keeps`: the result has the source's shape."""
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
    yield from _one_multiplier(i, program)
    axes = program.constants[i.parameters]
    count = min(axes.size, len(source.shape))
    yield from (found := list(constant("parameters", axes, DType.INT32, (count,))))
    if found:
        return
    chosen = axes.tolist()
    if chosen != [axis for axis in range(len(source.shape)) if axis in chosen]:
        yield f"axes {chosen} of rank {len(source.shape)}"
        return
    count = math.prod(source.shape[axis] for axis in chosen)
    if count * largest >= 1 << 31:
        yield f"a sum of {count} elements may exceed an int32"
    sizes = [1 if axis in chosen else size for axis, size in enumerate(source.shape)]
    if out.shape != (source.shape if keeps else tuple(sizes)):
        yield f"{list(source.shape)} over the axes {chosen} becomes {list(out.shape)}"


def _reduce_sum(i: Instruction, program: Program) -> Iterator[str]:
    return _over_axes(i, program, _SUM, keeps=False)


def _reduce_l2(i: Instruction, program: Program) -> Iterator[str]:
    return _over_axes(i, program, _SQUARE, keeps=False)


def _l2_normalize(i: Instruction, program: Program) -> Iterator[str]:
    return _over_axes(i, program, _SQUARE, keeps=True)


def _softmax(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    table: npt.NDArray[Any] = program.constants[i.weights]
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
    yield from same_shape(source, out)
    yield from _one_multiplier(i, program)
    yield from (found := [*constant("weights", table, DType.FLOAT32, (256,)), *axis_exists(i, out)])
    if found:
        return
    whole = np.isfinite(table).all() and (table == np.rint(table)).all()
    if not whole or (table < 0).any() or (table > table[0]).any() or table[0] == 0:
        yield "weights are not whole numbers of 0 to the first, which is above 0"
    elif float(table[0]) * out.shape[i.axis] > 1 << 24:  # else sums are exact in any order
        yield f"a sum of {out.shape[i.axis]} times {table[0]} exceeds 2^24"


def _matmul(i: Instruction, program: Program) -> Iterator[str]:
    left, right, out = (program.buffers[b] for b in (i.source0, i.source1, i.out))
    for source in (left, right):
        yield from is_activation("a source", source)
    yield from is_activation("the result", out)
    yield from _one_multiplier(i, program)
    yield from (found := [*same_rank(left, out), *same_rank(right, out)])
    if found:
        return
    wanted = (*left.shape[:-1], *right.shape[-1:])
    fits = len(out.shape) >= 2 and left.shape[-1] == right.shape[-2]
    if not fits or left.shape[:-2] != right.shape[:-2] or wanted != out.shape:
        yield f"{list(left.shape)} times {list(right.shape)} is not {list(out.shape)}"
    elif left.shape[-1] * _SQUARE >= 1 << 31:
        yield f"a sum of {left.shape[-1]} products may exceed an int32"


def _resize_linear(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
    if len(source.shape) != 4 or len(out.shape) != 4 or source.shape[:2] != out.shape[:2]:
        yield f"{list(source.shape)} does not become {list(out.shape)} by resizing images"
        return
    height, width = out.shape[2:]
    factors = program.constants[i.multiplier]
    indices = program.constants[i.parameters]
    yield from constant("parameters", indices, DType.INT32, (2 * (height + width),))
    yield from constant("multiplier", factors, DType.FLOAT32, (height + width + 1,))


CHECKS: Final[Mapping[Opcode, Check]] = {
    Opcode.REDUCE_SUM: _reduce_sum,
    Opcode.REDUCE_L2: _reduce_l2,
    Opcode.L2_NORMALIZE: _l2_normalize,
    Opcode.SOFTMAX: _softmax,
    Opcode.MATMUL: _matmul,
    Opcode.RESIZE_LINEAR: _resize_linear,
}
