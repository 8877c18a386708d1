"""Rules of a lir that an ENF program does not state: what holds before encoding.

Everything else about buffers, instructions and sections is checked by `furiosa.enf.verify` when the
program is written.
"""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.infra import Rule
from furiosa.compiler.lir.ir import Lir
from furiosa.enf.isa import NONE
from furiosa.enf.program import HostSection


def indices_exist(graph: Lir) -> Iterator[str]:
    for number, i in enumerate(graph.instructions):
        for field, table in (
            ("out", graph.buffers),
            ("source0", graph.buffers),
            ("source1", graph.buffers),
            ("weights", graph.constants),
            ("bias", graph.constants),
            ("multiplier", graph.constants),
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
        used.update((i.weights, i.bias, i.multiplier))
    seen: dict[tuple[object, ...], int] = {}
    for index, data in enumerate(graph.constants):
        if index not in used:
            yield f"constant {index} is not used"
        other = seen.setdefault((data.dtype, data.shape, data.tobytes()), index)
        if other != index:
            yield f"constants {other} and {index} are the same"


RULES: Final[tuple[Rule, ...]] = (
    indices_exist,
    every_instruction_has_a_source,
    constants_are_distinct_and_used,
)
