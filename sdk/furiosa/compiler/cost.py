"""What an NPU operation costs: cycles of one PE for a part of it, and cycles of moving bytes.

A PE multiplies and moves at once, so an operation takes the longer of the two. Where no figure is
published the module assumes one and says so. Model and tables: docs/compiler/cost.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from furiosa.compiler.ldfg.ir import CONSTANTS, NpuNode
from furiosa.enf.isa import Opcode

CLOCK_HZ: Final = 2_000_000_000
MACS: Final = 8192  # a cycle a PE: 32 TOPS. Source: devices reference, section 1
DRAM_BYTES: Final = 33  # a cycle, for all PEs: 66 GB/s. Source: devices reference, section 1
SRAM_BYTES: Final = 128  # a cycle a PE, read and written. An assumption
LINK_BYTES: Final = 128  # a cycle between PEs. An assumption


class Piece(NamedTuple):
    """The part of a tensor that one PE works on."""

    shape: tuple[int, ...]
    itemsize: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize


class Work(NamedTuple):
    """Products of the multiplier array, and bytes that SRAM and the elementwise unit pass."""

    macs: int
    nbytes: int


def cycles(node: NpuNode, sources: Sequence[Piece], result: Piece) -> int:
    """Of one PE that makes the piece `result` of the node's result out of `sources`."""
    if not result.elements:
        return 0
    work = WORK[node.opcode](node, sources, result)
    return max(-(-work.macs // MACS), -(-work.nbytes // SRAM_BYTES))


def dram_cycles(nbytes: int) -> int:
    return -(-nbytes // DRAM_BYTES)


def link_cycles(nbytes: int) -> int:
    return -(-nbytes // LINK_BYTES)


def constant_bytes(node: NpuNode) -> int:
    """Of all constants of a node."""
    return sum(data.nbytes for field in CONSTANTS if (data := getattr(node, field)) is not None)


def _operands(sources: Sequence[Piece], result: Piece) -> int:
    return sum([piece.nbytes for piece in sources]) + result.nbytes


def _convolution(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """A product for each weight of its channel and each result; only these channels' weights."""
    assert node.weights is not None, f"{node.name} has no weights"  # a rule of ldfg
    channels = node.weights.shape[0]
    taps = node.weights.size // channels
    held = constant_bytes(node) * result.shape[1] // channels
    return Work(result.elements * taps, _operands(sources, result) + held)


def _matmul(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    return Work(result.elements * sources[0].shape[-1], _operands(sources, result))


def _pool(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """Every result reads its window."""
    window = math.prod(node.window.kernel) * result.elements * sources[0].itemsize
    return Work(0, window + result.nbytes)


def _elementwise(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    return Work(0, _operands(sources, result))


def _movement(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """What arrives was read once, however much there was to choose from."""
    return Work(0, 2 * result.nbytes)


def _load(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """No PE takes part: the constant comes from DRAM."""
    return Work(0, 0)


def _resize(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """Four neighbours for every result."""
    return Work(0, 4 * result.elements * sources[0].itemsize + result.nbytes)


def _normalization(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """The source is read for the sum, then for the result."""
    return Work(0, _operands(sources, result) + sources[0].nbytes)


def _softmax(node: NpuNode, sources: Sequence[Piece], result: Piece) -> Work:
    """The source is read for the maximum, for the sum, then for the result."""
    return Work(0, _operands(sources, result) + 2 * sources[0].nbytes)


WORK: Final[Mapping[Opcode, Callable[[NpuNode, Sequence[Piece], Piece], Work]]] = {
    Opcode.CONV2D: _convolution,
    Opcode.DEPTHWISE_CONV2D: _convolution,
    Opcode.ADD: _elementwise,
    Opcode.MAX_POOL2D: _pool,
    Opcode.RESHAPE: _movement,
    Opcode.QUANTIZE: _elementwise,
    Opcode.DEQUANTIZE: _elementwise,
    Opcode.LOAD: _load,
    Opcode.MULTIPLY: _elementwise,
    Opcode.TABLE: _elementwise,
    Opcode.CONCAT: _movement,
    Opcode.TRANSPOSE: _movement,
    Opcode.SLICE: _movement,
    Opcode.PAD: _movement,
    Opcode.EXPAND: _movement,
    Opcode.GATHER: _movement,
    Opcode.RESIZE_LINEAR: _resize,
    Opcode.AVERAGE_POOL2D: _pool,
    Opcode.REDUCE_SUM: _elementwise,
    Opcode.REDUCE_L2: _elementwise,
    Opcode.L2_NORMALIZE: _normalization,
    Opcode.SOFTMAX: _softmax,
    Opcode.MATMUL: _matmul,
}
