"""Make one section of neighbours of one place."""

from dataclasses import replace
from itertools import groupby
from typing import ClassVar

from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuNode, NpuSection, Section
from furiosa.compiler.options import CompilerOptions


class MergeSections(Pass[Ldfg]):
    """Join sections that became neighbours when what was between them went away."""

    name: ClassVar[str] = "merge-sections"

    def run(self, graph: Ldfg, options: CompilerOptions) -> PassResult[Ldfg]:
        merged: list[Section] = []
        for kind, run in groupby(graph.sections, key=type):
            nodes = [node for section in run for node in section.nodes]
            if kind is NpuSection:
                merged.append(NpuSection(tuple(n for n in nodes if isinstance(n, NpuNode))))
            else:
                merged.append(HostSection(tuple(n for n in nodes if isinstance(n, HostNode))))
        if len(merged) == len(graph.sections):
            return PassResult(graph, False)
        return PassResult(replace(graph, sections=tuple(merged)), True)
