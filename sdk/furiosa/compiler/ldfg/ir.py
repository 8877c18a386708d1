"""ldfg: the graph as sections, each for the NPU or the host, NPU nodes being operations of the NPU.

NPU nodes carry their constants as arrays; constants of host nodes are values with data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from furiosa.compiler.value import Array, Attributes, ModelInfo, Value
from furiosa.enf.isa import Opcode, Window

PIXEL: Final = Window()  # one element, moved by one
CONSTANTS: Final = ("weights", "bias", "multiplier", "parameters")  # fields of an NPU node


@dataclass(frozen=True, slots=True, eq=False)
class NpuNode:
    """One instruction-to-be; fields mean what they mean in `furiosa.enf.isa.Instruction`."""

    name: str
    opcode: Opcode
    inputs: tuple[str, ...]
    output: str
    sources: tuple[str, ...]
    weights: Array | None = None
    bias: Array | None = None
    multiplier: Array | None = None
    parameters: Array | None = None
    zero0: int = 0
    zero1: int = 0
    zero_out: int = 0
    low: int = 0
    high: int = 0
    axis: int = 0
    window: Window = PIXEL

    @property
    def reads(self) -> tuple[str, ...]:
        return self.inputs

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.output,)

    def renamed(self, names: dict[str, str]) -> "NpuNode":
        """Reads `names[x]` where it read x."""
        return replace(self, inputs=tuple(names.get(name, name) for name in self.inputs))


@dataclass(frozen=True, slots=True, eq=False)
class HostNode:
    """An ONNX operator; an empty name among inputs or outputs is an optional one left out."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    sources: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(filter(None, self.inputs))

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(filter(None, self.outputs))

    def renamed(self, names: dict[str, str]) -> "HostNode":
        """Reads `names[x]` where it read x."""
        return replace(self, inputs=tuple(names.get(name, name) for name in self.inputs))


@dataclass(frozen=True, slots=True)
class NpuSection:
    nodes: tuple[NpuNode, ...]


@dataclass(frozen=True, slots=True)
class HostSection:
    nodes: tuple[HostNode, ...]


Section = NpuSection | HostSection


@dataclass(frozen=True, slots=True)
class Ldfg:
    """`sections` and the nodes in them are in an order of execution."""

    model: ModelInfo
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sections: tuple[Section, ...]
    values: dict[str, Value]

    @property
    def nodes(self) -> Iterator[NpuNode | HostNode]:
        for section in self.sections:
            yield from section.nodes
