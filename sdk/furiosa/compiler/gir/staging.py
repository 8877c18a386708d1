"""What an operation needs in SRAM beside its operands there: its constants, tiles of what is in DRAM.

Two halves where several tiles pass, so that one is filled or emptied while the other is in use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from furiosa.compiler.cdfg.boxes import Box, cut, elements, read, whole
from furiosa.compiler.gir.ir import Buffer, Operation, is_in_place
from furiosa.compiler.ldfg.ir import CONSTANTS
from furiosa.enf.isa import Opcode
from furiosa.enf.limits import aligned
from furiosa.enf.program import Space

MAX_TILES: Final = 4096  # of one operation
_CONVOLUTIONS: Final = (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D)


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of SRAM: constants that fit come whole, tiles are the largest that fit."""

    constants: int
    tiles: int


TIGHT: Final = Budget(0, 0)  # the smallest slices and tiles there are


def budget_of(capacity: int) -> Budget:
    """Constants of two operations at once leave half of SRAM to activations, tiles cost little."""
    return Budget(capacity // 4, capacity // 32)


@dataclass(frozen=True, slots=True)
class Stream:
    """An operand in DRAM: bytes of its scratch buffer, bytes that pass through it."""

    buffer: int
    held: int
    moved: int


@dataclass(frozen=True, slots=True)
class Needs:
    """`constants` is 0 where the operation has none that pass through SRAM."""

    constants: int = 0
    slices: int = 1
    axis: int = 0
    tiles: int = 1
    streams: tuple[Stream, ...] = ()


def needs(operation: Operation, buffers: Sequence[Buffer], budget: Budget) -> Needs:
    if not passes_through_sram(operation, buffers):
        return Needs()
    held, slices = _slicing(operation, budget.constants)
    streamed = in_dram(operation, buffers)
    if not streamed:
        return Needs(held, slices)
    axis, tiles, found = _tiling(operation, buffers, streamed, budget.tiles)
    return Needs(held, slices, axis, tiles, found)


def passes_through_sram(operation: Operation, buffers: Sequence[Buffer]) -> bool:
    """A reshape in place moves nothing, LOAD comes from DRAM to where its result lies."""
    return operation.node.opcode is not Opcode.LOAD and not is_in_place(operation, buffers)


def in_dram(operation: Operation, buffers: Sequence[Buffer]) -> list[int]:
    """Its operands there: sources in order, without repetition, then the result."""
    operands = dict.fromkeys((*operation.sources, operation.out))
    return [index for index in operands if buffers[index].space is Space.DRAM]


def constants_held(operation: Operation, slices: int) -> int:
    """Bytes of the WEIGHTS buffer."""
    found = [data for name in CONSTANTS if (data := getattr(operation.node, name)) is not None]
    if slices == 1:
        return sum(aligned(data.nbytes) for data in found)
    return 2 * sum(
        aligned(-(-data.shape[0] // slices) * (data.nbytes // data.shape[0])) for data in found
    )


def streams(
    operation: Operation, buffers: Sequence[Buffer], streamed: Sequence[int], axis: int, tiles: int
) -> tuple[Stream, ...]:
    """How each operand in DRAM passes when the result is made in so many tiles along `axis`."""
    shapes = [buffers[index].shape for index in operation.sources]
    result = buffers[operation.out].shape
    boxes = _boxes(result, axis, tiles)
    reads = [read(operation.node, shapes, result, box) for box in boxes]
    found = []
    for index in streamed:
        item = buffers[index].dtype.itemsize
        parts = boxes
        if index != operation.out:
            number = operation.sources.index(index)
            parts = [part[number] for part in reads]
        halves = 2
        if all(part == parts[0] for part in parts):
            parts, halves = parts[:1], 1
        sizes = [elements(part) * item for part in parts]
        found.append(Stream(index, halves * aligned(max(sizes)), sum(sizes)))
    return tuple(found)


def _boxes(result: tuple[int, ...], axis: int, tiles: int) -> list[Box]:
    if tiles == 1:
        return [whole(result)]
    each = -(-result[axis] // tiles)
    return [
        cut(result, axis, first, min(each, result[axis] - first))
        for first in range(0, result[axis], each)
    ]


def _slicing(operation: Operation, budget: int) -> tuple[int, int]:
    """Bytes held and number of slices: by output channel, where there is more than the budget."""
    held = constants_held(operation, 1)
    if held <= budget or operation.node.opcode not in _CONVOLUTIONS:
        return held, 1
    assert operation.node.weights is not None, f"{operation.node.name} has no weights"
    channels = operation.node.weights.shape[0]
    slices = min(channels, -(-2 * held // max(budget, 1)))
    while slices < channels and constants_held(operation, slices) > budget:
        slices = min(2 * slices, channels)
    return min((held, 1), (constants_held(operation, slices), slices))


def _tiling(
    operation: Operation, buffers: Sequence[Buffer], streamed: Sequence[int], budget: int
) -> tuple[int, int, tuple[Stream, ...]]:
    """Axis, number of tiles, streams: the fewest tiles that keep to the budget, along the first axis
    that allows it; else the smallest tiles there are."""
    result = buffers[operation.out].shape
    pass_ = partial(streams, operation, buffers, streamed)
    best = (0, 1, pass_(0, 1))
    total = _held(best[2])
    for axis in sorted(
        range(len(result)), key=lambda axis: (0, 2, 1).index(axis) if axis < 3 else axis
    ):
        if _held(best[2]) <= budget:
            break
        most = min(result[axis], MAX_TILES)
        tiles = min(most, max(2, -(-2 * total // max(budget, 1))))
        while tiles > 1:
            tiles = -(-result[axis] // -(-result[axis] // tiles))  # none is empty
            found = pass_(axis, tiles)
            if _held(found) < _held(best[2]):
                best = (axis, tiles, found)
            if tiles >= most or _held(found) <= budget:
                break
            tiles = min(2 * tiles, most)
    return best


def _held(found: Sequence[Stream]) -> int:
    return sum(stream.held for stream in found)
