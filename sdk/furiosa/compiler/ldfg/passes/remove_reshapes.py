"""Read through chains of reshapes, and drop those that nobody needs."""

from typing import ClassVar

from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuNode, NpuSection, Section
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode


class RemoveReshapes(Pass[Ldfg]):
    """A reshape of a reshape reads the first one's source; one that changes nothing is read through.

    Only reshapes on the NPU; those that make an output of the graph stay.
    """

    name: ClassVar[str] = "remove-reshapes"

    def run(self, graph: Ldfg, options: CompilerOptions) -> PassResult[Ldfg]:
        sections = _read_through(graph)
        needed = {
            *graph.outputs,
            *(name for s in sections for node in s.nodes for name in node.reads),
        }
        kept: list[Section] = []
        for section in sections:
            if isinstance(section, NpuSection):
                section = NpuSection(
                    tuple(n for n in section.nodes if n.output in needed or not _is_reshape(n))
                )
            if section.nodes:
                kept.append(section)
        count = sum(len(section.nodes) for section in kept)
        if count == len(list(graph.nodes)):
            return PassResult(graph, False)
        written = {name for section in kept for node in section.nodes for name in node.writes}
        values = {
            name: value
            for name, value in graph.values.items()
            if name in written or name in graph.inputs or value.data is not None
        }
        return PassResult(Ldfg(graph.model, graph.inputs, graph.outputs, tuple(kept), values), True)


def _is_reshape(node: NpuNode | HostNode) -> bool:
    return isinstance(node, NpuNode) and node.opcode is Opcode.RESHAPE


def _read_through(graph: Ldfg) -> list[Section]:
    """Each reshape reads the first source of its chain; a reshape to the source's shape is not read."""
    origin: dict[str, str] = {}  # of each reshape's result: the value its chain starts from
    same: dict[str, str] = {}  # results that are their origin: read that instead
    sections: list[Section] = []
    for section in graph.sections:
        if isinstance(section, HostSection):
            sections.append(HostSection(tuple(node.renamed(same) for node in section.nodes)))
            continue
        nodes = []
        for old in section.nodes:
            node = old.renamed(origin if _is_reshape(old) else same)
            if _is_reshape(node):
                source = node.inputs[0]
                origin[node.output] = source
                if graph.values[source].shape == graph.values[node.output].shape:
                    same[node.output] = source
            nodes.append(node)
        sections.append(NpuSection(tuple(nodes)))
    return sections
