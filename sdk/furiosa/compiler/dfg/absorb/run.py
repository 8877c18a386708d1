"""Runs of nodes that end in a Quantize: what is turned into one operator."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.common.tensor import Quantization
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.value import Attribute, Attributes, Value

ACTIVATIONS: Final = ("Relu", "Clip")


@dataclass(frozen=True, slots=True)
class Run:
    """Nodes each of which alone reads the one before; the last quantises, to `result`."""

    nodes: tuple[Node, ...]
    clamp: dict[str, Attribute]
    result: Value
    into: Quantization

    @property
    def first(self) -> Node:
        return self.nodes[0]

    def node(self, op: str, inputs: tuple[str, ...], attributes: Attributes) -> Node:
        """The operator that takes the run's place."""
        work = [item for item in self.nodes if item.op != "Quantize"] or self.nodes
        return Node(
            self.first.name,
            op,
            inputs,
            (self.result.name,),
            attributes,
            tuple(dict.fromkeys(source for item in work for source in item.sources)),
        )


def run_from(node: Node, graph: Dfg, readers: Mapping[str, list[Node]]) -> Run | None:
    run = [node]
    low, high = -math.inf, math.inf
    while True:
        last = run[-1]
        if last.op in ACTIVATIONS:
            if (bounds := _bounds(last, graph)) is None:
                return None
            low, high = (min(max(bound, bounds[0]), bounds[1]) for bound in (low, high))
        if last.op == "Quantize":
            break
        (output, *others), reading = last.outputs, readers[last.outputs[0]]
        if others or output in graph.outputs or len(reading) != 1:
            return None
        if reading[0].op not in ("Quantize", *ACTIVATIONS) or reading[0].inputs[0] != output:
            return None
        run.append(reading[0])
    result = graph.values[last.outputs[0]]
    if (into := result.whole) is None or result.dtype not in EIGHT_BIT:
        return None
    return Run(tuple(run), _clamp(low, high, result, into), result, into)


def _bounds(node: Node, graph: Dfg) -> tuple[float, float] | None:
    """What Relu or Clip lets through; None when that is not constant."""
    if node.op == "Relu":
        return 0.0, math.inf
    found = []
    for name, default in zip((*node.inputs[1:], "", "")[:2], (-math.inf, math.inf), strict=True):
        data = graph.data(name)
        if name and data is None:
            return None
        found.append(default if data is None else float(data.ravel()[0]))
    low, high = found
    return (low, high) if low <= high else None


def _clamp(low: float, high: float, result: Value, into: Quantization) -> dict[str, Attribute]:
    limits = np.iinfo(result.dtype.value)
    stored = []
    for bound in (low, high):
        scaled = np.rint(np.float32(bound) / np.float32(into.scale)) + np.float32(into.zero_point)
        stored.append(int(min(max(float(scaled), limits.min), limits.max)))
    return {"low": stored[0], "high": stored[1]}


def stored(graph: Dfg, producers: Mapping[str, Node], name: str) -> Value | None:
    """The 8-bit activation that `name` dequantises."""
    source = producers.get(name)
    if source is None or source.op != "Dequantize":
        return None
    value = graph.values[source.inputs[0]]
    return value if value.whole is not None and value.dtype in EIGHT_BIT else None


Builder = Callable[[Run, Dfg, Mapping[str, Node]], Node | None]  # None: not in a form that it takes
