"""Elementwise graphs of one stored tensor as tables: what each of its 256 values becomes.

Everything between Dequantize and Quantize is computed for the 256 values once, in float32 as written in
`dfg.elementwise`, so that the table is what the float operators give. Quantize -> Dequantize inside is a
rounding like any other: a table of a table is a table.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.absorb.run import ACTIVATIONS
from furiosa.compiler.dfg.elementwise import KERNELS, every_value, quantized
from furiosa.compiler.dfg.fold_kernels import along, dequantize
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.value import Array, constant

MAX_CHANNELS: Final = 4096  # 1 MiB of table
MAX_ENTRIES: Final = 1 << 26  # computed for one graph, so that no model holds the compiler up


@dataclass(frozen=True, slots=True)
class _Traced:
    """A tensor that depends on nothing but the stored tensor `root`, whose shape it has.

    `data` holds what it is for each value of `root`, in its last dimension, in front of which it
    broadcasts to the shape: all dimensions but at most one are 1. `sources` are the nodes on the way;
    `clamped` says that there are none but clamps.
    """

    root: str
    data: Array
    sources: tuple[str, ...]
    clamped: bool


@dataclass(slots=True)
class Tables:
    """Follows the nodes of a graph in order of execution; `add` gives the table that ends in a node."""

    graph: Dfg
    producers: Mapping[str, Node]
    _traced: dict[str, _Traced] = field(default_factory=dict)
    _unread: dict[str, int] = field(default_factory=dict)
    _entries: int = 0

    def __post_init__(self) -> None:
        self._unread = {name: len(nodes) for name, nodes in self.graph.readers().items()}

    def add(self, node: Node) -> Node | None:
        """A QTable, or an Identity for one that changes nothing, in the place of a Quantize."""
        made = None
        if node.op == "Dequantize":
            self._dequantize(node)
        elif node.op == "Quantize" and (found := self._traced.get(node.inputs[0])) is not None:
            made = self._quantize(node, found)
        elif node.op in KERNELS and len(node.outputs) == 1:
            self._compute(node)
        for name in node.reads:  # what is read no more is kept no longer
            self._unread[name] -= 1
            if not self._unread[name]:
                self._traced.pop(name, None)
        return made

    def _dequantize(self, node: Node) -> None:
        stored = self.graph.values[node.inputs[0]]
        if stored.whole is None or stored.dtype not in EIGHT_BIT or stored.data is not None:
            return
        assert stored.quantization is not None
        found = self._traced.get(stored.name)
        if found is None:
            every = every_value(stored.dtype).reshape(*(1,) * len(stored.shape), 256)
            found = _Traced(stored.name, every, (), True)
        real = dequantize(found.data, stored.quantization)
        self._traced[node.outputs[0]] = replace(found, data=real)

    def _compute(self, node: Node) -> None:
        traced = [found for name in node.reads if (found := self._traced.get(name)) is not None]
        result = self.graph.values[node.outputs[0]]
        if len({found.root for found in traced}) != 1 or result.dtype is not DType.FLOAT32:
            return
        root = traced[0].root
        if result.shape != self.graph.values[root].shape:
            return
        inputs = [self._operand(node, index) for index in range(len(node.inputs))]
        if any(held is None for held, name in zip(inputs, node.inputs, strict=True) if name):
            return
        try:
            shape = np.broadcast_shapes(*(held.shape for held in inputs if held is not None))
        except ValueError:  # the shapes of not all operands are checked when a model is read
            return
        if not _is_table(shape, result.shape):
            return
        self._entries += math.prod(shape)
        if self._entries > MAX_ENTRIES:
            return
        with np.errstate(all="ignore"):
            data = np.asarray(KERNELS[node.op](inputs, node.attributes))
        ways = [source for found in traced for source in found.sources]
        sources = tuple(dict.fromkeys((*ways, *node.sources)))
        clamped = traced[0].clamped and node.op in ACTIVATIONS
        self._traced[result.name] = _Traced(root, data, sources, clamped)

    def _operand(self, node: Node, index: int) -> Array | None:
        """An input with a last dimension for the values of the root; None when it is not known."""
        name = node.inputs[index]
        if not name:
            return None
        if name in self._traced:
            return self._traced[name].data
        held = self._constant(name)
        if held is None:
            return None
        if node.op == "BatchNormalization":  # one number for each channel
            rank = len(self.graph.values[node.inputs[0]].shape)
            held = along(1 if rank > 1 else 0, held.ravel().tolist(), rank)
        if held.dtype != np.float32:
            if held.dtype.kind not in "iuf":
                return None
            held = held.astype(np.float32)
        return _collapsed(held)[..., None]

    def _constant(self, name: str) -> Array | None:
        source = self.producers.get(name)
        if source is None or source.op != "Dequantize":
            return self.graph.data(name)
        stored = self.graph.values[source.inputs[0]]
        if stored.data is None or stored.quantization is None:
            return None
        return dequantize(stored.data, stored.quantization)

    def _quantize(self, node: Node, found: _Traced) -> Node | None:
        source, result = self.graph.values[found.root], self.graph.values[node.outputs[0]]
        if result.whole is None or result.dtype not in EIGHT_BIT:
            return None
        stored, sources = quantized(found.data, result), found.sources or node.sources
        if stored.size == 256:  # tables with a row for each channel are not looked through
            self._traced[result.name] = _Traced(found.root, stored, sources, False)
        alike = (source.dtype, source.quantization) == (result.dtype, result.quantization)
        if alike and np.array_equal(stored.ravel(), every_value(result.dtype)):
            return Node(node.name, "Identity", (source.name,), node.outputs, {}, sources)
        if found.clamped and stored.size == 256:
            clamp = {"low": int(stored.min()), "high": int(stored.max())}
            return Node(node.name, "Requantize", (source.name,), node.outputs, clamp, sources)
        wide = [axis for axis, size in enumerate(stored.shape[:-1]) if size > 1]
        table = stored.reshape(-1, 256) if wide else stored.ravel()
        name = self.graph.add(constant(self.graph.fresh(f"{result.name}/table"), table))
        attributes = {"axis": wide[0]} if wide else {}
        return Node(node.name, "QTable", (source.name, name), node.outputs, attributes, sources)


def _is_table(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether no axis of `shape` but one has rows of its own, and that one no more than a table may have."""
    *sizes, _ = found
    if len(sizes) != len(shape):
        return False
    wide = [(size, whole) for size, whole in zip(sizes, shape, strict=True) if size > 1]
    return not wide or (len(wide) == 1 and wide[0][0] == wide[0][1] <= MAX_CHANNELS)


def _collapsed(data: Array) -> Array:
    """With one element along each axis along which all elements are alike, to the bit."""
    bits = data.view(np.uint32)
    for axis in range(data.ndim):
        first = bits.take([0], axis)
        if bits.shape[axis] > 1 and (bits == first).all():
            bits = first
    return bits.view(np.float32)
