"""Graphs that reports are made of: sections on both sides, spills, names that no one would choose."""

from collections.abc import Callable
from dataclasses import replace

from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuNode, NpuSection, Section
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.limits import Limits
from support.npu_graphs import Plan

HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\">]]>--><!--&amp;\\N\\\"'{0}%s`${1}\u2028"
)


def mixed() -> Ldfg:
    """NPU, host, NPU, host, NPU; with a branch, and a reshape in place."""
    plan = Plan()
    stem = plan.conv(plan.input(1, 8, 16, 16), 16, 3, 2)
    body = plan.conv(plan.host(stem), 16, 3)
    head = plan.conv(plan.host(plan.add(stem, body)), 8)
    return plan.done(plan.table(plan.reshape(head, 1, 512)))


def allocated(graph: Ldfg, target: str = "warboy-2pe", **limits: int) -> Gir:
    options = CompilerOptions(target=target)
    before = CdfgToGir().run(LdfgToCdfg().run(graph, options), options)
    return Allocate(Limits(**limits)).run(before, options).graph


def renamed(graph: Ldfg, name: Callable[[str], str]) -> Ldfg:
    """With other names for the model, its values, its nodes and what they come from."""

    def npu(node: NpuNode) -> NpuNode:
        return replace(
            node,
            name=name(node.name),
            inputs=tuple(map(name, node.inputs)),
            output=name(node.output),
            sources=tuple(map(name, node.sources)),
        )

    def host(node: HostNode) -> HostNode:
        return replace(
            node,
            name=name(node.name),
            inputs=tuple(map(name, node.inputs)),
            outputs=tuple(map(name, node.outputs)),
            sources=tuple(map(name, node.sources)),
        )

    def section(found: Section) -> Section:
        if isinstance(found, NpuSection):
            return NpuSection(tuple(map(npu, found.nodes)))
        return HostSection(tuple(map(host, found.nodes)))

    return Ldfg(
        replace(graph.model, name=name(graph.model.name)),
        tuple(map(name, graph.inputs)),
        tuple(map(name, graph.outputs)),
        tuple(map(section, graph.sections)),
        {name(key): replace(value, name=name(key)) for key, value in graph.values.items()},
    )
