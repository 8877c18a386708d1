"""Rules on memory over time: what is written, read, and alive together.

Time is the order of execution: one step for each instruction and each host section. A buffer is
written once and lives from that step to its last reader; inputs live from before the first step,
outputs beyond the last.
"""

from bisect import bisect, bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from furiosa.enf.isa import NONE, Opcode
from furiosa.enf.limits import Limits
from furiosa.enf.program import NpuSection, Program, Space


@dataclass(frozen=True, slots=True)
class Step:
    """`alias`: the result may take the place of the source, because it is the same bytes."""

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    alias: bool = False


def steps(program: Program) -> Iterator[Step]:
    """The steps of a program, as indices of buffers."""
    for number, section in enumerate(program.sections):
        if not isinstance(section, NpuSection):
            yield Step(f"section {number} (host)", section.inputs, section.outputs)
            continue
        for index in range(section.first, section.first + section.count):
            i = program.instructions[index]
            reads = tuple(b for b in (i.source0, i.source1) if b != NONE)
            name = f"instruction {index} ({i.opcode.name})"
            yield Step(name, reads, (i.out,), i.opcode is Opcode.RESHAPE)


def buffers_are_written_once_before_reading(program: Program, limits: Limits) -> Iterator[str]:
    written = {port.buffer for port in program.inputs}
    for step in steps(program):
        for buffer in step.reads:
            if buffer not in written:
                yield f"{step.name} reads buffer {buffer} before anything wrote it"
        for buffer in step.writes:
            if buffer in written:
                yield f"{step.name} writes buffer {buffer} a second time"
            written.add(buffer)
    for index in range(len(program.buffers)):
        if index not in written:
            yield f"buffer {index} ({program.buffers[index].name!r}) is never written"


def live_buffers_are_disjoint(program: Program, limits: Limits) -> Iterator[str]:
    """Sweeps over time with the live address ranges of each space kept in order, so that a new range
    needs to be compared with its two neighbours only."""
    timeline = list(steps(program))
    born = dict.fromkeys((port.buffer for port in program.inputs), -1)
    last = dict(born)
    place: dict[int, int] = {}  # a reshape in place to the buffer whose bytes it shares
    for time, step in enumerate(timeline):
        for buffer in step.reads:
            last[place.get(buffer, buffer)] = time
        for buffer in step.writes:
            if step.alias and _same_place(program, step.reads[0], buffer):
                place[buffer] = place.get(step.reads[0], step.reads[0])
            else:
                born[buffer] = last[buffer] = time
    for port in program.outputs:
        last[place.get(port.buffer, port.buffer)] = len(timeline)
    births: dict[int, list[int]] = {}
    deaths: dict[int, list[int]] = {}
    for buffer, time in born.items():
        births.setdefault(time, []).append(buffer)
        deaths.setdefault(last[buffer], []).append(buffer)
    live: dict[Space, list[tuple[int, int, int]]] = {space: [] for space in Space}
    for time in range(-1, len(timeline)):
        for buffer in births.get(time, ()):
            b = program.buffers[buffer]
            ranges, entry = live[b.space], (b.offset, b.offset + b.nbytes, buffer)
            at = bisect(ranges, entry)
            for start, end, other in ranges[max(at - 1, 0) : at + 1]:
                if start < entry[1] and entry[0] < end:
                    yield (
                        f"buffers {other} ({start}..{end}) and {buffer} ({entry[0]}..{entry[1]}) of "
                        f"{b.space.value} overlap while both are alive"
                    )
                    return
            ranges.insert(at, entry)
        for buffer in deaths.get(time, ()):
            b = program.buffers[buffer]
            ranges = live[b.space]
            del ranges[bisect_left(ranges, (b.offset, b.offset + b.nbytes, buffer))]


def _same_place(program: Program, source: int, out: int) -> bool:
    a, b = program.buffers[source], program.buffers[out]
    return a.space is b.space and a.offset == b.offset
