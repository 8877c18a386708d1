"""One Quantize in the place of several that say the same."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class MergeQuantize(Pass[Dfg]):
    """Some quantisers give each reader of a value a Quantize and a Dequantize of its own.

    A Quantize of the same value in the same way as an earlier one becomes an Identity of the earlier one's
    result, so that what makes the value is read by one Quantize and can be absorbed with it.
    """

    name: ClassVar[str] = "merge-quantize"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        made: dict[object, str] = {}  # the first result of each kind
        merged = False
        for index, node in enumerate(graph.nodes):
            if node.op != "Quantize":
                continue
            result = graph.values[node.outputs[0]]
            first = made.setdefault(
                (node.inputs, result.dtype, result.quantization), node.outputs[0]
            )
            if first != node.outputs[0]:
                graph.nodes[index] = replace(node, op="Identity", inputs=(first,))
                merged = True
        return PassResult(graph if merged else before, merged)
