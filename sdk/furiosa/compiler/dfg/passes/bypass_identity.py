"""Let readers of an Identity read its input."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class BypassIdentity(Pass[Dfg]):
    """Remove each Identity; one that makes a graph output by letting its input's producer make that output.

    An output that is also a graph input, a constant or another output keeps its Identity: it needs a tensor
    of its own.
    """

    name: ClassVar[str] = "bypass-identity"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        renamed = _renamed(graph)
        nodes = []
        for node in graph.nodes:
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            outputs = tuple(renamed.get(name, name) for name in node.outputs)
            if node.op != "Identity" or inputs != outputs:
                nodes.append(replace(node, inputs=inputs, outputs=outputs))
        if len(nodes) == len(graph.nodes):
            return PassResult(before, False)
        graph.nodes = nodes
        for name in renamed:
            del graph.values[name]
        return PassResult(graph, True)


def _renamed(graph: Dfg) -> dict[str, str]:
    """What becomes of names: the name at the beginning of a chain of Identities, or of the output at its end.

    The value that stays has the quantisation that either has; where both have another, both stay.
    """
    renamed: dict[str, str] = {}
    made = graph.producers()
    for node in graph.nodes:
        if node.op != "Identity":
            continue
        source, result = renamed.get(node.inputs[0], node.inputs[0]), node.outputs[0]
        known = [graph.values[name].quantization for name in (source, result)]
        quantization = known[0] or known[1]
        if None not in known and known[0] != known[1]:
            continue
        if result not in graph.outputs:
            renamed[result] = kept = source
        elif source in made and source not in graph.outputs:
            renamed.update({name: result for name, to in renamed.items() if to == source})
            renamed[source] = kept = result
        else:
            continue
        graph.add(replace(graph.values[kept], quantization=quantization))
    return renamed
