"""One result for each element."""

from collections.abc import Iterator, Mapping
from typing import Final

from furiosa.common.tensor import DType
from furiosa.enf.instruction_checks.operands import (
    Check,
    axis_exists,
    constant,
    is_activation,
    same_shape,
)
from furiosa.enf.isa import Instruction, Opcode
from furiosa.enf.program import Buffer, Program


def _two_sources(i: Instruction, program: Program) -> Iterator[str]:
    sources = program.buffers[i.source0], program.buffers[i.source1]
    out = program.buffers[i.out]
    for source in sources:
        yield from is_activation("a source", source)
    yield from is_activation("the result", out)
    shapes = [b.shape for b in (*sources, out)]
    if not len(shapes[0]) == len(shapes[1]) == len(shapes[2]):
        yield f"ranks {len(shapes[0])} and {len(shapes[1])} become {len(shapes[2])}"
    elif any(max(a, b) != r or min(a, b) not in (1, r) for a, b, r in zip(*shapes, strict=True)):
        lists = [list(shape) for shape in shapes]
        yield f"shapes {lists[0]} and {lists[1]} do not combine to {lists[2]}"
    yield from constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (2,))


def _table(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    entries = program.constants[i.weights]
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
    yield from same_shape(source, out)
    if entries.ndim == 2:
        yield from (found := list(axis_exists(i, out)))
        if not found:
            yield from constant("weights", entries, out.dtype, (out.shape[i.axis], 256))
    else:
        yield from constant("weights", entries, out.dtype, (256,))
        if i.axis:
            yield f"axis is {i.axis}, there is one table for all"


def _quantize(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the result", out)
    yield from _conversion(i, source, out, source, program)


def _dequantize(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the source", source)
    yield from _conversion(i, source, out, out, program)


def _conversion(
    i: Instruction, source: Buffer, out: Buffer, real: Buffer, program: Program
) -> Iterator[str]:
    if real.dtype is not DType.FLOAT32:
        yield f"the real values are {real.dtype.value}, not float32"
    if source.shape != out.shape:
        yield f"the shape changes from {list(source.shape)} to {list(out.shape)}"
    yield from constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (1,))


CHECKS: Final[Mapping[Opcode, Check]] = {
    Opcode.ADD: _two_sources,
    Opcode.MULTIPLY: _two_sources,
    Opcode.TABLE: _table,
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
}
