"""Rules on single instructions: operands, types, shapes, windows, arithmetic.

What each opcode takes is in two tables; what must hold between its operands is one function each.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf.isa import NONE, Instruction, Opcode, Window
from furiosa.enf.limits import Limits
from furiosa.enf.program import TARGETS, Buffer, Program
from furiosa.enf.table_rules import RANGES

_CONSTANTS: Final = ("weights", "bias", "multiplier")
_CONV_OPERANDS: Final = frozenset({"source0", "weights", "bias", "multiplier"})
OPERANDS: Final = {
    Opcode.CONV2D: _CONV_OPERANDS,
    Opcode.DEPTHWISE_CONV2D: _CONV_OPERANDS,
    Opcode.ADD: frozenset({"source0", "source1", "multiplier"}),
    Opcode.MAX_POOL2D: frozenset({"source0"}),
    Opcode.RESHAPE: frozenset({"source0"}),
    Opcode.QUANTIZE: frozenset({"source0", "multiplier"}),
    Opcode.DEQUANTIZE: frozenset({"source0", "multiplier"}),
}
_ALL_FIELDS: Final = frozenset({"zero0", "zero1", "zero_out", "low", "high", "window"})
_CONV_FIELDS: Final = _ALL_FIELDS - {"zero1"}
FIELDS: Final = {
    Opcode.CONV2D: _CONV_FIELDS,
    Opcode.DEPTHWISE_CONV2D: _CONV_FIELDS,
    Opcode.ADD: _ALL_FIELDS - {"window"},
    Opcode.MAX_POOL2D: frozenset({"low", "high", "window"}),
    Opcode.RESHAPE: frozenset[str](),
    Opcode.QUANTIZE: frozenset({"zero_out", "low", "high"}),
    Opcode.DEQUANTIZE: frozenset({"zero0"}),
}
_UNUSED: Final = {
    "zero0": 0,
    "zero1": 0,
    "zero_out": 0,
    "low": 0,
    "high": 0,
    "window": Window(),
}
_CONVOLUTIONS: Final = frozenset({Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D})
_U16: Final = 0xFFFF
_MAX_ADD_MULTIPLIER: Final = 2.0**100
_MAX_TERM: Final = 255 * 128  # |x - zero0| * |w|


def operands_are_present(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for field in ("source0", "source1", *_CONSTANTS):
            wanted, given = field in OPERANDS[i.opcode], getattr(i, field) != NONE
            if wanted != given:
                yield f"{where} {'has no' if wanted else 'takes no'} {field}"
        for field, unused in _UNUSED.items():
            if field not in FIELDS[i.opcode] and getattr(i, field) != unused:
                yield f"{where} does not use {field}, which is {getattr(i, field)}"


def operands_exist(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for field in ("out", "source0", "source1"):
            value = getattr(i, field)
            if not (0 <= value < len(program.buffers) or (value == NONE and field != "out")):
                yield f"{where}: {field} is buffer {value} of {len(program.buffers)}"
        for field in _CONSTANTS:
            value = getattr(i, field)
            if not (0 <= value < len(program.constants) or value == NONE):
                yield f"{where}: {field} is constant {value} of {len(program.constants)}"


def pes_are_of_the_target(program: Program, limits: Limits) -> Iterator[str]:
    every = (1 << TARGETS[program.target]) - 1
    for where, i in _each(program):
        if not 0 < i.pes <= every:
            yield f"{where} runs on the PEs {i.pes:#b}, {program.target} has {every:#b}"


def windows_are_sound(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        w = i.window
        sizes = (*w.kernel, *w.strides, *w.dilations)
        if not all(1 <= size <= _U16 for size in sizes):
            yield f"{where}: kernel, strides and dilations are {sizes}, each must be 1 to {_U16}"
        if not all(0 <= pad <= _U16 for pad in w.pads):
            yield f"{where}: pads are {w.pads}, each must be 0 to {_U16}"
        if not 1 <= w.group < NONE:
            yield f"{where}: group is {w.group}"


def types_and_shapes_agree(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for message in CHECKS[i.opcode](i, program):
            yield f"{where}: {message}"


def zero_points_and_clamps_are_in_range(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        used = FIELDS[i.opcode]
        points = (("zero0", i.source0), ("zero1", i.source1), ("zero_out", i.out))
        for field, buffer in points:
            if field in used:
                low, high = RANGES[program.buffers[buffer].dtype]
                if not low <= getattr(i, field) <= high:
                    yield f"{where}: {field} is {getattr(i, field)}, outside {low}..{high}"
        if "low" in used:
            low, high = RANGES[program.buffers[i.out].dtype]
            if not low <= i.low <= i.high <= high:
                yield f"{where} clamps to {i.low}..{i.high}, the type holds {low}..{high}"


def multipliers_are_in_range(program: Program, limits: Limits) -> Iterator[str]:
    seen: set[tuple[int, Opcode]] = set()  # a large constant may be named by every instruction
    for where, i in _each(program):
        if i.multiplier == NONE or (i.multiplier, i.opcode) in seen:
            continue
        seen.add((i.multiplier, i.opcode))
        values = program.constants[i.multiplier].astype(np.float32, copy=False)
        wrong = ~(np.isfinite(values) & (values >= 0))
        if i.opcode is Opcode.ADD:  # no term may be infinite, lest their sum be not a number
            wrong |= values > _MAX_ADD_MULTIPLIER
        if i.opcode is Opcode.QUANTIZE:  # divides by it
            wrong |= values == 0
        if wrong.any():
            yield f"{where}: a multiplier is {values[wrong][0]}"


def accumulators_fit_int32(program: Program, limits: Limits) -> Iterator[str]:
    largest: dict[int, int] = {}
    for where, i in _each(program):
        if i.opcode not in _CONVOLUTIONS:
            continue
        if i.bias not in largest:
            bias = program.constants[i.bias]
            largest[i.bias] = max(int(bias.max()), -int(bias.min()))
        taps = math.prod(program.constants[i.weights].shape[1:])
        if taps * _MAX_TERM + largest[i.bias] >= 1 << 31:
            yield f"{where}: {taps} products and a bias of {largest[i.bias]} may exceed an int32"


def _each(program: Program) -> Iterator[tuple[str, Instruction]]:
    for index, instruction in enumerate(program.instructions):
        yield f"instruction {index} ({instruction.opcode.name})", instruction


def _is_activation(what: str, *buffers: Buffer) -> Iterator[str]:
    for buffer in buffers:
        if buffer.dtype not in RANGES:
            yield f"{what} is {buffer.dtype.value}, not int8 or uint8"


def _constant(
    what: str, array: npt.NDArray[Any], dtype: DType, shape: tuple[int, ...]
) -> Iterator[str]:
    if array.dtype.name != dtype.value or array.shape != shape:
        found = f"{array.dtype.name} {list(array.shape)}"
        yield f"{what} is {found}, expected {dtype.value} {list(shape)}"


def _maps(source: Buffer, out: Buffer) -> Iterator[str]:
    """Both are stacks of images, as many in `out` as in `source`."""
    if len(source.shape) != 4 or len(out.shape) != 4:
        yield f"source {list(source.shape)} and result {list(out.shape)} must have rank 4"
    elif source.shape[0] != out.shape[0]:
        yield f"{source.shape[0]} images become {out.shape[0]}"


def _window(w: Window, source: Buffer, out: Buffer) -> Iterator[str]:
    for axis in (0, 1):
        extent = (w.kernel[axis] - 1) * w.dilations[axis] + 1
        room = source.shape[2 + axis] + w.pads[axis] + w.pads[2 + axis] - extent
        size = room // w.strides[axis] + 1 if room >= 0 else 0
        if size != out.shape[2 + axis]:
            yield f"axis {2 + axis} of the result is {out.shape[2 + axis]}, the window gives {size}"


def _convolution(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from _is_activation("the source", source)
    yield from _is_activation("the result", out)
    yield from (found := list(_maps(source, out)))
    if found:
        return
    channels, results, group = source.shape[1], out.shape[1], i.window.group
    if channels % group or results % group:
        yield f"{group} groups do not divide {channels} and {results} channels"
        return
    if i.opcode is Opcode.DEPTHWISE_CONV2D and group != channels:
        yield f"there are {group} groups for {channels} channels"
    weights = (results, channels // group, *i.window.kernel)
    yield from _constant("weights", program.constants[i.weights], DType.INT8, weights)
    yield from _constant("bias", program.constants[i.bias], DType.INT32, (results,))
    yield from _constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (results,))
    yield from _window(i.window, source, out)


def _add(i: Instruction, program: Program) -> Iterator[str]:
    sources = program.buffers[i.source0], program.buffers[i.source1]
    out = program.buffers[i.out]
    yield from _is_activation("a source", *sources)
    yield from _is_activation("the result", out)
    if not sources[0].shape == sources[1].shape == out.shape:
        shapes = [list(b.shape) for b in (*sources, out)]
        yield f"shapes {shapes[0]} and {shapes[1]} do not add to {shapes[2]}"
    yield from _constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (2,))


def _max_pool(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from _is_activation("the source", source)
    yield from _same_dtype(source, out)
    yield from (found := list(_maps(source, out)))
    if found:
        return
    if source.shape[1] != out.shape[1]:
        yield f"{source.shape[1]} channels become {out.shape[1]}"
    if i.window.group != 1:
        yield f"group is {i.window.group}"
    w = i.window
    if any(pad >= size for pad, size in zip(w.pads, w.kernel * 2, strict=True)):
        yield f"pads {w.pads} are not less than the kernel {w.kernel}"
    yield from _window(w, source, out)


def _reshape(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from _same_dtype(source, out)
    if math.prod(source.shape) != math.prod(out.shape):
        yield f"{list(source.shape)} and {list(out.shape)} differ in size"


def _quantize(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from _is_activation("the result", out)
    yield from _conversion(i, source, out, source, program)


def _dequantize(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from _is_activation("the source", source)
    yield from _conversion(i, source, out, out, program)


def _conversion(
    i: Instruction, source: Buffer, out: Buffer, real: Buffer, program: Program
) -> Iterator[str]:
    if real.dtype is not DType.FLOAT32:
        yield f"the real values are {real.dtype.value}, not float32"
    if source.shape != out.shape:
        yield f"the shape changes from {list(source.shape)} to {list(out.shape)}"
    yield from _constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (1,))


def _same_dtype(source: Buffer, out: Buffer) -> Iterator[str]:
    if source.dtype is not out.dtype:
        yield f"the type changes from {source.dtype.value} to {out.dtype.value}"


CHECKS: Final[dict[Opcode, Callable[[Instruction, Program], Iterator[str]]]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.ADD: _add,
    Opcode.MAX_POOL2D: _max_pool,
    Opcode.RESHAPE: _reshape,
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
}
