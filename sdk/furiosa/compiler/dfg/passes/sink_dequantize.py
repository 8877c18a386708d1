"""Move Dequantize behind operators that only move or choose elements."""

from dataclasses import replace
from typing import ClassVar, Final

from furiosa.compiler.dfg.coverage import uncovered
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions

_MOVERS: Final = (
    "MaxPool",
    "Reshape",
)  # dequantising is monotonic, so a maximum may be taken before


class SinkDequantize(Pass[Dfg]):
    """Dequantize -> MaxPool | Reshape becomes MaxPool | Reshape -> Dequantize, when the NPU can do it.

    The result is the same to the bit. The first Dequantize stays for its other readers.
    """

    name: ClassVar[str] = "sink-dequantize"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers = graph.producers()
        nodes: list[Node] = []
        for node in graph.nodes:
            source = producers.get(node.inputs[0]) if node.op in _MOVERS else None
            pair = self._swap(graph, source, node) if source and source.op == "Dequantize" else ()
            for new in pair or (node,):
                nodes.append(new)
                producers.update(dict.fromkeys(new.outputs, new))
        if len(nodes) == len(graph.nodes):
            return PassResult(before, False)
        graph.nodes = nodes
        return PassResult(graph, True)

    def _swap(self, graph: Dfg, source: Node, mover: Node) -> tuple[Node, ...]:
        stored = graph.values[source.inputs[0]]
        if stored.whole is None or stored.data is not None:
            return ()
        result = graph.values[mover.outputs[0]]
        moved = replace(
            result,
            name=graph.fresh(f"{result.name}/stored"),
            dtype=stored.dtype,
            quantization=stored.quantization,
        )
        graph.add(moved)
        early = replace(mover, inputs=(stored.name,), outputs=(moved.name, *mover.outputs[1:]))
        if uncovered(early, graph):
            del graph.values[moved.name]
            return ()
        late = replace(
            source,
            name=f"{source.name}/{mover.name}",
            inputs=(moved.name,),
            outputs=(result.name,),
        )
        return early, late
