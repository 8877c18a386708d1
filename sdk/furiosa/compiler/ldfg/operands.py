"""What each operation of the NPU takes and makes, as one table: types, shapes and constants.

Source: docs/isa.md. Values of constants (indices, bounds of sums) are checked with the whole program.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.tensor import DType
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.enf.isa import Opcode

Shape = tuple[int, ...]
Types = Callable[[tuple[DType, ...], DType], bool]  # of the sources and the result
Shapes = Callable[[NpuNode, tuple[Shape, ...], Shape], bool]
Constants = Callable[[NpuNode, tuple[Shape, ...], Shape], Mapping[str, Shape]]

_EIGHT_BIT: Final = (DType.INT8, DType.UINT8)


@dataclass(frozen=True, slots=True)
class Operands:
    """`constants` gives the shape of each constant; the operation has no other."""

    sources: int
    types: Types
    shapes: Shapes
    constants: Constants


def _stored(sources: tuple[DType, ...], result: DType) -> bool:
    return all(dtype in _EIGHT_BIT for dtype in (*sources, result))


def _kept(sources: tuple[DType, ...], result: DType) -> bool:
    return set(sources) == {result}


def _kept_stored(sources: tuple[DType, ...], result: DType) -> bool:
    return _stored(sources, result) and _kept(sources, result)


def _quantized(sources: tuple[DType, ...], result: DType) -> bool:
    return sources == (DType.FLOAT32,) and result in _EIGHT_BIT


def _dequantized(sources: tuple[DType, ...], result: DType) -> bool:
    return sources[0] in _EIGHT_BIT and result is DType.FLOAT32


def _any(sources: tuple[DType, ...], result: DType) -> bool:
    return True


def _same(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return sources[0] == result


def _loaded(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return True


def _images(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return len(sources[0]) == len(result) == 4 and sources[0][0] == result[0]


def _pooled(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return _images(node, sources, result) and sources[0][1] == result[1]


def _broadcast(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    if any(len(shape) != len(result) for shape in sources):
        return False
    return all(
        max(sizes) == size and set(sizes) <= {1, size}
        for *sizes, size in zip(*sources, result, strict=True)
    )


def _expanded(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return len(sources[0]) == len(result) and all(
        before in (1, after) for before, after in zip(sources[0], result, strict=True)
    )


def _elements(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return math.prod(sources[0]) == math.prod(result)


def _joined(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    axis, ranks = node.axis, {len(shape) for shape in (*sources, result)}
    if len(ranks) != 1 or axis >= len(result):
        return False
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in (*sources, result)}
    return len(rest) == 1 and sum(shape[axis] for shape in sources) == result[axis]


def _transposed(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    axes = [] if node.parameters is None else node.parameters.tolist()
    if sorted(axes) != list(range(len(sources[0]))):
        return False
    return result == tuple(sources[0][axis] for axis in axes)


def _ranked(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return len(sources[0]) == len(result)


def _gathered(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    axis, (source,) = node.axis, sources
    if len(source) != len(result) or axis >= len(result) or node.parameters is None:
        return False
    return result == (*source[:axis], node.parameters.size, *source[axis + 1 :])


def _reduced(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    axes = [] if node.parameters is None else node.parameters.tolist()
    return result == tuple(1 if axis in axes else n for axis, n in enumerate(sources[0]))


def _along_axis(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    return sources[0] == result and node.axis < len(result)


def _matrices(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> bool:
    left, right = sources
    if not len(left) == len(right) == len(result) >= 2:
        return False
    stacks = {left[:-2], right[:-2], result[:-2]}
    return len(stacks) == 1 and left[-1] == right[-2] and result[-2:] == (left[-2], right[-1])


def _none(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {}


def _scales(count: int) -> Constants:
    return lambda node, sources, result: {"multiplier": (count,)}


def _for_channels(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    channels = result[1]
    taps = (sources[0][1] // node.window.group, *node.window.kernel)
    return {"weights": (channels, *taps), "bias": (channels,), "multiplier": (channels,)}


def _whole(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {"weights": result}


def _rows(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    by_axis = node.weights is not None and node.weights.ndim == 2 and node.axis < len(result)
    return {"weights": (result[node.axis], 256) if by_axis else (256,)}


def _for_axes(*more: int) -> Constants:
    """A number of parameters, or that many numbers, for each axis."""
    return lambda node, sources, result: {"parameters": (*more, len(result))}


def _listed(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {"parameters": (0 if node.parameters is None else node.parameters.size,)}


def _axes(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {**_listed(node, sources, result), "multiplier": (1,)}


def _lines(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    lines = sum(result[2:])
    return {"parameters": (2 * lines,), "multiplier": (lines + 1,)}


def _places(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {"multiplier": result[2:]}


def _exponentials(node: NpuNode, sources: tuple[Shape, ...], result: Shape) -> Mapping[str, Shape]:
    return {"weights": (256,), "multiplier": (1,)}


OPERANDS: Final[Mapping[Opcode, Operands]] = {
    Opcode.CONV2D: Operands(1, _stored, _images, _for_channels),
    Opcode.DEPTHWISE_CONV2D: Operands(1, _stored, _images, _for_channels),
    Opcode.ADD: Operands(2, _stored, _broadcast, _scales(2)),
    Opcode.MAX_POOL2D: Operands(1, _kept_stored, _pooled, _none),
    Opcode.RESHAPE: Operands(1, _kept, _elements, _none),
    Opcode.QUANTIZE: Operands(1, _quantized, _same, _scales(1)),
    Opcode.DEQUANTIZE: Operands(1, _dequantized, _same, _scales(1)),
    Opcode.LOAD: Operands(0, _any, _loaded, _whole),
    Opcode.MULTIPLY: Operands(2, _stored, _broadcast, _scales(2)),
    Opcode.TABLE: Operands(1, _stored, _same, _rows),
    Opcode.CONCAT: Operands(2, _kept, _joined, _none),
    Opcode.TRANSPOSE: Operands(1, _kept, _transposed, _for_axes()),
    Opcode.SLICE: Operands(1, _kept, _ranked, _for_axes(2)),
    Opcode.PAD: Operands(1, _kept_stored, _ranked, _for_axes()),
    Opcode.EXPAND: Operands(1, _kept, _expanded, _none),
    Opcode.GATHER: Operands(1, _kept, _gathered, _listed),
    Opcode.RESIZE_LINEAR: Operands(1, _stored, _pooled, _lines),
    Opcode.AVERAGE_POOL2D: Operands(1, _stored, _pooled, _places),
    Opcode.REDUCE_SUM: Operands(1, _stored, _reduced, _axes),
    Opcode.REDUCE_L2: Operands(1, _stored, _reduced, _axes),
    Opcode.L2_NORMALIZE: Operands(1, _stored, _same, _axes),
    Opcode.SOFTMAX: Operands(1, _stored, _along_axis, _exponentials),
    Opcode.MATMUL: Operands(2, _stored, _matrices, _scales(1)),
}
