"""The instruction set of the virtual Warboy: opcodes and the fixed-width instruction.

What each instruction computes, to the bit, is defined by `furiosa.vnpu.kernels` and written down in
docs/isa.md. Images are NCHW; activations are int8 or uint8, per tensor; weights int8; sums int32.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

NONE: Final = 0xFFFF_FFFF  # "no operand" in a constant or buffer field


class Opcode(IntEnum):
    """Numbers are part of the file format: add, never renumber."""

    CONV2D = 1
    DEPTHWISE_CONV2D = 2
    ADD = 3
    MAX_POOL2D = 4
    RESHAPE = 5
    QUANTIZE = 6
    DEQUANTIZE = 7
    LOAD = 8
    MULTIPLY = 9
    TABLE = 10
    CONCAT = 11
    TRANSPOSE = 12
    SLICE = 13
    PAD = 14
    EXPAND = 15
    GATHER = 16
    RESIZE_LINEAR = 17
    AVERAGE_POOL2D = 18
    REDUCE_SUM = 19
    REDUCE_L2 = 20
    L2_NORMALIZE = 21
    SOFTMAX = 22
    MATMUL = 23


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pooling; pads are top, left, bottom, right."""

    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation on whole tensors. Buffers and constants are indices into the program's tables.

    `weights` is what a convolution multiplies with, or the constant that LOAD, TABLE and SOFTMAX read;
    `multiplier` is a float32 constant that rescales (per output channel for convolutions); `parameters`
    is an int32 constant, and `axis` an axis, that say where elements go. `zero0`, `zero1`, `zero_out`
    are the zero points of the sources (of a convolution's weights: `zero1`) and the result;
    `low`..`high` clamp the stored result (a fused activation). `pes` is the set of PEs that share the
    work, as a bit mask; it never changes a result.
    """

    opcode: Opcode
    out: int
    source0: int = NONE
    source1: int = NONE
    weights: int = NONE
    bias: int = NONE
    multiplier: int = NONE
    parameters: int = NONE
    zero0: int = 0
    zero1: int = 0
    zero_out: int = 0
    low: int = 0
    high: int = 0
    axis: int = 0
    window: Window = Window()
    pes: int = 1
