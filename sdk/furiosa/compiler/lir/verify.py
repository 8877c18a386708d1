"""Rules of a lir that an ENF program does not state: what holds before encoding.

Everything else about buffers, instructions and sections is checked by `furiosa.enf.verify` when the
program is written.
"""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.cdfg.verify import wrong_split
from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg.ir import CONSTANTS
from furiosa.compiler.lir.constants import Constants
from furiosa.compiler.lir.ir import Lir
from furiosa.enf.isa import NONE
from furiosa.enf.program import HostSection


def indices_exist(graph: Lir) -> Iterator[str]:
    for number, i in enumerate(graph.instructions):
        for field, table in (
            ("out", graph.buffers),
            ("source0", graph.buffers),
            ("source1", graph.buffers),
            *((field, graph.constants) for field in CONSTANTS),
        ):
            index = getattr(i, field)
            if index != NONE and index >= len(table):
                yield f"instruction {number} ({i.opcode.name}) has {field} {index} of {len(table)}"


def every_instruction_has_a_source(graph: Lir) -> Iterator[str]:
    if len(graph.provenance) != len(graph.instructions):
        yield f"{len(graph.provenance)} sources for {len(graph.instructions)} instructions"
    for number, origin in enumerate(graph.provenance):
        if not origin:
            yield f"instruction {number} comes from nowhere"


def constants_are_distinct_and_used(graph: Lir) -> Iterator[str]:
    used = {s.graph for s in graph.sections if isinstance(s, HostSection)}
    for i in graph.instructions:
        used.update(getattr(i, field) for field in CONSTANTS)
    distinct, first = Constants(), list[int]()
    for index, data in enumerate(graph.constants):
        if index not in used:
            yield f"constant {index} is not used"
        place = distinct.index(data)
        if place < len(first):
            yield f"constants {first[place]} and {index} are the same"
        else:
            first.append(index)


def every_instruction_has_a_split(graph: Lir) -> Iterator[str]:
    """Its PEs make disjoint parts that are the whole result."""
    if len(graph.splits) != len(graph.instructions):
        yield f"{len(graph.splits)} splits for {len(graph.instructions)} instructions"
    for number, (i, split) in enumerate(zip(graph.instructions, graph.splits, strict=False)):
        if found := wrong_split(i.pes, split, graph.buffers[i.out].shape):
            yield f"instruction {number} ({i.opcode.name}) {found}"


RULES: Final[tuple[Rule, ...]] = (
    indices_exist,
    every_instruction_has_a_source,
    every_instruction_has_a_split,
    constants_are_distinct_and_used,
)
