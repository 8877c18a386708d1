"""The arithmetic of each instruction, to the bit. docs/isa.md says the same in words.

Every kernel takes the instruction, the type and shape of its result and its operands in the order source0,
source1, weights, bias, multiplier, parameters (those it has), and returns an array of that type and shape,
which may share memory with an operand. Operands are as the rules of `furiosa.enf.verify` allow; nothing
is checked again.
"""

from collections.abc import Callable
from typing import Final

from furiosa.enf import Opcode
from furiosa.vnpu.kernels import elementwise, movement, reduction, windows
from furiosa.vnpu.kernels.store import Array, Result

__all__ = ["KERNELS", "Array", "Result"]

KERNELS: Final[dict[Opcode, Callable[..., Array]]] = {
    Opcode.CONV2D: windows.convolution,
    Opcode.DEPTHWISE_CONV2D: windows.convolution,
    Opcode.ADD: elementwise.add,
    Opcode.MAX_POOL2D: windows.max_pool,
    Opcode.RESHAPE: movement.reshape,
    Opcode.QUANTIZE: elementwise.quantize,
    Opcode.DEQUANTIZE: elementwise.dequantize,
    Opcode.LOAD: movement.load,
    Opcode.MULTIPLY: elementwise.multiply,
    Opcode.TABLE: elementwise.table,
    Opcode.CONCAT: movement.concat,
    Opcode.TRANSPOSE: movement.transpose,
    Opcode.SLICE: movement.slice_,
    Opcode.PAD: movement.pad,
    Opcode.EXPAND: movement.expand,
    Opcode.GATHER: movement.gather,
    Opcode.RESIZE_LINEAR: reduction.resize_linear,
    Opcode.AVERAGE_POOL2D: windows.average_pool,
    Opcode.REDUCE_SUM: reduction.reduce_sum,
    Opcode.REDUCE_L2: reduction.reduce_l2,
    Opcode.L2_NORMALIZE: reduction.l2_normalize,
    Opcode.SOFTMAX: reduction.softmax,
    Opcode.MATMUL: reduction.matmul,
}
