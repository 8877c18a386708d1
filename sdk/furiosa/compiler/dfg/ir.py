"""dfg: the model as a graph of operators on typed, shaped and possibly quantised tensors.

Operators are those of ONNX, under their ONNX names and attributes, but for:

    Reshape                        one input; the result's shape says the rest
    Quantize, Dequantize           one input; parameters are the quantisation of the 8-bit (or int32) value
    QConv, QGemm                   8-bit (x, weights[, int32 bias]) to 8-bit
    QTable                         8-bit (x, table) to 8-bit
    other Q operators, Requantize  8-bit to 8-bit

Requantize and the Q operators but QTable clamp what they store to `low`..`high`. See docs/compiler/dfg.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from furiosa.compiler.value import Array, Attributes, ModelInfo, Value


class Place(Enum):
    ANY = "any"  # not decided yet
    NPU = "npu"
    HOST = "host"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operator. An empty name among `inputs` is an optional input left out.

    `sources` are the names of the model's nodes it stands for.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    sources: tuple[str, ...]
    place: Place = Place.ANY

    @property
    def reads(self) -> Iterator[str]:
        return (name for name in self.inputs if name)


@dataclass(slots=True)
class Dfg:
    """`nodes` are in an order of execution; `values` has every name that occurs."""

    model: ModelInfo
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)

    def copy(self) -> "Dfg":
        """Nodes and values are shared: they never change."""
        return Dfg(self.model, self.inputs, self.outputs, list(self.nodes), dict(self.values))

    def producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs}

    def readers(self) -> dict[str, list[Node]]:
        """Readers of each value, in order; a node that reads twice counts twice."""
        table: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in node.reads:
                table[name].append(node)
        return table

    def data(self, name: str) -> Array | None:
        """The value of a constant, or None."""
        return self.values[name].data if name else None

    def fresh(self, name: str) -> str:
        """`name`, or the first of name.1, name.2, ... that no value has."""
        if name not in self.values:
            return name
        number = 1
        while f"{name}.{number}" in self.values:
            number += 1
        return f"{name}.{number}"

    def add(self, value: Value) -> str:
        self.values[value.name] = value
        return value.name
