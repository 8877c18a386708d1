"""Parts of tensors: which part of each source an operation reads to make a part of its result.

A box is a range of indices, (first, count), for each axis. What is read may be rounded up to a larger
box, never down.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.enf.isa import Opcode

Shape = tuple[int, ...]
Range = tuple[int, int]  # first, count
Box = tuple[Range, ...]


def whole(shape: Shape) -> Box:
    return tuple((0, size) for size in shape)


def cut(shape: Shape, axis: int, first: int, count: int) -> Box:
    """The indices `first` and on of one axis, all of the others."""
    box = list(whole(shape))
    box[axis] = (first, count)
    return tuple(box)


def elements(box: Box) -> int:
    return math.prod([count for _, count in box])


def common(left: Box, right: Box) -> int:
    """Elements that two boxes of one tensor share."""
    if left == right:
        return elements(left)
    size = 1
    for (first, count), (other, many) in zip(left, right, strict=True):
        end, begin = first + count, first  # without min and max, which are calls
        if other + many < end:
            end = other + many
        if other > begin:
            begin = other
        if end <= begin:
            return 0
        size *= end - begin
    return size


def read(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    """The part of each source, of these shapes, that makes the part `box` of the result."""
    return _READS[node.opcode](node, shapes, result, box)


def _alike(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    """Each element from those in its own place; a dimension of 1 serves every index."""
    return tuple(
        box
        if shape == result
        else tuple((0, 1) if size == 1 else part for size, part in zip(shape, box, strict=True))
        for shape in shapes
    )


def _window(node: NpuNode, shape: Shape, box: Box, axis: int) -> Range:
    """Indices of image axis 2 or 3 under the windows of a range of the result."""
    w, (first, count) = node.window, box[axis]
    n = axis - 2
    start = first * w.strides[n] - w.pads[n]
    end = start + (count - 1) * w.strides[n] + (w.kernel[n] - 1) * w.dilations[n] + 1
    start = min(max(start, 0), shape[axis])
    return start, max(min(end, shape[axis]) - start, 0)


def _convolution(
    node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box
) -> tuple[Box, ...]:
    (source,) = shapes
    first, count = box[1]
    outs, ins = result[1] // node.window.group, source[1] // node.window.group  # of a group
    start = first // outs * ins
    channels = (start, -(-(first + count) // outs) * ins - start)
    return ((box[0], channels, _window(node, source, box, 2), _window(node, source, box, 3)),)


def _pool(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    (source,) = shapes
    return ((box[0], box[1], _window(node, source, box, 2), _window(node, source, box, 3)),)


def _nothing(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    return ()


def _reshape(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    """Exact where the first axis that is cut means the same range of bytes in both shapes."""
    (source,) = shapes
    cuts = [axis for axis, size in enumerate(result) if box[axis] != (0, size)]
    if not cuts:
        return (whole(source),)
    axis = cuts[0]
    if source[: axis + 1] == result[: axis + 1]:
        return (cut(source, axis, *box[axis]),)
    place = next((n for n, size in enumerate(source) if size > 1), None)
    if place is None or math.prod(result[:axis]) > 1:
        return (whole(source),)
    first, count = (number * math.prod(result[axis + 1 :]) for number in box[axis])
    inner = math.prod(source[place + 1 :])
    start, end = first // inner, -(-(first + count) // inner)
    return (cut(source, place, start, end - start),)


def _concat(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    boxes, before = [], 0
    for shape in shapes:
        start = max(box[node.axis][0] - before, 0)
        end = min(sum(box[node.axis]) - before, shape[node.axis])
        part = list(box)
        part[node.axis] = (min(start, shape[node.axis]), max(end - start, 0))
        boxes.append(tuple(part))
        before += shape[node.axis]
    return tuple(boxes)


def _parameters(node: NpuNode) -> list[int]:
    assert node.parameters is not None, f"{node.name} has no parameters"  # a rule of ldfg
    return [int(number) for number in node.parameters.ravel().tolist()]


def _transpose(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    found = dict(zip(_parameters(node), box, strict=True))
    return (tuple(found[axis] for axis in range(len(box))),)


def _slice(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    numbers = _parameters(node)
    starts, steps = numbers[: len(box)], numbers[len(box) :]
    return (
        tuple(
            (start + first * step, (count - 1) * step + 1 if count else 0)
            for (first, count), start, step in zip(box, starts, steps, strict=True)
        ),
    )


def _pad(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    (source,) = shapes
    part = []
    for (first, count), before, size in zip(box, _parameters(node), source, strict=True):
        start = min(max(first - before, 0), size)
        part.append((start, max(min(first + count - before, size) - start, 0)))
    return (tuple(part),)


def _span(indices: Sequence[int]) -> Range:
    if not indices:
        return 0, 0
    return min(indices), max(indices) - min(indices) + 1


def _gather(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    part, (first, count) = list(box), box[node.axis]
    if count == result[node.axis]:
        part[node.axis] = (0, shapes[0][node.axis])
    else:
        part[node.axis] = _span(_parameters(node)[first : first + count])
    return (tuple(part),)


def _resize(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    (source,) = shapes
    part, begin = list(box), 0
    for axis in (2, 3):
        size, (first, count) = result[axis], box[axis]
        if count == size:
            part[axis] = (0, source[axis])
        else:
            numbers = _parameters(node)[begin : begin + 2 * size]
            ends = numbers[first : first + count] + numbers[size + first : size + first + count]
            part[axis] = _span(ends)
        begin += 2 * size
    return (tuple(part),)


def _along(axes: Sequence[int], shape: Shape, box: Box) -> tuple[Box, ...]:
    """All of `axes`, whatever part of the result."""
    part = list(box)
    for axis in axes:
        part[axis] = (0, shape[axis])
    return (tuple(part),)


def _reduction(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    return _along(_parameters(node), shapes[0], box)


def _softmax(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    return _along((node.axis,), shapes[0], box)


def _matmul(node: NpuNode, shapes: Sequence[Shape], result: Shape, box: Box) -> tuple[Box, ...]:
    inner = (0, shapes[0][-1])
    return (*box[:-1], inner), (*box[:-2], inner, box[-1])


_READS: Final[
    Mapping[Opcode, Callable[[NpuNode, Sequence[Shape], Shape, Box], tuple[Box, ...]]]
] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.ADD: _alike,
    Opcode.MAX_POOL2D: _pool,
    Opcode.RESHAPE: _reshape,
    Opcode.QUANTIZE: _alike,
    Opcode.DEQUANTIZE: _alike,
    Opcode.LOAD: _nothing,
    Opcode.MULTIPLY: _alike,
    Opcode.TABLE: _alike,
    Opcode.CONCAT: _concat,
    Opcode.TRANSPOSE: _transpose,
    Opcode.SLICE: _slice,
    Opcode.PAD: _pad,
    Opcode.EXPAND: _alike,
    Opcode.GATHER: _gather,
    Opcode.RESIZE_LINEAR: _resize,
    Opcode.AVERAGE_POOL2D: _pool,
    Opcode.REDUCE_SUM: _reduction,
    Opcode.REDUCE_L2: _reduction,
    Opcode.L2_NORMALIZE: _reduction,
    Opcode.SOFTMAX: _softmax,
    Opcode.MATMUL: _matmul,
}
