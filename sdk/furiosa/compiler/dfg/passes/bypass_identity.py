"""Let readers of an Identity read its input."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class BypassIdentity(Pass[Dfg]):
    """Remove each Identity but those that make a graph output, which need a tensor of their own."""

    name: ClassVar[str] = "bypass-identity"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        renamed: dict[str, str] = {}
        nodes = []
        for node in graph.nodes:
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            if node.op == "Identity" and node.outputs[0] not in graph.outputs:
                renamed[node.outputs[0]] = inputs[0]
            else:
                nodes.append(replace(node, inputs=inputs))
        if not renamed:
            return PassResult(graph, False)
        graph = graph.copy()
        graph.nodes = nodes
        for name in renamed:
            del graph.values[name]
        return PassResult(graph, True)
