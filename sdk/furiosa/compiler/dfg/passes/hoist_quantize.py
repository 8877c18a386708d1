"""Move Quantize ahead of operators that only move or choose elements."""

from dataclasses import replace
from typing import ClassVar

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.movers import MOVERS, data_operands, on_stored
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class HoistQuantize(Pass[Dfg]):
    """Mover -> Quantize becomes Quantize -> mover, when the NPU can do it and nothing else reads the mover.

    Each operand of a Concat is quantised by itself, in the way of the result, and so is what a Pad puts
    around: exactly what quantising the whole does. What makes the operands can then become an operator on
    stored integers that writes the result's parameters.
    """

    name: ClassVar[str] = "hoist-quantize"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers, readers = graph.producers(), graph.readers()
        alone = {name for name, found in readers.items() if len(found) == 1}.difference(
            graph.outputs
        )
        places = {node.name: [node] for node in graph.nodes}  # what now stands at each node's place
        taken = set(places)
        waiting = [(node, node.name) for node in graph.nodes if node.op == "Quantize"]
        changed = False
        while waiting:
            quantize, place = waiting.pop()
            mover = producers.get(quantize.inputs[0])
            if mover is None or mover.op not in MOVERS or not alone.issuperset(mover.outputs):
                continue
            if hoisted := _hoisted(graph, taken, quantize, mover):
                changed = True
                places[place] = [node for node in places[place] if node is not quantize]
                places[mover.name] = list(hoisted)
                waiting += [(node, mover.name) for node in hoisted[:-1]]
        if not changed:
            return PassResult(before, False)
        graph.nodes = [new for node in before.nodes for new in places[node.name]]
        return PassResult(graph, True)


def _hoisted(graph: Dfg, taken: set[str], quantize: Node, mover: Node) -> tuple[Node, ...]:
    """A Quantize of each operand, then the mover; nothing if that cannot be."""
    result = graph.values[quantize.outputs[0]]
    if len(mover.outputs) > 1 or result.whole is None or result.dtype not in EIGHT_BIT:
        return ()
    operands = dict.fromkeys(data_operands(mover))
    if any(graph.values[name].dtype is not DType.FLOAT32 for name in operands):
        return ()
    stored = {
        name: replace(
            graph.values[name],
            name=graph.fresh(f"{name}/stored"),
            dtype=result.dtype,
            quantization=result.quantization,
            data=None,
        )
        for name in operands
    }
    values = tuple(stored[name] for name in data_operands(mover))
    late = on_stored(graph, mover, values, result, exactly=False)
    if late is None:
        return ()
    del graph.values[late.outputs[0]]
    late = replace(late, outputs=quantize.outputs)
    early = []
    title = quantize.name
    for name, value in stored.items():
        early.append(replace(quantize, name=title, inputs=(name,), outputs=(value.name,)))
        while title in taken:
            title += "'"
        taken.add(title)
    return *early, late
