"""Convolutions and pooling."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from furiosa.common.tensor import DType
from furiosa.enf.instruction_checks.operands import Check, constant, is_activation, same_dtype
from furiosa.enf.isa import Instruction, Opcode, Window
from furiosa.enf.program import Buffer, Program


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
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
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
    yield from constant("weights", program.constants[i.weights], DType.INT8, weights)
    yield from constant("bias", program.constants[i.bias], DType.INT32, (results,))
    yield from constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, (results,))
    yield from _window(i.window, source, out)


def _max_pool(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the source", source)
    yield from same_dtype(source, out)
    yield from (found := list(_maps(source, out)))
    if found:
        return
    w = i.window
    if any(pad >= size for pad, size in zip(w.pads, w.kernel * 2, strict=True)):
        yield f"pads {w.pads} are not less than the kernel {w.kernel}"
    yield from _pool(w, source, out)


def _average_pool(i: Instruction, program: Program) -> Iterator[str]:
    source, out = program.buffers[i.source0], program.buffers[i.out]
    yield from is_activation("the source", source)
    yield from is_activation("the result", out)
    yield from (found := list(_maps(source, out)))
    if found:
        return
    taps = math.prod(i.window.kernel)
    if taps * 255 >= 1 << 24:  # beyond that a float32 does not hold every sum
        yield f"it sums {taps} elements"
    yield from constant("multiplier", program.constants[i.multiplier], DType.FLOAT32, out.shape[2:])
    yield from _pool(i.window, source, out)


def _pool(w: Window, source: Buffer, out: Buffer) -> Iterator[str]:
    if source.shape[1] != out.shape[1]:
        yield f"{source.shape[1]} channels become {out.shape[1]}"
    if w.group != 1:
        yield f"group is {w.group}"
    yield from _window(w, source, out)


CHECKS: Final[Mapping[Opcode, Check]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.MAX_POOL2D: _max_pool,
    Opcode.AVERAGE_POOL2D: _average_pool,
}
