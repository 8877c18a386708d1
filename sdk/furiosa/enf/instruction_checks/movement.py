"""Elements go to other places."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from furiosa.common.tensor import DType
from furiosa.enf.instruction_checks.operands import (
    Check,
    axis_exists,
    constant,
    is_activation,
    parameters,
    same_dtype,
    same_rank,
)
from furiosa.enf.isa import Instruction, Opcode
from furiosa.enf.program import Program


def _load(i: Instruction, program: Program) -> Iterator[str]:
    out = program.buffers[i.out]
    yield from constant("weights", program.constants[i.weights], out.dtype, out.shape)


def _reshape(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    if math.prod(source.shape) != math.prod(out.shape):
        yield f"{list(source.shape)} and {list(out.shape)} differ in size"


def _concat(i: Instruction, program: Program) -> Iterator[str]:
    out = program.buffers[i.out]
    sources = program.buffers[i.source0], program.buffers[i.source1]
    for source in sources:
        yield from same_dtype(source, out)
        yield from same_rank(source, out)
        if len(source.shape) != len(out.shape):
            return
    yield from (found := list(axis_exists(i, out)))
    if found:
        return
    for axis, size in enumerate(out.shape):
        a, b = (source.shape[axis] for source in sources)
        if (a + b if axis == i.axis else a) != size or (axis != i.axis and a != b):
            yield f"axis {axis} of the result is {size}, the sources have {a} and {b}"


def _transpose(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    wrong, order = parameters(i, program, (len(source.shape),))
    yield from wrong
    if wrong:
        return
    if sorted(order.tolist()) != list(range(len(source.shape))):
        yield f"parameters {order.tolist()} are no order of {len(source.shape)} axes"
    elif tuple(source.shape[axis] for axis in order.tolist()) != out.shape:
        yield f"{list(source.shape)} in the order {order.tolist()} is not {list(out.shape)}"


def _slice(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    yield from (found := list(same_rank(source, out)))
    if found:
        return
    wrong, both = parameters(i, program, (2, len(source.shape)))
    yield from wrong
    if wrong:
        return
    columns = zip(*both.tolist(), source.shape, out.shape, strict=True)
    for axis, (start, step, size, results) in enumerate(columns):
        if start < 0 or step < 1 or start + (results - 1) * step >= size:
            yield f"axis {axis}: {results} elements from {start} in steps of {step}, there are {size}"


def _pad(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    yield from (unfit := [*is_activation("the source", source), *same_rank(source, out)])
    if unfit:
        return
    wrong, before = parameters(i, program, (len(source.shape),))
    yield from wrong
    if wrong:
        return
    for axis, (a, size, results) in enumerate(
        zip(before.tolist(), source.shape, out.shape, strict=True)
    ):
        if a < 0 or a + size > results:
            yield f"axis {axis}: {size} elements behind {a} do not fit into {results}"


def _expand(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    yield from (found := list(same_rank(source, out)))
    if not found and any(a not in (1, b) for a, b in zip(source.shape, out.shape, strict=True)):
        yield f"{list(source.shape)} does not expand to {list(out.shape)}"


def _gather(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from same_dtype(source, out)
    yield from (found := [*same_rank(source, out), *axis_exists(i, out)])
    if found:
        return
    for axis, (a, b) in enumerate(zip(source.shape, out.shape, strict=True)):
        if axis != i.axis and a != b:
            yield f"axis {axis} changes from {a} to {b}"
    indices = program.constants[i.parameters]
    yield from constant("parameters", indices, DType.INT32, (out.shape[i.axis],))


CHECKS: Final[Mapping[Opcode, Check]] = {
    Opcode.LOAD: _load,
    Opcode.RESHAPE: _reshape,
    Opcode.CONCAT: _concat,
    Opcode.TRANSPOSE: _transpose,
    Opcode.SLICE: _slice,
    Opcode.PAD: _pad,
    Opcode.EXPAND: _expand,
    Opcode.GATHER: _gather,
}
