"""What the lowerings of operators share: where operations go, and their fields.

Multipliers are computed in float32, step by step as written, because results are defined to the bit.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from furiosa.common.tensor import Quantization
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.compiler.value import Value, constant
from furiosa.enf.isa import Opcode, Window


class Emit:
    """Collects the operations of one section; new values go into `graph`.

    An operand that is a constant is loaded first, once a section.
    """

    def __init__(self, graph: Dfg) -> None:
        self.graph = graph
        self.nodes: list[NpuNode] = []
        self._loaded: dict[str, str] = {}

    def value(self, name: str) -> Value:
        return self.graph.values[name]

    def add(
        self,
        node: Node,
        opcode: Opcode,
        inputs: tuple[str, ...],
        output: str,
        **fields: Any,
    ) -> None:
        name = node.name if output in node.outputs else f"{node.name}/{opcode.name.lower()}"
        inputs = tuple(self._activation(node, name) for name in inputs)
        self.nodes.append(NpuNode(name, opcode, inputs, output, node.sources, **fields))

    def _activation(self, node: Node, name: str) -> str:
        value = self.value(name)
        if value.data is None:
            return name
        if name not in self._loaded:
            held = replace(value, name=self.graph.fresh(f"{name}/loaded"), data=None)
            self._loaded[name] = self.graph.add(held)
            self.add(node, Opcode.LOAD, (), held.name, weights=value.data)
        return self._loaded[name]

    def reshaped(self, node: Node, name: str, shape: tuple[int, ...]) -> str:
        """The value `name` in another shape: itself when it has that shape already."""
        value = self.value(name)
        if value.shape == shape:
            return name
        other = self.graph.fresh(f"{name}/as")
        if value.data is not None:
            return self.graph.add(constant(other, value.data.reshape(shape), value.quantization))
        self.graph.add(replace(value, name=other, shape=shape))
        self.add(node, Opcode.RESHAPE, (name,), other)
        return other

    def in_shape(self, node: Node, shape: tuple[int, ...]) -> str:
        """A value to compute the node's result in; `deliver` turns it into the result."""
        result = self.value(node.outputs[0])
        if result.shape == shape:
            return result.name
        name = self.graph.fresh(f"{result.name}/from")
        return self.graph.add(replace(result, name=name, shape=shape))

    def deliver(self, node: Node, name: str) -> None:
        if name != node.outputs[0]:
            self.add(node, Opcode.RESHAPE, (name,), node.outputs[0])


def whole(value: Value) -> Quantization:
    found = value.whole
    assert found is not None, f"{value.name} is not quantised as a whole"  # a rule of dfg
    return found


def clamp(node: Node) -> dict[str, int]:
    low, high = node.attributes["low"], node.attributes["high"]
    assert isinstance(low, int)
    assert isinstance(high, int)
    return {"low": low, "high": high}


def full_range(value: Value) -> dict[str, int]:
    limits = np.iinfo(value.dtype.value)
    return {"low": int(limits.min), "high": int(limits.max)}


def points(source: Value, result: Value) -> dict[str, int]:
    return {"zero0": whole(source).zero_point, "zero_out": whole(result).zero_point}


def full_rank(emit: Emit, node: Node, name: str) -> str:
    """The operand with ones in front of its shape, as many as its rank is less than the result's."""
    shape, rank = emit.value(name).shape, len(emit.value(node.outputs[0]).shape)
    return emit.reshaped(node, name, (1,) * (rank - len(shape)) + shape)


def ones(emit: Emit, node: Node, source: str, result: str, window: Window, taps: int) -> None:
    """Sum each window of each channel and rescale: multiplier = input scale / (taps * output scale)."""
    before, after = emit.value(source), emit.value(result)
    channels = before.shape[1]
    scale = np.float32(whole(before).scale) / (np.float32(taps) * np.float32(whole(after).scale))
    emit.add(
        node,
        Opcode.DEPTHWISE_CONV2D,
        (source,),
        result,
        weights=np.ones((channels, 1, *window.kernel), np.int8),
        bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, scale, np.float32),
        window=replace(window, group=channels),
        **points(before, after),
        **clamp(node),
    )


Lowered = Callable[[Emit, Node], None]
