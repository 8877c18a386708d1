"""Give every buffer an address, and operations what they need in SRAM."""

from dataclasses import replace
from typing import ClassVar, Final

from furiosa.common.tensor import DType
from furiosa.compiler.diagnostics import OutOfDram
from furiosa.compiler.gir.arrangement import Arrangement, Effort, Interval, arrange
from furiosa.compiler.gir.ir import Buffer, Gir, HostTask, NpuTask, Operation, Role, Task, place_of
from furiosa.compiler.gir.spilling import Spilling, prefetched_at
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.limits import DEFAULT_LIMITS, Limits
from furiosa.enf.program import Space

_NAMED: Final = 5  # tensors an error lists
_ATTEMPTS: Final = 32  # to avoid a spill, when no search was asked for


class Allocate(Pass[Gir]):
    """Adds staging buffers to the plan, spills what has no room in SRAM, arranges both memories.

    A plan whose live bytes fit may still not fit for the gaps between them: then more gives way.
    `limits` has the sizes of a card's memories. Raises: OutOfSram, OutOfDram.
    """

    name: ClassVar[str] = "allocate"

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits

    def run(self, graph: Gir, options: CompilerOptions) -> PassResult[Gir]:
        sram, dram = self._limits.sram_bytes, self._limits.dram_bytes
        graph = replace(graph, sram_capacity=sram, dram_capacity=dram)
        spilling = Spilling(graph)
        target, peak = sram, 0
        while True:
            spilling.fit(target, peak)
            staged = _staged(graph, spilling)
            found = _arranged(staged, Space.SRAM, _effort(options, sram))
            if found.peak <= sram:
                break
            peak = found.peak
            target -= peak - sram
        below = _arranged(staged, Space.DRAM, _effort(options, dram))
        _check_dram(staged, below.peak)
        return PassResult(_placed(staged, found, below), True)


def _effort(options: CompilerOptions, capacity: int) -> Effort:
    search = options.allocation
    if search is None:
        return Effort(_ATTEMPTS, capacity)
    return Effort(search.attempts, 0, search.seed, search.is_random_start)


def _staged(graph: Gir, spilling: Spilling) -> Gir:
    """With the plan's spaces and staging buffers."""
    buffers = list(spilling.buffers)
    tasks: list[Task] = []
    step = 0
    for task in graph.tasks:
        if isinstance(task, HostTask):
            tasks.append(task)
            step += 1
            continue
        operations = []
        for operation in task.operations:
            operations.append(_with_staging(operation, step, spilling, buffers))
            step += 1
        tasks.append(NpuTask(tuple(operations)))
    return replace(graph, buffers=tuple(buffers), tasks=tuple(tasks))


def _with_staging(
    operation: Operation, step: int, spilling: Spilling, buffers: list[Buffer]
) -> Operation:
    """Its buffers are added to `buffers`."""
    found = spilling.needs[step]
    constants, scratch = None, []
    if found.constants:
        name = f"{operation.node.name}/constants"
        first = prefetched_at(step, found)
        constants = len(buffers)
        buffers.append(_staging(name, Role.WEIGHTS, found.constants, first, step))
    for stream in found.streams:
        name = f"{operation.node.name}/tiles/{buffers[stream.buffer].name}"
        scratch.append(len(buffers))
        buffers.append(_staging(name, Role.SCRATCH, stream.held, step, step))
    return replace(
        operation,
        constants=constants,
        slices=found.slices,
        axis=found.axis,
        tiles=found.tiles,
        scratch=tuple(scratch),
    )


def _staging(name: str, role: Role, nbytes: int, first: int, last: int) -> Buffer:
    return Buffer(name, DType.UINT8, (nbytes,), None, role, Space.SRAM, first, last)


def _roots(graph: Gir, space: Space) -> list[int]:
    return [n for n, b in enumerate(graph.buffers) if b.alias is None and b.space is space]


def _arranged(graph: Gir, space: Space, effort: Effort) -> Arrangement:
    buffers = [graph.buffers[index] for index in _roots(graph, space)]
    return arrange([Interval(b.first, b.last, b.nbytes) for b in buffers], effort)


def _check_dram(graph: Gir, peak: int) -> None:
    needed = peak + graph.constant_bytes
    if needed > graph.dram_capacity:
        found = [graph.buffers[index] for index in _roots(graph, Space.DRAM)]
        named = [(buffer.name, buffer.nbytes) for buffer in found]
        named.append(("the constants", graph.constant_bytes))
        named.sort(key=lambda item: -item[1])
        raise OutOfDram(needed, graph.dram_capacity, tuple(named[:_NAMED]))


def _placed(graph: Gir, sram: Arrangement, dram: Arrangement) -> Gir:
    offsets = dict(zip(_roots(graph, Space.SRAM), sram.offsets, strict=True))
    offsets |= dict(zip(_roots(graph, Space.DRAM), dram.offsets, strict=True))
    buffers = tuple(
        replace(buffer, offset=offsets[place_of(graph.buffers, index)])
        for index, buffer in enumerate(graph.buffers)
    )
    return replace(graph, buffers=buffers, sram_bytes=sram.peak, dram_bytes=dram.peak)
