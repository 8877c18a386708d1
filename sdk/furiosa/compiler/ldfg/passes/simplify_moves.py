"""Take out movements of elements that another movement makes needless."""

from dataclasses import replace
from typing import ClassVar, Final

import numpy as np

from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.ldfg.ir import Ldfg, NpuNode, NpuSection, Section
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode

_KEEPING: Final = (
    Opcode.EXPAND,
    Opcode.PAD,
    Opcode.SLICE,
)  # with the shape, they keep every element


class SimplifyMoves(Pass[Ldfg]):
    """A transpose of a transpose is one of the first one's source. What keeps the order of elements, because
    it changes no shape or moves only axes of one element, is a reshape.

    Operations whose results nobody reads, or reads any more, go.
    """

    name: ClassVar[str] = "simplify-moves"

    def run(self, graph: Ldfg, options: CompilerOptions) -> PassResult[Ldfg]:
        transposes: dict[str, NpuNode] = {}
        simplified: list[Section] = []
        for section in graph.sections:
            if isinstance(section, NpuSection):
                nodes = []
                for node in section.nodes:
                    nodes.append(_simplified(graph, transposes, node))
                    if nodes[-1].opcode is Opcode.TRANSPOSE:
                        transposes[node.output] = nodes[-1]
                section = NpuSection(tuple(nodes))
            simplified.append(section)
        needed = set(graph.outputs)
        kept: list[Section] = []
        for section in reversed(simplified):
            if isinstance(section, NpuSection):
                section = _needed(section, needed)
            needed.update(name for node in section.nodes for name in node.reads)
            kept.append(section)
        kept.reverse()
        new = [node for section in kept for node in section.nodes]
        if new == list(graph.nodes):
            return PassResult(graph, False)
        gone = {name for node in graph.nodes for name in node.writes}.difference(
            name for node in new for name in node.writes
        )
        values = {name: value for name, value in graph.values.items() if name not in gone}
        return PassResult(
            replace(graph, sections=tuple(s for s in kept if s.nodes), values=values), True
        )


def _needed(section: NpuSection, needed: set[str]) -> NpuSection:
    """Without the nodes whose results nobody reads; adds to `needed` what the others read."""
    nodes: list[NpuNode] = []
    for node in reversed(section.nodes):
        if node.output in needed:
            needed.update(node.reads)
            nodes.append(node)
    return NpuSection(tuple(reversed(nodes)))


def _simplified(graph: Ldfg, transposes: dict[str, NpuNode], node: NpuNode) -> NpuNode:
    if node.opcode is Opcode.TRANSPOSE:
        assert node.parameters is not None
        axes, source = node.parameters, node.inputs[0]
        if inner := transposes.get(source):
            assert inner.parameters is not None
            axes, source = inner.parameters[axes], inner.inputs[0]
            node = replace(node, inputs=(source,), parameters=axes)
        shape = graph.values[source].shape
        wide = [axis for axis in axes.tolist() if shape[axis] > 1]
        return _reshape(node) if wide == sorted(wide) else node
    if node.opcode in _KEEPING:
        before, after = (graph.values[name].shape for name in (node.inputs[0], node.output))
        return _reshape(node) if before == after else node
    if node.opcode is Opcode.GATHER:
        assert node.parameters is not None
        size = graph.values[node.inputs[0]].shape[node.axis]
        return _reshape(node) if np.array_equal(node.parameters, np.arange(size)) else node
    return node


def _reshape(node: NpuNode) -> NpuNode:
    return NpuNode(node.name, Opcode.RESHAPE, node.inputs, node.output, node.sources)
