"""What passes need that change what the caller gives or gets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.value import Attribute, Value, constant

IMAGE = "NCHW"


@dataclass(slots=True)
class Boundary:
    """A copy of a graph with new nodes at its inputs and outputs."""

    graph: Dfg
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)

    def finish(self) -> Dfg:
        self.graph.nodes = [*self.before, *self.graph.nodes, *self.after]
        return self.graph

    def axes(self, port: str) -> str:
        """A letter for each dimension; empty when nothing is known."""
        rank = len(self.graph.values[port].shape)
        return self.graph.model.form(port).axes or (IMAGE if rank == len(IMAGE) else "")

    def value(self, like: Value, name: str, shape: tuple[int, ...]) -> str:
        return self.graph.add(replace(like, name=self.graph.fresh(name), shape=shape))

    def node(
        self, port: str, op: str, inputs: tuple[str, ...], output: str, **attributes: Attribute
    ) -> Node:
        """One that no operator of the model stands behind: its source is the port."""
        taken = {node.name for node in (*self.before, *self.graph.nodes, *self.after)}
        name, number = f"{output}/{op.lower()}", 0
        while name in taken:
            number += 1
            name = f"{output}/{op.lower()}.{number}"
        return Node(name, op, inputs, (output,), attributes, (port,))

    def numbers(self, name: str, numbers: Sequence[int]) -> str:
        data = np.array(numbers, np.int64)
        return self.graph.add(constant(self.graph.fresh(name), data))

    def rename(self, old: str, new: str, read: Sequence[Node] | None = None) -> None:
        """Let nodes, or those of `read`, read `new` where they read `old`."""
        chosen = None if read is None else {node.name for node in read}
        self.graph.nodes = [
            replace(node, inputs=tuple(new if name == old else name for name in node.inputs))
            if chosen is None or node.name in chosen
            else node
            for node in self.graph.nodes
        ]


def is_stored_image(value: Value) -> bool:
    """Whether it is of rank 4, on its way, and quantised as a whole to 8 bits."""
    return (
        len(value.shape) == 4
        and value.data is None
        and value.dtype in EIGHT_BIT
        and value.whole is not None
    )


def quantized_input(graph: Dfg, port: str) -> Value | None:
    """What the graph makes of a float32 input when all it does is to quantise it, in one way."""
    readers = graph.readers()[port]
    if graph.values[port].dtype is not DType.FLOAT32 or not readers:
        return None
    if any(node.op != "Quantize" or node.outputs[0] in graph.outputs for node in readers):
        return None
    results = [graph.values[node.outputs[0]] for node in readers]
    same = {(value.dtype, value.quantization) for value in results}
    return results[0] if len(same) == 1 else None
