"""Rules of a gir. Each yields one message for each violation, naming the buffer and what was found."""

from bisect import bisect, bisect_left
from collections.abc import Iterator
from typing import Final

from furiosa.compiler.cdfg.verify import wrong_split
from furiosa.compiler.gir.ir import (
    STAGING,
    Gir,
    HostTask,
    Operation,
    Role,
    operations,
    schedule,
    uses,
)
from furiosa.compiler.gir.staging import constants_held, in_dram, passes_through_sram, streams
from furiosa.compiler.infra import Rule
from furiosa.enf.limits import ALIGNMENT
from furiosa.enf.program import Space


def buffers_exist(graph: Gir) -> Iterator[str]:
    named = [*graph.inputs, *graph.outputs]
    for _, read, written in uses(graph):
        named += [*read, *written]
    for _, operation in operations(graph):
        named += _staged(operation)
    for index in named:
        if not 0 <= index < len(graph.buffers):
            yield f"buffer b{index} is named, there are {len(graph.buffers)}"


def _staged(operation: Operation) -> tuple[int, ...]:
    constants = () if operation.constants is None else (operation.constants,)
    return (*constants, *operation.scratch)


def buffers_live_while_they_are_used(graph: Gir) -> Iterator[str]:
    for step, read, written in uses(graph):
        for index in (*read, *written):
            buffer = graph.buffers[index]
            if not buffer.first <= step <= buffer.last:
                yield (
                    f"step {step} uses {buffer.name!r}, which lives {buffer.first}..{buffer.last}"
                )


def staging_lives_from_when_it_is_filled(graph: Gir) -> Iterator[str]:
    """Constants that come whole come one step ahead."""
    for step, operation in operations(graph):
        for index in _staged(operation):
            buffer = graph.buffers[index]
            ahead = index == operation.constants and operation.slices == 1
            first = max(step - 1, 0) if ahead else step
            if not (buffer.first <= first and step <= buffer.last):
                yield (
                    f"{buffer.name!r} is filled at step {first} for step {step}, "
                    f"it lives {buffer.first}..{buffer.last}"
                )


def callers_buffers_live_throughout(graph: Gir) -> Iterator[str]:
    for index in (*graph.inputs, *graph.outputs):
        buffer = graph.buffers[index]
        if (buffer.first, buffer.last) != (0, graph.steps):
            yield f"{buffer.name!r} is the caller's and lives {buffer.first}..{buffer.last}"


def roles_are_what_buffers_are_used_for(graph: Gir) -> Iterator[str]:
    roles = dict.fromkeys(range(len(graph.buffers)), Role.ACTIVATION)
    for _, work in schedule(graph):
        if isinstance(work, HostTask):
            roles |= dict.fromkeys((*work.inputs, *work.outputs), Role.HOST)
            continue
        roles |= dict.fromkeys(work.scratch, Role.SCRATCH)
        if work.constants is not None:
            roles[work.constants] = Role.WEIGHTS
    roles |= dict.fromkeys(graph.inputs, Role.INPUT)
    roles |= dict.fromkeys(graph.outputs, Role.OUTPUT)
    for index, buffer in enumerate(graph.buffers):
        if buffer.role is not roles[index]:
            yield f"{buffer.name!r} is {roles[index].value}, declared {buffer.role.value}"


def staging_comes_last(graph: Gir) -> Iterator[str]:
    last = max((n for n, b in enumerate(graph.buffers) if b.role not in STAGING), default=-1)
    for index, buffer in enumerate(graph.buffers[:last]):
        if buffer.role in STAGING:
            yield f"{buffer.name!r} is b{index}, before a buffer of the program"


def roles_lie_in_their_space(graph: Gir) -> Iterator[str]:
    for buffer in graph.buffers:
        if buffer.spilled and buffer.role is not Role.ACTIVATION:
            yield f"{buffer.name!r} is {buffer.role.value} and spilled"
        in_sram = buffer.role in (Role.ACTIVATION, *STAGING) and not buffer.spilled
        if (buffer.space is Space.SRAM) != in_sram:
            yield f"{buffer.name!r} is {buffer.role.value} and lies in {buffer.space.value}"


def splits_are_among_the_pes(graph: Gir) -> Iterator[str]:
    for _, operation in operations(graph):
        shape = graph.buffers[operation.out].shape
        if found := wrong_split(operation.pes, operation.split, shape):
            yield f"{operation.node.name} {found}"


def exchanges_are_not_negative(graph: Gir) -> Iterator[str]:
    for _, operation in operations(graph):
        if operation.exchanged < 0:
            yield f"{operation.node.name} exchanges {operation.exchanged} bytes"


def tiles_and_slices_are_there(graph: Gir) -> Iterator[str]:
    """No more tiles than indices, no more slices than channels."""
    for _, operation in operations(graph):
        shape = graph.buffers[operation.out].shape
        size = shape[operation.axis] if 0 <= operation.axis < len(shape) else 1
        if not 1 <= operation.tiles <= size:
            yield f"{operation.node.name} has {operation.tiles} tiles of {size} on axis {operation.axis}"
        weights = operation.node.weights
        most = 1 if weights is None else weights.shape[0]
        if not 1 <= operation.slices <= most:
            yield f"{operation.node.name} has {operation.slices} slices of {most} channels"


def staging_holds_what_passes(graph: Gir) -> Iterator[str]:
    if not graph.is_allocated:
        return
    for _, operation in operations(graph):
        name = operation.node.name
        passes = passes_through_sram(operation, graph.buffers)
        needed = constants_held(operation, operation.slices) if passes else 0
        held = 0 if operation.constants is None else graph.buffers[operation.constants].nbytes
        if held != needed:
            yield f"{name} has {held} bytes for its constants, needs {needed}"
        streamed = in_dram(operation, graph.buffers) if passes else []
        if len(operation.scratch) != len(streamed):
            yield f"{name} has {len(operation.scratch)} scratch buffers for {len(streamed)} operands"
        elif streamed:
            found = streams(operation, graph.buffers, streamed, operation.axis, operation.tiles)
            for index, stream in zip(operation.scratch, found, strict=True):
                if graph.buffers[index].nbytes != stream.held:
                    yield (
                        f"{graph.buffers[index].name!r} has {graph.buffers[index].nbytes} bytes, "
                        f"{operation.tiles} tiles need {stream.held}"
                    )


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


def memories_hold_their_peak(graph: Gir) -> Iterator[str]:
    if graph.sram_bytes > graph.sram_capacity:
        yield f"{graph.sram_bytes} bytes of SRAM are in use, there are {graph.sram_capacity}"
    if graph.dram_bytes + graph.constant_bytes > graph.dram_capacity:
        yield (
            f"{graph.dram_bytes + graph.constant_bytes} bytes of DRAM are in use, "
            f"there are {graph.dram_capacity}"
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
    """Sweeps over time with the live ranges of each space in order: a new one meets its neighbours."""
    placed = [
        (n, b) for n, b in enumerate(graph.buffers) if b.offset is not None and b.alias is None
    ]
    events = sorted(
        [(b.first, 1, n) for n, b in placed] + [(b.last + 1, 0, n) for n, b in placed]
    )  # what ends goes before what begins
    live: dict[Space, list[tuple[int, int, int]]] = {space: [] for space in Space}
    for _, begins, index in events:
        buffer = graph.buffers[index]
        start = buffer.offset or 0
        entry = (start, start + buffer.nbytes, index)
        ranges = live[buffer.space]
        if not begins:
            del ranges[bisect_left(ranges, entry)]
            continue
        at = bisect(ranges, entry)
        for begin, end, other in ranges[max(at - 1, 0) : at + 1]:
            if begin < entry[1] and start < end:
                yield (
                    f"{graph.buffers[other].name!r} and {buffer.name!r} overlap at "
                    f"{buffer.space.value}+{max(begin, start)}"
                )
                return  # the ranges are no longer disjoint
        ranges.insert(at, entry)


RULES: Final[tuple[Rule, ...]] = (
    buffers_exist,
    buffers_live_while_they_are_used,
    staging_lives_from_when_it_is_filled,
    callers_buffers_live_throughout,
    roles_are_what_buffers_are_used_for,
    staging_comes_last,
    roles_lie_in_their_space,
    splits_are_among_the_pes,
    exchanges_are_not_negative,
    tiles_and_slices_are_there,
    staging_holds_what_passes,
    offsets_are_aligned_and_within,
    memories_hold_their_peak,
    aliases_share_place_and_size,
    live_buffers_do_not_overlap,
)
