"""Remove what no output depends on."""

from typing import ClassVar

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class RemoveDead(Pass[Dfg]):
    """Remove nodes and values that no graph output depends on. Graph inputs stay: they are interface."""

    name: ClassVar[str] = "remove-dead"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        needed = {*graph.outputs, *graph.inputs}
        nodes = []
        for node in reversed(graph.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.reads)
                nodes.append(node)
        named = needed.union(*(filter(None, node.outputs) for node in nodes))
        if len(nodes) == len(graph.nodes) and len(named) == len(graph.values):
            return PassResult(graph, False)
        graph = graph.copy()
        graph.nodes = nodes[::-1]
        graph.values = {name: value for name, value in graph.values.items() if name in named}
        return PassResult(graph, True)
