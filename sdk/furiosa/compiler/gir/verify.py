"""Rules of a gir. Each yields one message for each violation, naming the buffer and what was found."""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.gir.ir import Gir, NpuTask
from furiosa.compiler.infra import Rule
from furiosa.enf.limits import ALIGNMENT
from furiosa.enf.program import Space


def buffers_exist(graph: Gir) -> Iterator[str]:
    named = [*graph.inputs, *graph.outputs]
    for _, read, written in uses(graph):
        named += [*read, *written]
    for index in named:
        if not 0 <= index < len(graph.buffers):
            yield f"buffer b{index} is named, there are {len(graph.buffers)}"


def uses(graph: Gir) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Of each step: its number, the buffers it reads, the buffers it writes."""
    step = 0
    for task in graph.tasks:
        if isinstance(task, NpuTask):
            for operation in task.operations:
                yield step, operation.sources, (operation.out,)
                step += 1
        else:
            yield step, task.inputs, task.outputs
            step += 1


def buffers_live_while_they_are_used(graph: Gir) -> Iterator[str]:
    for step, read, written in uses(graph):
        for index in (*read, *written):
            buffer = graph.buffers[index]
            if not buffer.first <= step <= buffer.last:
                yield (
                    f"step {step} uses {buffer.name!r}, which lives {buffer.first}..{buffer.last}"
                )


def callers_buffers_live_throughout(graph: Gir) -> Iterator[str]:
    for index in (*graph.inputs, *graph.outputs):
        buffer = graph.buffers[index]
        if (buffer.first, buffer.last) != (0, graph.steps):
            yield f"{buffer.name!r} is the caller's and lives {buffer.first}..{buffer.last}"


def shared_buffers_are_in_dram(graph: Gir) -> Iterator[str]:
    shared = [*graph.inputs, *graph.outputs]
    for task in graph.tasks:
        if not isinstance(task, NpuTask):
            shared += [*task.inputs, *task.outputs]
    for index in shared:
        if graph.buffers[index].space is not Space.DRAM:
            yield f"{graph.buffers[index].name!r} is shared and lies in SRAM"


def offsets_are_aligned_and_within(graph: Gir) -> Iterator[str]:
    sizes = {Space.SRAM: graph.sram_bytes, Space.DRAM: graph.dram_bytes}
    for buffer in graph.buffers:
        if buffer.offset is None:
            continue
        if buffer.offset < 0 or buffer.offset % ALIGNMENT:
            yield f"{buffer.name!r} starts at {buffer.offset}, no multiple of {ALIGNMENT}"
        if buffer.offset + buffer.nbytes > sizes[buffer.space]:
            yield (
                f"{buffer.name!r} ends at {buffer.offset + buffer.nbytes}, "
                f"{buffer.space.value} has {sizes[buffer.space]}"
            )


def aliases_share_place_and_size(graph: Gir) -> Iterator[str]:
    for buffer in graph.buffers:
        if buffer.alias is None:
            continue
        other = graph.buffers[buffer.alias]
        if (buffer.space, buffer.offset, buffer.nbytes) != (
            other.space,
            other.offset,
            other.nbytes,
        ):
            yield f"{buffer.name!r} is not in the place of {other.name!r}"


def live_buffers_do_not_overlap(graph: Gir) -> Iterator[str]:
    placed = sorted(
        (
            (buffer.space.value, buffer.offset, buffer)
            for buffer in graph.buffers
            if buffer.offset is not None and buffer.alias is None
        ),
        key=lambda item: item[:2],
    )
    for index, (space, start, left) in enumerate(placed):
        for other, begin, right in placed[index + 1 :]:
            if other != space or begin >= start + left.nbytes:
                break
            if left.first <= right.last and right.first <= left.last:
                yield f"{left.name!r} and {right.name!r} overlap at {space}+{begin}"


RULES: Final[tuple[Rule, ...]] = (
    buffers_exist,
    buffers_live_while_they_are_used,
    callers_buffers_live_throughout,
    shared_buffers_are_in_dram,
    offsets_are_aligned_and_within,
    aliases_share_place_and_size,
    live_buffers_do_not_overlap,
)
