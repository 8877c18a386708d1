"""What the memory report shows, as figures of an allocated gir. Bytes, cycles, steps; no words.

Keys are what the page's scripts read. Buffers and steps are those of the gir, with its numbers.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from furiosa.compiler.cost import CLOCK_HZ
from furiosa.compiler.gir.ir import Gir, HostTask, Operation, schedule, uses
from furiosa.compiler.gir.timeline import Timing, timeline
from furiosa.compiler.measures import spilled_bytes
from furiosa.enf.program import TARGETS, Space

Figures = Mapping[str, Any]  # of the types JSON has


def figures(graph: Gir) -> Figures:
    """Of an allocated graph."""
    found = timeline(graph)
    users = _users(graph)
    return {
        "model": graph.model.name,
        "target": graph.target,
        "batch": graph.model.batch,
        "pes": TARGETS[graph.target],
        "clock": CLOCK_HZ,
        "cycles": found.cycles,
        "filling": found.filling,
        "spilled": spilled_bytes(graph),
        "constants": graph.constant_bytes,
        "memories": [
            _memory(graph, Space.SRAM, graph.sram_bytes, graph.sram_capacity),
            _memory(graph, Space.DRAM, graph.dram_bytes, graph.dram_capacity),
        ],
        "buffers": [
            {
                "name": buffer.name,
                "dtype": buffer.dtype.value,
                "shape": buffer.shape,
                "role": buffer.role.value,
                "space": buffer.space.value,
                "first": buffer.first,
                "last": min(buffer.last, graph.steps - 1),
                "offset": buffer.offset,
                "bytes": buffer.nbytes,
                "alias": buffer.alias,
                "spilled": buffer.spilled,
                "users": users[index],
            }
            for index, buffer in enumerate(graph.buffers)
        ],
        "steps": [
            _step(work, timing)
            for (_, work), timing in zip(schedule(graph), found.steps, strict=True)
        ],
    }


def _memory(graph: Gir, space: Space, peak: int, capacity: int) -> Figures:
    """`peak` is the highest address in use, `alive` the bytes of what is alive at each step."""
    changes = [0] * (graph.steps + 2)
    for buffer in graph.buffers:
        if buffer.space is space and buffer.alias is None:
            changes[buffer.first] += buffer.nbytes
            changes[buffer.last + 1] -= buffer.nbytes
    alive = list(accumulate(changes))[: graph.steps]
    return {"space": space.value, "peak": peak, "capacity": capacity, "alive": alive}


def _users(graph: Gir) -> list[list[int]]:
    """Of each buffer, the steps that read or write it or, staging, that it is for."""
    found: list[list[int]] = [[] for _ in graph.buffers]
    staging = {
        step: (*work.scratch, *(() if work.constants is None else (work.constants,)))
        for step, work in schedule(graph)
        if isinstance(work, Operation)
    }
    for step, read, written in uses(graph):
        for index in dict.fromkeys((*read, *written, *staging.get(step, ()))):
            found[index].append(step)
    return found


def _origin(sources: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(sources))


def _step(work: Operation | HostTask, timing: Timing) -> Figures:
    """`operators` are pairs of an operator and the names of the model's nodes it stands for."""
    if isinstance(work, Operation):
        place, tiles, slices = "NPU", work.tiles, work.slices
        operators = [(work.node.opcode.name.lower(), _origin(work.node.sources))]
    else:
        place, tiles, slices = "CPU", 1, 1
        operators = [(node.op, _origin(node.sources)) for node in work.nodes]
    return {
        "operators": operators,
        "place": place,
        "start": timing.start,
        "cycles": timing.cycles,
        "pes": timing.pes,
        "exchange": timing.exchange,
        "transfer": timing.transfer,
        "bytes": timing.streamed + timing.prefetched,
        "tiles": tiles,
        "slices": slices,
    }
