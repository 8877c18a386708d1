"""Fold BatchNormalization into the convolution before it."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Array, constant


class FoldBatchNorm(Pass[Dfg]):
    """Scale weights and bias of each Conv by the BatchNormalization that alone reads it.

    Parameters and weights must be float32 constants; computed in float64, rounded once.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers, readers = graph.producers(), graph.readers()
        replaced: dict[str, Node | None] = {}
        for norm in graph.nodes:
            if norm.op != "BatchNormalization" or len(norm.outputs) != 1:
                continue
            conv = producers.get(norm.inputs[0])
            if conv is None or conv.op != "Conv" or norm.inputs[0] in graph.outputs:
                continue
            if len(readers[norm.inputs[0]]) == 1 and (folded := self._fold(graph, conv, norm)):
                replaced[conv.name], replaced[norm.name] = None, folded
        if not replaced:
            return PassResult(before, False)
        nodes = (replaced.get(node.name, node) for node in graph.nodes)
        graph.nodes = [node for node in nodes if node is not None]
        return PassResult(graph, True)

    def _fold(self, graph: Dfg, conv: Node, norm: Node) -> Node | None:
        weights = graph.data(conv.inputs[1])
        bias: Array | None = np.zeros(1)
        if len(conv.inputs) > 2 and conv.inputs[2]:
            bias = graph.data(conv.inputs[2])
        scale, shift, mean, variance = (graph.data(name) for name in norm.inputs[1:5])
        epsilon = norm.attributes.get("epsilon", 1e-5)
        if norm.attributes.get("training_mode") or not isinstance(epsilon, float):
            return None
        if weights is None or bias is None or weights.dtype != np.float32:
            return None
        if scale is None or shift is None or mean is None or variance is None:
            return None
        sizes = {len(weights), scale.size, shift.size, mean.size, variance.size}
        if len(sizes) > 1 or bias.size not in (1, len(weights)):
            return None
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        new_weights = weights.astype(np.float64) * factor.reshape((-1,) + (1,) * (weights.ndim - 1))
        new_bias = (bias.astype(np.float64) - mean) * factor + shift
        names = [graph.fresh(f"{norm.name}/{part}") for part in ("weights", "bias")]
        graph.add(constant(names[0], new_weights.astype(np.float32)))
        graph.add(constant(names[1], new_bias.astype(np.float32)))
        return replace(
            conv,
            inputs=(conv.inputs[0], *names),
            outputs=norm.outputs,
            sources=(*conv.sources, *norm.sources),
        )
