"""What the NPU can do, operator by operator: the conditions, as one table.

A condition answers with why the NPU cannot run a node, or None when it can. Nodes without an entry run
on the host. Source: docs/isa.md for what instructions take; compiler reference 9 for Warboy's limits.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.value import Value

MAX_GROUP: Final = 128
MAX_DILATION: Final = 12
EIGHT_BIT: Final = (DType.INT8, DType.UINT8)

_INT32: Final = 2**31


def ints(node: Node, key: str) -> tuple[int, ...]:
    found = node.attributes.get(key, (1, 1))  # only dilations may be left out
    assert isinstance(found, tuple)
    return tuple(int(number) for number in found)


def is_depthwise(node: Node, graph: Dfg) -> bool:
    """One input channel a group."""
    channels = graph.values[node.inputs[0]].shape[1]
    return channels > 1 and node.attributes.get("group", 1) == channels


def _overflow(taps: int, bias: float) -> str | None:
    """A sum of products with 8-bit operands may not leave int32. Source: docs/isa.md."""
    worst = taps * 255 * 128 + bias
    return f"its sums reach {worst:.0f}" if worst >= _INT32 else None


def _largest(graph: Dfg, node: Node) -> float:
    data = graph.data(node.inputs[2]) if len(node.inputs) > 2 else None
    return 0.0 if data is None else float(np.abs(data.astype(np.int64)).max())


def _conv(node: Node, graph: Dfg) -> str | None:
    source, weights = (graph.values[name] for name in node.inputs[:2])
    if len(source.shape) != 4:
        return f"its input has {len(source.shape)} dimensions, not 4"
    group = node.attributes.get("group", 1)
    if isinstance(group, int) and group > MAX_GROUP and not is_depthwise(node, graph):
        return f"it has {group} groups, at most {MAX_GROUP}"
    if max(ints(node, "dilations")) > MAX_DILATION:
        return f"it has dilation {max(ints(node, 'dilations'))}, at most {MAX_DILATION}"
    return _overflow(math.prod(weights.shape[1:]), _largest(graph, node))


def _gemm(node: Node, graph: Dfg) -> str | None:
    return _overflow(graph.values[node.inputs[0]].shape[-1], _largest(graph, node))


def _add(node: Node, graph: Dfg) -> str | None:
    shapes = [graph.values[name].shape for name in (*node.inputs, *node.outputs)]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        return f"it broadcasts {list(shapes[0])} and {list(shapes[1])}"
    return None


def _average_pool(node: Node, graph: Dfg) -> str | None:
    source, result = (graph.values[name].shape for name in (node.inputs[0], node.outputs[0]))
    if len(source) != 4:
        return f"its input has {len(source)} dimensions, not 4"
    if any(ints(node, "pads")) and not node.attributes.get("count_include_pad"):
        return "padding enters its average"
    if result != pooled_shape(node, source):
        return "a window of its average is cut off"
    return _overflow(math.prod(ints(node, "kernel_shape")), 0)


def pooled_shape(node: Node, source: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a pooling's result when every window lies within input and padding."""
    pads = ints(node, "pads")
    columns = zip(
        source[2:],
        ints(node, "kernel_shape"),
        ints(node, "strides"),
        ints(node, "dilations"),
        pads[:2],
        pads[2:],
        strict=True,
    )
    return (
        *source[:2],
        *((size + a + b - d * (k - 1) - 1) // s + 1 for size, k, s, d, a, b in columns),
    )


def _max_pool(node: Node, graph: Dfg) -> str | None:
    source = graph.values[node.inputs[0]]
    if len(node.outputs) > 1:
        return "its indices are wanted"
    if len(source.shape) != 4:
        return f"its input has {len(source.shape)} dimensions, not 4"
    if source.dtype not in EIGHT_BIT:
        return f"its input is {source.dtype.value}"
    pads = max_pool_pads(node, source.shape, graph.values[node.outputs[0]].shape)
    kernel = ints(node, "kernel_shape")
    if any(pad >= size for pad, size in zip(pads, kernel * 2, strict=True)):
        return f"its padding {list(pads)} is not less than its kernel {list(kernel)}"
    return None


def max_pool_pads(
    node: Node, source: tuple[int, ...], result: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Pads under which every window of the result lies within input and padding.

    They are larger at the end when sizes were rounded up; padding never wins a maximum.
    """
    top, left, *ends = ints(node, "pads")
    columns = zip(
        source[2:],
        result[2:],
        ints(node, "kernel_shape"),
        ints(node, "strides"),
        ints(node, "dilations"),
        (top, left),
        ends,
        strict=True,
    )
    bottom, right = (
        max(end, (out - 1) * stride + dilation * (k - 1) + 1 - size - begin)
        for size, out, k, stride, dilation, begin, end in columns
    )
    return top, left, bottom, right


def _quantize(node: Node, graph: Dfg) -> str | None:
    return _boundary(graph.values[node.inputs[0]], graph.values[node.outputs[0]])


def _dequantize(node: Node, graph: Dfg) -> str | None:
    return _boundary(graph.values[node.outputs[0]], graph.values[node.inputs[0]])


def _boundary(real: Value, stored: Value) -> str | None:
    if real.dtype is not DType.FLOAT32 or stored.dtype not in EIGHT_BIT:
        return f"it converts between {real.dtype.value} and {stored.dtype.value}"
    return None if stored.whole is not None else "it has more than one scale"


def _reshape(node: Node, graph: Dfg) -> str | None:
    dtype = graph.values[node.inputs[0]].dtype
    return None if dtype in (*EIGHT_BIT, DType.FLOAT32) else f"its input is {dtype.value}"


def _always(node: Node, graph: Dfg) -> str | None:
    return None


COVERAGE: Final[Mapping[str, Callable[[Node, Dfg], str | None]]] = {
    "Dequantize": _dequantize,
    "MaxPool": _max_pool,
    "QAdd": _add,
    "QAveragePool": _average_pool,
    "QConv": _conv,
    "QGemm": _gemm,
    "Quantize": _quantize,
    "Requantize": _always,
    "Reshape": _reshape,
}


def uncovered(node: Node, graph: Dfg) -> str | None:
    """Why the NPU cannot run this node, or None when it can."""
    condition = COVERAGE.get(node.op)
    if condition is None:
        return f"the NPU has no {node.op}"
    activations = node.inputs if node.op == "QAdd" else node.inputs[:1]
    if any(graph.data(name) is not None for name in activations):
        return "it reads a constant"
    return condition(node, graph)
