"""Fold a Requantize into the operator before it."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from furiosa.common.tensor import Quantization
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import is_stored, uncovered
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions


class FuseRequantize(Pass[Dfg]):
    """With `allow_precision_error`: operators that clamp write what the Requantize behind them writes.

    One rounding less: a result differs by 1 at most, because the scale between the two is not coarser
    than the last one. Only where nothing else reads what is between.
    """

    name: ClassVar[str] = "fuse-requantize"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        if not options.config.allow_precision_error:
            return PassResult(graph, False)
        producers, readers = graph.producers(), graph.readers()
        fused: dict[str, Node | None] = {}  # by name of the node it replaces
        for node in graph.nodes:
            source = producers.get(node.inputs[0]) if node.op == "Requantize" else None
            if source is None or node.inputs[0] in graph.outputs:
                continue
            first = fused.get(source.name, source)
            if first is None or len(readers[node.inputs[0]]) > 1:
                continue
            if (new := _fuse(graph, first, node)) is not None:
                fused[source.name], fused[node.name] = None, new
        if not fused:
            return PassResult(graph, False)
        graph = graph.copy()
        nodes = (fused.get(node.name, node) for node in graph.nodes)
        graph.nodes = [node for node in nodes if node is not None]
        return PassResult(graph, True)


def _fuse(graph: Dfg, first: Node, last: Node) -> Node | None:
    between, result = (graph.values[name].whole for name in (last.inputs[0], last.outputs[0]))
    assert between is not None  # rules of dfg
    assert result is not None
    if not is_stored(first.op) or not {"low", "high"} <= first.attributes.keys():
        return None
    if between.scale > result.scale:
        return None
    least, most = (_int(last, key) for key in ("low", "high"))
    low, high = (
        min(max(_requantized(_int(first, key), between, result), least), most)
        for key in ("low", "high")
    )
    new = replace(
        first,
        outputs=last.outputs,
        attributes={**first.attributes, "low": low, "high": high},
        sources=tuple(dict.fromkeys((*first.sources, *last.sources))),
    )
    return None if uncovered(new, graph) else new


def _int(node: Node, key: str) -> int:
    held = node.attributes[key]
    assert isinstance(held, int)  # a rule of dfg
    return held


def _requantized(stored: int, source: Quantization, target: Quantization) -> int:
    """What a Requantize makes of the number, before it clamps. Source: docs/isa.md."""
    factor = np.float32(source.scale) / np.float32(target.scale)
    real = np.float32(stored - source.zero_point) * factor
    return int(np.rint(real)) + target.zero_point
