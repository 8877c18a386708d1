"""Pooling over windows of images [N, C, H, W] and lines [N, C, L], which are images of one row."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import EIGHT_BIT, Operator
from furiosa.compiler.dfg.operators.planes import planar
from furiosa.compiler.value import Array
from furiosa.enf.isa import Opcode

_MAX_SUM: Final = 2**24  # sums of an average are exact in float32
_MAX_KERNEL: Final = 65535


@dataclass(frozen=True, slots=True)
class Pool:
    """Height and width of a pooling. `ends` are pads as declared, `pads` (top, left, bottom, right) those
    under which every window of the result lies within input and padding: larger where sizes were
    rounded up.
    """

    source: tuple[int, ...]
    result: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    ends: tuple[int, ...]
    pads: tuple[int, int, int, int]

    def counts(self, *, padding: bool) -> Array:
        """int64 [H', W']: elements that each window averages over, with the declared padding or without."""
        rows, columns = (self._counted(axis, padding) for axis in range(2))
        return np.outer(rows, columns)

    def _counted(self, axis: int, padding: bool) -> Array:
        begin, size = self.pads[axis], self.source[axis]
        taps = np.arange(self.kernel[axis]) * self.dilations[axis]
        seen = np.arange(self.result[axis])[:, None] * self.strides[axis] + taps - begin
        first, last = (-begin, size + self.ends[axis]) if padding else (0, size)
        counted: Array = ((seen >= first) & (seen < last)).sum(1)
        return counted


def pool_of(node: Node, graph: Dfg) -> Pool:
    source, result = (
        planar(graph.values[name].shape[2:], 1) for name in (node.inputs[0], node.outputs[0])
    )
    axes = len(graph.values[node.inputs[0]].shape) - 2

    def given(key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        held = node.attributes.get(key, default)
        assert isinstance(held, tuple)
        return tuple(int(number) for number in held)

    ones, pads = (1,) * axes, given("pads", (0,) * (2 * axes))
    kernel = planar(given("kernel_shape", graph.values[node.inputs[0]].shape[2:]), 1)
    strides, dilations = (planar(given(key, ones), 1) for key in ("strides", "dilations"))
    begins, ends = planar(pads[:axes], 0), planar(pads[axes:], 0)
    bottom, right = (
        max(end, (out - 1) * stride + dilation * (k - 1) + 1 - size - begin)
        for size, out, k, stride, dilation, begin, end in zip(
            source, result, kernel, strides, dilations, begins, ends, strict=True
        )
    )
    return Pool(source, result, kernel, strides, dilations, ends, (*begins, bottom, right))


def averaged(node: Node, graph: Dfg) -> Array:
    """int64 [H', W']: what each sum of a QAveragePool is divided by."""
    return pool_of(node, graph).counts(padding=bool(node.attributes.get("count_include_pad", 0)))


def _window(node: Node, graph: Dfg) -> str | None:
    rank = len(graph.values[node.inputs[0]].shape)
    if rank not in (3, 4):
        return f"its input has {rank} dimensions, not 3 or 4"
    pool = pool_of(node, graph)
    if max(pool.kernel) > _MAX_KERNEL:
        return f"its kernel is {list(pool.kernel)}, at most {_MAX_KERNEL}"
    if any(pad >= size for pad, size in zip(pool.pads, pool.kernel * 2, strict=True)):
        return f"its padding {list(pool.pads)} is not less than its kernel {list(pool.kernel)}"
    return None


def _average_pool(node: Node, graph: Dfg) -> str | None:
    if reason := _window(node, graph):
        return reason
    taps = math.prod(pool_of(node, graph).kernel)
    if taps * 255 >= _MAX_SUM:
        return f"its sums reach {taps * 255}"
    return None if averaged(node, graph).all() else "a window of its average is all padding"


def _max_pool(node: Node, graph: Dfg) -> str | None:
    source = graph.values[node.inputs[0]]
    if len(node.outputs) > 1:
        return "its indices are wanted"
    if source.dtype not in EIGHT_BIT:
        return f"its input is {source.dtype.value}"
    return _window(node, graph)


OPERATORS: Final[Mapping[str, Operator]] = {
    "GlobalMaxPool": Operator(
        ("GlobalMaxPool",), "1-D and 2-D; 8 bits", _max_pool, instructions=(Opcode.MAX_POOL2D,)
    ),
    "MaxPool": Operator(
        ("MaxPool",),
        "1-D and 2-D; 8 bits; without indices",
        _max_pool,
        instructions=(Opcode.MAX_POOL2D,),
    ),
    "QAveragePool": Operator(
        ("AveragePool", "GlobalAveragePool"),
        "1-D and 2-D",
        _average_pool,
        stores=True,
        instructions=(Opcode.AVERAGE_POOL2D, Opcode.DEPTHWISE_CONV2D),
    ),
}
