"""Move Dequantize behind operators that only move or choose elements."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.movers import MOVERS, data_operands, integers, on_stored
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Value, constant


class SinkDequantize(Pass[Dfg]):
    """Dequantize -> mover becomes mover -> Dequantize, when the NPU can do it.

    A Concat is moved when all its operands mean the same by the same numbers, constants among them being
    such numbers exactly; so must be what a Pad puts around. The result is the same to the bit. The first
    Dequantize stays for its other readers.
    """

    name: ClassVar[str] = "sink-dequantize"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers = graph.producers()
        taken = {node.name for node in graph.nodes}
        nodes: list[Node] = []
        for node in graph.nodes:
            swapped = _swapped(graph, producers, taken, node) if node.op in MOVERS else ()
            for new in swapped or (node,):
                nodes.append(new)
                producers.update(dict.fromkeys(new.outputs, new))
        if len(nodes) == len(graph.nodes):
            return PassResult(before, False)
        graph.nodes = nodes
        return PassResult(graph, True)


def _swapped(
    graph: Dfg, producers: dict[str, Node], taken: set[str], mover: Node
) -> tuple[Node, ...]:
    """The mover on stored values and a Dequantize of each result; nothing if that cannot be."""
    sources = [producers.get(name) for name in data_operands(mover)]
    first = next((source for source in sources if _is_activation(graph, source)), None)
    if first is None:
        return ()
    like = graph.values[first.inputs[0]]
    operands = []
    for name, source in zip(data_operands(mover), sources, strict=True):
        if (operand := _stored(graph, name, source, like)) is None:
            return ()
        operands.append(operand)
    early = on_stored(graph, mover, tuple(operands), like, exactly=True)
    if early is None:
        return ()
    late = []
    for stored, output in zip(early.outputs, mover.outputs, strict=True):
        name = f"{mover.name}/dequantize"
        while name in taken:
            name += "'"
        taken.add(name)
        late.append(replace(first, name=name, inputs=(stored,), outputs=(output,)))
    return early, *late


def _is_activation(graph: Dfg, source: Node | None) -> bool:
    if source is None or source.op != "Dequantize":
        return False
    value = graph.values[source.inputs[0]]
    return value.data is None and value.whole is not None and value.dtype in EIGHT_BIT


def _stored(graph: Dfg, name: str, source: Node | None, like: Value) -> Value | None:
    """The value that `name` dequantises in the way of `like`, or the constant it is if stored like that."""
    if source is not None:
        if source.op != "Dequantize":
            return None
        held = graph.values[source.inputs[0]]
        same = (held.dtype, held.quantization) == (like.dtype, like.quantization)
        return held if same else None
    data = graph.data(name)
    if data is None or data.dtype != np.float32:
        return None
    numbers = integers(data, like, exactly=True)
    if numbers is None:
        return None
    return constant(graph.fresh(f"{name}/stored"), numbers, like.quantization)
