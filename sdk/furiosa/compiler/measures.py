"""Figures of a graph by which one sees what a step did to it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from furiosa.compiler.cdfg import ir as cdfg
from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.gir import ir as gir
from furiosa.compiler.ldfg import ir as ldfg
from furiosa.compiler.lir.ir import Lir

Figures = Mapping[str, int]


def measure(graph: Any) -> Figures:
    """What there is of each, by name; empty for what is no IR."""
    function = _FIGURES.get(type(graph))
    return {} if function is None else function(graph)


def changes(before: Figures, after: Figures) -> str:
    """`operators 9 -> 4, on the NPU 0 -> 3`: those that differ, in the order of `after`."""
    return ", ".join(
        f"{name} {before.get(name, 0)} -> {number}" if before else f"{name} {number}"
        for name, number in after.items()
        if before.get(name, 0) != number
    )


def spilled_bytes(graph: gir.Gir) -> int:
    """Of activations that lie in DRAM because SRAM had no room; what shares bytes counts once."""
    return sum(b.nbytes for b in graph.buffers if b.spilled and b.alias is None)


def _dfg(graph: Dfg) -> Figures:
    places = [node.place for node in graph.nodes]
    return {
        "operators": len(places),
        "on the NPU": places.count(Place.NPU),
        "on the host": places.count(Place.HOST),
        "constant bytes": sum(v.nbytes for v in graph.values.values() if v.data is not None),
    }


def _ldfg(graph: ldfg.Ldfg) -> Figures:
    npu = [section for section in graph.sections if isinstance(section, ldfg.NpuSection)]
    host = [section for section in graph.sections if isinstance(section, ldfg.HostSection)]
    return {
        "sections": len(graph.sections),
        "on the NPU": sum(len(section.nodes) for section in npu),
        "on the host": sum(len(section.nodes) for section in host),
    }


def _cdfg(graph: cdfg.Cdfg) -> Figures:
    operations = [o for t in graph.tasks if isinstance(t, cdfg.NpuTask) for o in t.operations]
    return {
        "tasks": len(graph.tasks),
        "operations": len(operations),
        "on several PEs": sum(o.pes.bit_count() > 1 for o in operations),
    }


def _gir(graph: gir.Gir) -> Figures:
    return {
        "steps": graph.steps,
        "buffers": len(graph.buffers),
        "spilled bytes": spilled_bytes(graph),
        "SRAM in use": graph.sram_bytes,
        "DRAM in use": graph.dram_bytes,
    }


def _lir(graph: Lir) -> Figures:
    return {
        "instructions": len(graph.instructions),
        "constants": len(graph.constants),
        "constant bytes": sum(data.nbytes for data in graph.constants),
    }


_FIGURES: Final[Mapping[type[Any], Callable[[Any], Figures]]] = {
    Dfg: _dfg,
    ldfg.Ldfg: _ldfg,
    cdfg.Cdfg: _cdfg,
    gir.Gir: _gir,
    Lir: _lir,
}
